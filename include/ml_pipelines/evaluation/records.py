"""The document of an evaluation: what the step `evaluate` writes, and the gate and the reports read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ml_pipelines.contracts import Comparison, Contract, Interval, JsonValue
from ml_pipelines.spec.metrics import Task

__all__ = [
    "CandidateEvaluation",
    "ChampionEvaluation",
    "Confusion",
    "DummyEvaluation",
    "Evaluation",
    "GroupEvaluation",
    "MetricValues",
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
    """

    candidate: str
    sha256: str | None = None
    validation: MetricValues
    test: MetricValues
    slices: tuple[GroupEvaluation, ...] = ()
    curves: dict[str, JsonValue] = Field(default={})
    confusion: Confusion | None = None


class ChampionEvaluation(Contract):
    """The champion on the test rows.

    Attributes:
        identity: digest of its file, or its version without one.
        test: metrics; empty if it could not be evaluated.
        slices: metrics of groups of the test rows.
        error: why it could not be evaluated.
    """

    identity: str
    test: MetricValues = Field(default={})
    slices: tuple[GroupEvaluation, ...] = ()
    error: str | None = None


class DummyEvaluation(Contract):
    """The dummy baseline on the test rows."""

    test: MetricValues


class Evaluation(Contract):
    """An evaluation of all candidates, the champion and the dummy baseline.

    Attributes:
        task: classification or regression.
        metric: the primary metric.
        winner: name of the best candidate on the validation rows.
        candidates: in the order of the declaration.
        champion: None without a champion.
        dummy: of the dummy baseline.
        rows: number of rows of each part.
        intervals: of the winner's metrics on the test rows.
        champion_intervals: of the champion's.
        comparison: of winner and champion by the primary metric.
    """

    task: Task
    metric: str
    winner: str
    candidates: tuple[CandidateEvaluation, ...]
    champion: ChampionEvaluation | None = None
    dummy: DummyEvaluation
    rows: dict[str, int]
    intervals: dict[str, Interval]
    champion_intervals: dict[str, Interval]
    comparison: Comparison | None = None

    @property
    def winner_index(self) -> int:
        """The position of the winner among the candidates."""
        return [candidate.candidate for candidate in self.candidates].index(self.winner)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.model_dump(mode="json")
