"""What crosses a border between tasks, processes or machines: frozen, and the same after a JSON round trip.

Paths and digests travel, never data. Nothing here holds a secret: an address that needs one is looked up by
whoever runs the step.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

__all__ = [
    "ArtifactKind",
    "ArtifactRef",
    "CandidateSummary",
    "ChampionSummary",
    "Comparison",
    "Contract",
    "DataPin",
    "Decision",
    "Identity",
    "Interval",
    "JsonValue",
    "LedgerEntry",
    "Outcome",
    "Promote",
    "QualitySummary",
    "RolledBackVersion",
    "RowCounts",
    "RuleVerdict",
    "RunDetails",
    "SliceMetrics",
    "StepRequest",
    "StepResult",
    "describe_validation_error",
]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ArtifactKind = Literal["table", "json", "model", "image", "html"]
Outcome = Literal["promoted", "held", "rejected", "no_change", "stopped", "rolled_back", "external_change"]


class Contract(BaseModel):
    """Base of the contracts: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class ArtifactRef(Contract):
    """Where an artifact is and what it must be; the only thing about data that travels.

    Attributes:
        uri: absolute URI of one file, such as `file:///...` or `s3://...`.
        sha256: hex digest of the bytes; a reader checks it before use.
        bytes: size in bytes.
        rows: number of rows, for tables.
        kind: how to read the bytes.
    """

    uri: str
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    kind: ArtifactKind
    rows: Annotated[int, Field(ge=0)] | None = None


class DataPin(Contract):
    """One version of the data, told apart from all others for good.

    Attributes:
        source: kind of source.
        location: where it came from, for people; without credentials.
        revision: git commit of the data repository, for DVC.
        digest: `algorithm:value` of the content, known before it is read. None: only reading tells.
        bytes: size in bytes, if known.
    """

    source: str
    location: str
    revision: str | None = None
    digest: str | None = None
    bytes: int | None = None


class Identity(Contract):
    """Whose work this is. The same identity tried again is a retry and must leave the same world.

    Attributes:
        pipeline: name of the pipeline (`dag_id`).
        run_id: name of the run.
        task_id: name of the task.
        map_index: which of the mapped tasks, -1 for a task that is not mapped.
        run_url: where a person can look at the run; not part of who it is.
    """

    pipeline: str
    run_id: str
    task_id: str
    map_index: int = -1
    run_url: str | None = None


class StepRequest(Contract):
    """Everything that a step needs to know, whoever runs it.

    Attributes:
        step: name in the catalog.
        parameters: the step's parameter model as JSON.
        inputs: artifacts that the step computes from; part of the key.
        context: artifacts that only its publishing reads; not part of the key.
        facts: small values from earlier steps that only its publishing reads; not part of the key.
        seed: for everything random.
        store: URI of the artifact store.
        identity: whose work this is; not part of the key.
        force: compute even if the result is there.
    """

    step: str
    parameters: dict[str, JsonValue]
    inputs: dict[str, ArtifactRef | tuple[ArtifactRef, ...]] = {}
    context: dict[str, ArtifactRef | tuple[ArtifactRef, ...]] = {}
    facts: dict[str, JsonValue] = {}
    seed: int
    store: str
    identity: Identity
    force: bool = False


class StepResult(Contract):
    """What a step made.

    Attributes:
        step: name in the catalog.
        key: hex digest of the recipe: step, code, parameters, input digests, seed, environment.
        status: computed now, reused from the store, or acted on the outside world (which is never stored).
        reason: why it was a hit or a miss, as a sentence.
        outputs: artifacts by name.
        values: small results: counts, metrics, names. Never NaN.
        seconds: wall time of this call.
    """

    step: str
    key: Sha256
    status: Literal["computed", "cached", "published"]
    reason: str
    outputs: dict[str, ArtifactRef] = {}
    values: dict[str, JsonValue] = {}
    seconds: float = 0.0


class RuleVerdict(Contract):
    """One rule of the gate and what it found.

    Attributes:
        rule: name, such as `threshold roc_auc` or `beats dummy`.
        passed: the verdict.
        value: what was measured, None if it could not be.
        limit: what was asked for.
        detail: a sentence for people.
    """

    rule: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    detail: str = ""


class Interval(Contract):
    """Where a figure lies, by a bootstrap over the holdout's rows.

    Attributes:
        low: lower bound.
        high: upper bound.
        confidence: share of such intervals that hold the true figure, such as 0.95.
    """

    low: float
    high: float
    confidence: float


