"""Facts: the small values that one step hands on to later steps and to readers of a run.

On the wire, facts are the JSON of :attr:`ml_pipelines.contracts.StepResult.values`. Each step has one class here. A
step whose `publish` phase reads earlier facts has a second class, `FactsFor...`, with one field per earlier step.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ml_pipelines.contracts import Contract, DataPin, Decision, Finding, JsonValue, Outcome, StepResult
from ml_pipelines.ports.ledger_entry import RowCounts, VersionRecord

__all__ = [
    "Approval",
    "CompareFacts",
    "DecideFacts",
    "DeployFacts",
    "EvaluateFacts",
    "EvaluatedChampion",
    "Facts",
    "FactsForComparison",
    "FactsForDeployment",
    "FactsForEvaluation",
    "FactsForRecord",
    "FactsForRegistration",
    "FactsForTraining",
    "IngestFacts",
    "NoFacts",
    "PreprocessFacts",
    "QualityFacts",
    "RecordFacts",
    "RegisterFacts",
    "SplitFacts",
    "TrainFacts",
]

# Dataclasses, since a pydantic model has a method `register` and so can't have a field of this name.
_STRICT = ConfigDict(extra="forbid")


class Facts(Contract):
    """Base class of the facts of one step."""

    @classmethod
    def of(cls, result: StepResult) -> Self:
        """Return the facts in the result of a step.

        Raises:
            pydantic.ValidationError: the result belongs to another step.
        """
        return cls.model_validate(result.values)

    def as_values(self) -> dict[str, JsonValue]:
        """Return the facts as JSON values of a step result."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class NoFacts:
    """The facts for a step that reads none."""


class IngestFacts(Facts):
    """Facts of the step `ingest`.

    Attributes:
        pin: version of the data.
        columns: number of columns of the table.
        empty_rows: number of records without any value, which are not part of the table.
    """

    pin: DataPin
    columns: int
    empty_rows: int


class CompareFacts(Facts):
    """Facts of the step `compare_with_champion`.

    Attributes:
        verdict: `no_change` ends the run, `go_on` continues it.
        fingerprint: digest by component, of everything that the decision of this run depends on.
        changed: components that differ from the champion's fingerprint; None if the champion has no fingerprint.
        champion_version: version that was compared with; None without a champion.
        reason: the verdict as a sentence.
    """

    verdict: Literal["no_change", "go_on"]
    fingerprint: dict[str, str]
    changed: tuple[str, ...] | None
    champion_version: str | None
    reason: str


class QualityFacts(Facts):
    """Facts of the step `check_quality`.

    Attributes:
        verdict: `stopped` if a check of severity `error` failed.
        rows: number of rows checked.
        quarantined: number of rows for the quarantine.
        failed: names of the failed checks of severity `error`.
        held: names of the failed checks of severity `hold`.
        warnings: names of the failed checks of severity `warn`.
        findings: the failed checks with their remedies, the most severe first.
        defaults: defaults that were derived from the declaration, by key.
    """

    verdict: Literal["passed", "stopped"]
    rows: int
    quarantined: int
    failed: tuple[str, ...]
    held: tuple[str, ...] = ()
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    defaults: dict[str, str] = Field(default={})


class PreprocessFacts(RowCounts, Facts):
    """Facts of the step `preprocess`: where each row went."""


class SplitFacts(Facts):
    """Facts of the step `split`.

    Attributes:
        rows: number of rows of `train`, `validation` and `test`.
    """

    rows: dict[str, int]


class TrainFacts(Facts):
    """Facts of the step `train`, of one candidate.

    Attributes:
        candidate: name of the candidate.
        rows: number of training rows.
        features: number of feature columns.
        key: cache key of the training.
        tracking_run_id: run on the tracking server.
        model_uri: logged model on the tracking server, such as `models:/m-1`.
        tracking_url: address of the run's page; None if the tracking server has no pages.
    """

    candidate: str
    rows: int
    features: int
    key: str
    tracking_run_id: str
    model_uri: str
    tracking_url: str | None = None


