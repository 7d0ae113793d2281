"""The messages between tasks, processes and machines: immutable, and unchanged by a JSON round trip.

They hold references and digests, never data. They hold no secret: the process that runs a step reads credentials from
its own settings.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)

from ml_pipelines.escaping import visible

__all__ = [
    "ArtifactKind",
    "ArtifactRef",
    "CandidateFailure",
    "Comparison",
    "Contract",
    "DataPin",
    "Decision",
    "Finding",
    "FindingSeverity",
    "Identity",
    "Interval",
    "JsonValue",
    "Outcome",
    "Promote",
    "RuleVerdict",
    "SliceMetrics",
    "StepRequest",
    "StepResult",
    "ThresholdValue",
    "describe_validation_error",
]

# Text that may quote data. Control characters become escapes, since PostgreSQL stores no NUL in a JSON document.
Shown = Annotated[str, AfterValidator(visible)]
ThresholdValue = Annotated[float | None, Field(exclude_if=lambda threshold: threshold is None)]
"""A tuned decision threshold. A model with the usual one, 0.5, has no such field in its JSON."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ArtifactKind = Literal["table", "json", "model", "image", "html"]
Promote = Literal["auto", "hold", "never"]
FindingSeverity = Literal["error", "hold", "warn"]
Outcome = Literal["promoted", "held", "rejected", "no_change", "stopped", "rolled_back", "external_change"]


class Contract(BaseModel):
    """Base of the contracts: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class ArtifactRef(Contract):
    """Reference to an artifact: its address, size and digest. Tasks exchange references instead of data.

    Attributes:
        uri: absolute URI of the file, such as `file:///...` or `s3://...`.
        sha256: hex digest of the bytes; readers verify it before use.
        bytes: size in bytes.
        rows: number of rows, for tables.
        kind: format of the bytes.
    """

    uri: str
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    kind: ArtifactKind
    rows: Annotated[int, Field(ge=0)] | None = None


class DataPin(Contract):
    """Identity of one version of the data.

    Attributes:
        source: kind of the source, such as `dvc`.
        location: address of the data for display; without credentials.
        revision: git commit of the data repository, for DVC.
        digest: `algorithm:value` of the content; None if the source provides none before the data is read.
        bytes: size in bytes, if known.
    """

    source: str
    location: str
    revision: str | None = None
    digest: str | None = None
    bytes: int | None = None


class Identity(Contract):
    """Identity of a task instance. A request with the same identity is a retry, and retries are idempotent.

    Attributes:
        pipeline: name of the pipeline (`dag_id`).
        run_id: name of the run.
        task_id: name of the task.
        map_index: index of a mapped task instance; -1 for a task that is not mapped.
        run_url: address of the page of the run; not part of the identity.
    """

    pipeline: str
    run_id: str
    task_id: str
    map_index: int = -1
    run_url: str | None = None


class StepRequest(Contract):
    """The input of a step; the same for every orchestrator.

    Attributes:
        step: name in the step table.
        parameters: the step's parameter model as JSON.
        inputs: artifacts that the step computes from; part of the cache key.
        context: artifacts that only the publish phase reads; not part of the cache key.
        facts: values of earlier steps that only the publish phase reads; not part of the cache key.
        seed: seed of all random numbers.
        store: URI of the artifact store.
        identity: task instance that sends the request; not part of the cache key.
        force: compute even if the store has the result.
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
    """The output of a step.

    Attributes:
        step: name in the step table.
        key: cache key: hex digest of step, code, parameters, input digests, seed and environment.
        status: `computed` now; `cached`: from the store; `published`: the step has only effects, and is never cached;
            `failed`: the candidate of the step failed; `partial`: computed without the candidates that failed. Neither
            of these two is stored in the cache.
        reason: why the cache was hit or missed.
        outputs: artifacts by name.
        values: small results such as counts, metrics and names; finite numbers only.
        seconds: wall time of the call.
    """

    step: str
    key: Sha256
    status: Literal["computed", "cached", "published", "failed", "partial"]
    reason: str
    outputs: dict[str, ArtifactRef] = {}
    values: dict[str, JsonValue] = {}
    seconds: float = 0.0


class RuleVerdict(Contract):
    """The result of one rule of the gate.

    Attributes:
        rule: name, such as `threshold roc_auc` or `beats dummy`.
        passed: whether the model passed the rule.
        value: the measured value; None if it is undefined.
        limit: the limit of the rule.
        detail: explanation for display.
    """

    rule: Shown
    passed: bool
    value: float | None = None
    limit: float | None = None
    detail: Shown = ""


class Interval(Contract):
    """Confidence interval of a metric or a difference, by a bootstrap of the test rows or of groups of them.

    Attributes:
        low: lower bound.
        high: upper bound.
        confidence: confidence level, such as 0.95.
    """

    low: float
    high: float
    confidence: float


