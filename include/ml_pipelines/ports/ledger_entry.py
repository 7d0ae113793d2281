"""An entry of the ledger and the details of its run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from ml_pipelines.contracts import (
    ArtifactRef,
    Contract,
    DataPin,
    Decision,
    Sha256,
    ThresholdValue,
)

__all__ = [
    "CandidateSummary",
    "ChampionSummary",
    "LedgerEntry",
    "QualitySummary",
    "RolledBackVersion",
    "RowCounts",
    "RunDetails",
    "VersionRecord",
]


class RowCounts(Contract):
    """How many rows the preprocessing kept; `rows_in` is the sum of `kept` and `quarantined`.

    Attributes:
        rows_in: number of rows before the preprocessing.
        kept: number of rows in the clean table.
        quarantined: number of rows in the quarantine.
        quarantined_by_reason: number of rows in the quarantine, by reason.
    """

    rows_in: int
    kept: int
    quarantined: int
    quarantined_by_reason: dict[str, int]


class QualitySummary(Contract):
    """Result of the quality checks.

    Attributes:
        verdict: `stopped` if a check of severity `error` failed.
        rows: number of rows checked.
        quarantined: number of rows for the quarantine.
        failed: the failed checks as the quality report has them.
    """

    verdict: Literal["passed", "stopped"]
    rows: int
    quarantined: int
    failed: tuple[dict[str, JsonValue], ...]


class CandidateSummary(Contract):
    """Metrics of one candidate.

    Attributes:
        candidate: name of the candidate.
        sha256: digest of its model file.
        validation: metrics on the validation rows; None for an undefined metric.
        test: metrics on the test set; None for an undefined metric.
        threshold: tuned decision threshold; None for the usual one.
    """

    candidate: str
    sha256: str | None
    validation: dict[str, float | None]
    test: dict[str, float | None]
    threshold: ThresholdValue = None


class ChampionSummary(Contract):
    """The champion that the candidates were compared with.

    Attributes:
        version: version in the registry.
        sha256: digest of its model file; None if no pipeline registered the version.
        error: why it was not scored; None if it was.
    """

    version: str
    sha256: str | None
    error: str | None


class VersionRecord(Contract):
    """A version that a run registered, with the digests that verify its files before each use.

    The registry has the same digests as tags. A program that can replace a file there can replace a tag too.

    Attributes:
        version: version in the registry.
        sha256: digest of its model file.
        training: its training record.
        files: digest of each file that a client of the registry loads, by path.
    """

    version: str
    sha256: Sha256
    training: ArtifactRef
    files: dict[str, Sha256]


class RolledBackVersion(Contract):
    """The version that a rollback replaced.

    Attributes:
        version: version in the registry.
        sha256: digest of its model file; None if no pipeline registered the version.
    """

    version: str
    sha256: str | None


class RunDetails(Contract):
    """Details of a ledger entry. The JSON has no entry for a detail that is None.

    Attributes:
        pin: version of the data.
        fingerprint: digest by component: `data`, `code`, `parameters`, `environment`, `gate`.
        changed: components that differ from the champion's fingerprint; None if the champion has none.
        version: the champion after the run, if the run changed it.
        previous_version: version behind the alias `previous` after the run, if the run changed the champion.
        replaced_by: version that had replaced `version` when the entry was written; None if it still was the champion.
        sha256: digest of the model file of `version`.
        registered: version that the run registered.
        evaluation: evaluation of the promoted candidate.
        training: training record of the promoted candidate.
        withdrawn: version that a rollback replaced.
        approver: name of the person who approved the promotion.
        report: report of the run.
        quality: result of the quality checks.
        rows: number of rows by the result of the preprocessing.
        parts: number of rows of `train`, `validation` and `test`.
        defaults: defaults that were derived from the declaration, by key.
        candidates: metrics of the candidates.
        champion: the champion at the time of the evaluation.
    """

    pin: DataPin | None = None
    fingerprint: dict[str, str] | None = None
    changed: tuple[str, ...] | None = None
    version: str | None = None
    previous_version: str | None = None
    replaced_by: str | None = None
    sha256: str | None = None
    registered: VersionRecord | None = None
    evaluation: ArtifactRef | None = None
    training: ArtifactRef | None = None
    withdrawn: RolledBackVersion | None = None
    approver: str | None = None
    report: ArtifactRef | None = None
    quality: QualitySummary | None = None
    rows: RowCounts | None = None
    parts: dict[str, int] | None = None
    defaults: dict[str, str] | None = None
    candidates: tuple[CandidateSummary, ...] | None = None
    champion: ChampionSummary | None = None

    @model_serializer(mode="wrap")
    def _leave_out_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class LedgerEntry(Contract):
    """The permanent record of one run. The entries of a model form a hash chain.

    Attributes:
        model: name in the registry; every model has its own chain.
        seq: position in the chain, from 1, without gaps.
        pipeline: name of the pipeline.
        run_id: name of the run.
        run_url: address of the page of the run.
        recorded_at: ISO 8601, UTC.
        decision: the decision and its evidence.
        details: data, champion, report and approver of the run.
        supersedes: `seq` of the entry that this one corrects, if the run was cleared and had another outcome.
        previous_hash: hash of the previous entry; 64 zeros for the first.
        hash: SHA-256 of all other fields as canonical JSON.
    """

    model: str
    seq: Annotated[int, Field(ge=1)]
    pipeline: str
    run_id: str
    run_url: str | None = None
    recorded_at: str
    decision: Decision
    details: RunDetails = RunDetails()
    supersedes: int | None = None
    previous_hash: Sha256
    hash: Sha256
