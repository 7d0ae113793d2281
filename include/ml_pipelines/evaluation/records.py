"""The document of an evaluation: what the step `evaluate` writes, and the gate and the reports read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ml_pipelines.contracts import CandidateFailure, Comparison, Contract, Interval, JsonValue, ThresholdValue
from ml_pipelines.spec.metric_table import Task

__all__ = [
    "CandidateEvaluation",
    "CandidateScore",
    "ChampionEvaluation",
    "Confusion",
    "DummyEvaluation",
    "Evaluation",
    "GroupEvaluation",
    "MetricValues",
    "Selection",
]

Finite = Annotated[float, Field(allow_inf_nan=False)]
MetricValues = dict[str, Finite | None]
"""Values by name of the metric; None where the rows do not define it."""


class GroupEvaluation(Contract):
    """Metrics of one group of rows, those with the same `level` in `column`."""

    column: str
    level: JsonValue
    rows: int
    metrics: MetricValues


class Confusion(Contract):
    """A confusion matrix: true labels by row, predicted labels by column."""

    labels: tuple[JsonValue, ...]
    matrix: tuple[tuple[int, ...], ...]


class CandidateEvaluation(Contract):
    """A candidate on both parts of the data.

    Attributes:
        candidate: its name.
        sha256: digest of its file; None if unknown.
        validation: metrics that choose the winner.
        test: metrics that the gate reads.
        slices: metrics of groups of the test rows.
        curves: points of plots by name.
        confusion: of the test rows; None for a regression.
        constant: what is the same for all test rows: the `predictions`, or the predicted `labels`.
        threshold: its tuned decision threshold; None for the usual one.
    """

    candidate: str
    sha256: str | None = None
    validation: MetricValues
    test: MetricValues
    slices: tuple[GroupEvaluation, ...] = ()
    curves: dict[str, JsonValue] = Field(default={})
    confusion: Confusion | None = None
    constant: Literal["predictions", "labels"] | None = None
    threshold: ThresholdValue = None


class CandidateScore(Contract):
    """A candidate in the selection.

    Attributes:
        candidate: its name.
        score: the primary metric on the validation rows; None if it is undefined.
        standard_error: of the score.
        gap: how much worse the score is than the best one.
        gap_error: standard error of the gap.
    """

    candidate: str
    score: Finite | None = None
    standard_error: Finite | None = None
    gap: Finite | None = None
    gap_error: Finite | None = None

    @property
    def is_close(self) -> bool:
        """Whether the score is within one standard error of the best."""
        return self.gap is not None and self.gap <= (self.gap_error or 0.0)


class Selection(Contract):
    """The choice among the candidates.

    Attributes:
        winner: the simplest candidate within one standard error of the best.
        best: the candidate with the best score.
        scores: of all candidates that work, in the order of the declaration, the simplest first.
        reason: why the winner was chosen.
    """

    winner: str
    best: str
    scores: tuple[CandidateScore, ...]
    reason: str


class ChampionEvaluation(Contract):
    """The champion on the test rows.

    Attributes:
        identity: digest of its file, or its version without one.
        test: metrics; empty if it could not be evaluated.
        slices: metrics of groups of the test rows.
        error: why it could not be evaluated.
        rows: test rows that it has not learned from, on which it is evaluated; None if all or none are.
        unknown_rows: why they can't be recognised; None if they can.
        threshold: its tuned decision threshold; None for the usual one.
    """

    identity: str
    test: MetricValues = Field(default={})
    slices: tuple[GroupEvaluation, ...] = ()
    error: str | None = None
    rows: int | None = None
    unknown_rows: str | None = None
    threshold: ThresholdValue = None


class DummyEvaluation(Contract):
    """The dummy baseline of each metric on the test rows.

    Attributes:
        test: each metric of its own constant prediction.
        comparison: of the winner with it by the primary metric; None if the rows do not define the metric.
    """

    test: MetricValues
    comparison: Comparison | None = None


class Evaluation(Contract):
    """An evaluation of all candidates, the champion and the dummy baseline.

    Attributes:
        task: classification or regression.
        metric: the primary metric.
        winner: name of the selected candidate.
        selection: the choice on the validation rows.
        candidates: those that work, in the order of the declaration.
        failures: the others.
        champion: None without a champion.
        dummy: of the dummy baseline.
        rows: number of rows of each part.
        intervals: of the winner's metrics on the test rows.
        champion_intervals: of the champion's.
        comparison: of winner and champion by the primary metric.
        report_errors: errors of the metrics that decide nothing, by name.
    """

    task: Task
    metric: str
    winner: str
    selection: Selection
    candidates: tuple[CandidateEvaluation, ...]
    failures: tuple[CandidateFailure, ...] = ()
    champion: ChampionEvaluation | None = None
    dummy: DummyEvaluation
    rows: dict[str, int]
    intervals: dict[str, Interval]
    champion_intervals: dict[str, Interval]
    comparison: Comparison | None = None
    report_errors: dict[str, str] = Field(default={})

    @property
    def winner_index(self) -> int:
        """The position of the winner among the candidates."""
        return [candidate.candidate for candidate in self.candidates].index(self.winner)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.model_dump(mode="json")