class Comparison(Contract):
    """The candidate beside the champion on the same rows, by a paired bootstrap of the primary metric.

    Attributes:
        metric: the primary metric.
        difference: candidate minus champion, signed so that positive is better.
        interval: of the difference; None if it could not be drawn.
        draws: how many resamples.
        rows: how many rows both have scored.
    """

    metric: str
    difference: float
    interval: Interval | None
    draws: int
    rows: int


class SliceMetrics(Contract):
    """How candidate and champion do on one group of the holdout's rows.

    Attributes:
        column: what the group has in common.
        value: and its value there, as text.
        rows: how many.
        metrics: of the candidate, by name; None if one could not be measured on these rows.
        champion_metrics: of the champion; empty if there is none.
    """

    column: str
    value: str
    rows: int
    metrics: dict[str, float | None] = {}
    champion_metrics: dict[str, float | None] = {}


class Decision(Contract):
    """What became of a run, and why: the verdict, and all the evidence that it can be reached again from.

    Attributes:
        outcome: what became of it. `rolled_back` and `external_change` are no outcomes of trainings: a person went back
            to an earlier version, or somebody moved an alias in the registry.
        model: name in the registry.
        candidate: name of the best candidate; None if the run stopped before training.
        candidate_index: its place among the candidates that were trained.
        reason: the rule that decided, as a sentence.
        metric: the primary metric.
        metrics: metrics of the best candidate on the holdout, by name.
        champion_metrics: metrics of today's champion on the same rows.
        dummy_metrics: metrics of a model that has learned nothing.
        rules: each rule's verdict, in the order of the gate.
        champion_version: the version that was compared with; None if there was none.
        champion_error: what kept the champion from being compared, if something did.
        intervals: of `metrics`, where they were drawn.
        champion_intervals: of `champion_metrics`.
        comparison: None without a champion that could be scored, or without a candidate.
        slices: groups with enough rows.
        guards: what else limits a model, by name: `model_bytes`, `seconds_per_row`.
    """

    outcome: Outcome
    model: str
    candidate: str | None = None
    candidate_index: int | None = None
    reason: str
    metric: str | None = None
    metrics: dict[str, float | None] = {}
    champion_metrics: dict[str, float | None] = {}
    dummy_metrics: dict[str, float | None] = {}
    rules: tuple[RuleVerdict, ...] = ()
    champion_version: str | None = None
    champion_error: str | None = None
    intervals: dict[str, Interval] = {}
    champion_intervals: dict[str, Interval] = {}
    comparison: Comparison | None = None
    slices: tuple[SliceMetrics, ...] = ()
    guards: dict[str, float] = {}


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
    """

    candidate: str
    sha256: str | None
    validation: dict[str, float | None]
    test: dict[str, float | None]


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
        sha256: digest of the model file of `version`.
        evaluation: evaluation of the promoted candidate.
        training: training record of the promoted candidate.
        withdrawn: version that a rollback replaced.
        approver: name of the person who approved the promotion.
        report: report of the run.
        quality: result of the quality checks.
        rows: number of rows by the result of the preprocessing.
        parts: number of rows of `train`, `validation` and `test`.
        candidates: metrics of the candidates.
        champion: the champion at the time of the evaluation.
    """

    pin: DataPin | None = None
    fingerprint: dict[str, str] | None = None
    changed: tuple[str, ...] | None = None
    version: str | None = None
    previous_version: str | None = None
    sha256: str | None = None
    evaluation: ArtifactRef | None = None
    training: ArtifactRef | None = None
    withdrawn: RolledBackVersion | None = None
    approver: str | None = None
    report: ArtifactRef | None = None
    quality: QualitySummary | None = None
    rows: RowCounts | None = None
    parts: dict[str, int] | None = None
    candidates: tuple[CandidateSummary, ...] | None = None
    champion: ChampionSummary | None = None

    @model_serializer(mode="wrap")
    def _leave_out_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class LedgerEntry(Contract):
    """What is written down for good of one run. Entries of a model form a chain: each holds the hash of the one before.

    Attributes:
        model: name in the registry; whose chain this is.
        seq: place in the chain, from 1, without gaps.
        pipeline: name of the pipeline.
        run_id: name of the run.
        run_url: where a person can look at the run.
        recorded_at: ISO 8601, UTC.
        decision: the verdict and its evidence.
        details: data, champion, report and approver of the run.
        supersedes: the entry that this one corrects, if the run was cleared and ended otherwise.
        previous_hash: of the entry before; 64 zeros for the first.
        hash: sha256 of all else here as canonical JSON.
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


def describe_validation_error(error: ValidationError) -> str:
    """What keeps a document from being a contract, in one line: each field and what is wrong with it."""
    found = [
        (".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False, include_input=False)
    ]
    return "; ".join(f"{place}: {message}" if place else message for place, message in found)


Promote = Literal["auto", "hold", "never"]