class Comparison(Contract):
    """Comparison of the candidate with a reference on the same rows, by a paired bootstrap of the primary metric.

    The reference is the champion or the dummy baseline. Positive differences mean that the candidate is better.

    Attributes:
        metric: the primary metric.
        difference: candidate minus reference, with the sign of an improvement.
        interval: confidence interval of the difference; None if it is undefined.
        reference: value of the metric of the reference.
        relative: confidence interval of the relative difference. Each draw divides the difference by the absolute value
            of the reference. None if the reference is zero.
        draws: number of bootstrap samples.
        rows: number of rows.
    """

    metric: str
    difference: float
    interval: Interval | None
    reference: float | None = None
    relative: Interval | None = None
    draws: int
    rows: int


class SliceMetrics(Contract):
    """Metrics of candidate and champion on one group of rows of the test set.

    Attributes:
        column: column that defines the groups.
        value: value of the column in this group, as text.
        rows: number of rows in the group.
        metrics: metrics of the candidate by name; None for an undefined metric.
        champion_metrics: metrics of the champion by name; empty without a champion.
    """

    column: Shown
    value: Shown
    rows: int
    metrics: dict[str, float | None] = {}
    champion_metrics: dict[str, float | None] = {}


class Finding(Contract):
    """A problem of the data or of the comparison that a person should know before a promotion.

    Attributes:
        check: name of the check, such as `leakage`.
        column: the column; None for a finding about the whole table or the run.
        severity: `error` stopped the run, `hold` holds the model for approval, `warn` changes nothing.
        detail: one sentence with figures.
        remedy: what to do, with YAML to paste where possible.
    """

    check: str
    column: Shown | None = None
    severity: FindingSeverity
    detail: Shown
    remedy: Shown = ""

    @property
    def name(self) -> str:
        """The label in lists: `column: check`, or the check."""
        return f"{self.column}: {self.check}" if self.column else self.check


class CandidateFailure(Contract):
    """A candidate that failed. The run continues with the others.

    Attributes:
        candidate: name of the candidate.
        task: the task in which it failed, `train_model` or `evaluate_model`.
        error: the error in one short paragraph.
        fix: how to correct it.
    """

    candidate: Shown
    task: Literal["train_model", "evaluate_model"]
    error: Shown
    fix: Shown = ""


class Decision(Contract):
    """The decision about a run, with the evidence that is needed to reproduce it.

    Attributes:
        outcome: result of the run. Two outcomes do not come from training: `rolled_back` (a person restored an earlier
            version) and `external_change` (an alias was moved in the registry outside of the pipeline).
        model: name in the registry.
        candidate: name of the selected candidate; None if the run stopped before the training.
        candidate_index: position of the selected candidate among the trained candidates, without those whose training
            failed.
        reason: the rule that determined the outcome.
        metric: the primary metric.
        metrics: metrics of the selected candidate on the test set, by name.
        champion_metrics: metrics of the current champion on the same rows.
        dummy_metrics: metrics of the dummy baseline.
        rules: verdicts of all rules, in the order of the gate.
        findings: problems of the data and of the comparison, the most severe first.
        champion_version: version of the champion; None without a champion.
        champion_error: why the champion could not be compared; None if the comparison succeeded.
        intervals: confidence intervals of `metrics`, by name.
        champion_intervals: confidence intervals of `champion_metrics`, by name.
        comparison: comparison with the champion; None without a champion, or if it could not be evaluated.
        dummy_comparison: comparison with the dummy baseline; None if the primary metric is undefined.
        constant: what is the same for all test rows: the candidate's `predictions`, or its predicted `labels`.
        slices: metrics of the groups with enough rows.
        guards: resources of the model by name: `model_bytes`, and `seconds_per_row`, which is the limit unless the
            measured time exceeds it.
        failures: the candidates that failed.
        threshold: tuned decision threshold of the candidate; None for the usual one.
        champion_threshold: the same of the champion.
        fitted_rows: number of rows that the candidate was fitted on; None if unknown.
        report: names of the metrics to show although they decide nothing.
    """

    outcome: Outcome
    model: str
    candidate: str | None = None
    candidate_index: int | None = None
    reason: Shown
    metric: str | None = None
    metrics: dict[str, float | None] = {}
    champion_metrics: dict[str, float | None] = {}
    dummy_metrics: dict[str, float | None] = {}
    rules: tuple[RuleVerdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    champion_version: str | None = None
    champion_error: Shown | None = None
    intervals: dict[str, Interval] = {}
    champion_intervals: dict[str, Interval] = {}
    comparison: Comparison | None = None
    dummy_comparison: Comparison | None = None
    constant: Literal["predictions", "labels"] | None = None
    slices: tuple[SliceMetrics, ...] = ()
    guards: dict[str, float] = {}
    failures: tuple[CandidateFailure, ...] = ()
    threshold: ThresholdValue = None
    champion_threshold: ThresholdValue = None
    fitted_rows: Annotated[int | None, Field(exclude_if=lambda rows: rows is None)] = None
    report: tuple[str, ...] = ()

    @field_validator("findings")
    @classmethod
    def _sort_by_severity(cls, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        order = get_args(FindingSeverity)
        return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def describe_validation_error(error: ValidationError) -> str:
    """Return the problems of a document in one line: the fields and their messages."""
    problems = [
        (".".join(map(str, problem["loc"])), problem["msg"])
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return "; ".join(f"{field}: {message}" if field else message for field, message in problems)