class EvaluatedChampion(Contract):
    """The champion that the candidates were compared with.

    Attributes:
        version: version in the registry.
        sha256: digest of its model file; None if no pipeline registered the version.
        candidate_index: position of the candidate with the same file; None without such a candidate.
        error: why the champion was not scored; None if it was.
    """

    version: str
    sha256: str | None
    candidate_index: int | None
    error: str | None


class EvaluateFacts(Facts):
    """Facts of the step `evaluate`.

    Attributes:
        winner: name of the candidate that was selected on the validation rows.
        metric: name of the primary metric.
        value: primary metric of the winner on the validation rows; None if it is undefined there.
        test: metrics of the winner on the test set; None for an undefined metric.
        champion: the champion at the time of the run; None without one.
    """

    winner: str
    metric: str
    value: float | None
    test: dict[str, float | None]
    champion: EvaluatedChampion | None = None


class DecideFacts(Facts):
    """Facts of the step `decide`.

    The whole decision travels here, so that approval, deployment, ledger and notifications read no artifact again.

    Attributes:
        decision: outcome and evidence.
        seconds_per_row: measured prediction time of the winner; None without a limit for it.
    """

    decision: Decision
    seconds_per_row: float | None = None


class RegisterFacts(Facts):
    """Facts of the step `register`.

    Attributes:
        version: registered version.
        model_uri: logged model that the version was registered from.
        url: address of the version's page; None if the registry has no pages.
        registered: digests of the version's files, for the deployment and the ledger.
    """

    version: str
    model_uri: str
    url: str | None
    registered: VersionRecord


class DeployFacts(Facts):
    """Facts of the step `deploy`.

    Attributes:
        version: the new champion.
        previous_version: version behind the alias `previous`; None without one.
    """

    version: str
    previous_version: str | None


class RecordFacts(Facts):
    """Facts of the step `record_decision`.

    Attributes:
        outcome: outcome of the run, after the approval.
        reason: why, as a sentence.
        candidate: name of the selected candidate; None if the run ended before the training.
        version: the new champion; None if nothing was deployed.
        previous_version: version behind the alias `previous`; None if nothing was deployed.
    """

    outcome: Outcome
    reason: str
    candidate: str | None
    version: str | None = None
    previous_version: str | None = None


class Approval(Contract):
    """The answer of a person to the request for approval.

    Attributes:
        approver: name of the person.
    """

    approver: str = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FactsForComparison:
    """Facts that the step `compare_with_champion` reads."""

    ingest: IngestFacts


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FactsForTraining:
    """Facts that the step `train` reads."""

    ingest: IngestFacts


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FactsForEvaluation:
    """Facts that the step `evaluate` reads."""

    train: tuple[TrainFacts, ...]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FactsForRegistration:
    """Facts that the step `register` reads."""

    ingest: IngestFacts
    compare_with_champion: CompareFacts | None = None
    train: tuple[TrainFacts, ...]
    decide: DecideFacts


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FactsForDeployment:
    """Facts that the step `deploy` reads."""

    decide: DecideFacts
    register: RegisterFacts


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FactsForRecord:
    """Facts that the step `record_decision` reads; None for a step that the run did not reach.

    `approval` comes from the runner or the orchestrator, and from no step.
    """

    ingest: IngestFacts | None = None
    compare_with_champion: CompareFacts | None = None
    check_quality: QualityFacts | None = None
    preprocess: PreprocessFacts | None = None
    split: SplitFacts | None = None
    train: tuple[TrainFacts, ...] = ()
    evaluate: EvaluateFacts | None = None
    decide: DecideFacts | None = None
    register: RegisterFacts | None = None
    deploy: DeployFacts | None = None
    approval: Approval | None = None
