"""The declaration of a training pipeline. :mod:`ml_pipelines.spec.loader` reads it from a file.

The sections are also the parameters of the steps. A step takes only the sections that it needs, so that its cache key
depends on these alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, JsonValue, SerializeAsAny, Strict, model_validator

from ml_pipelines.spec.durations import Duration, PositiveDuration, parse_duration
from ml_pipelines.spec.execution import Placement
from ml_pipelines.spec.metrics import Task, find_metric
from ml_pipelines.spec.sources import Count, DataSection, DvcSource, FileSource, Section, SqlSource, Text

__all__ = [
    "Alerts",
    "Approval",
    "Candidate",
    "Checks",
    "Column",
    "Data",
    "DefaultArgs",
    "DvcSource",
    "Features",
    "FileSource",
    "Gate",
    "Guards",
    "Model",
    "Outliers",
    "PipelineSpec",
    "Schedule",
    "Section",
    "Severity",
    "Slices",
    "Split",
    "SqlSource",
    "parse_duration",
]

Severity = Literal["error", "warn", "quarantine"]
# Strict: a boolean or a quoted number is a mistake and not a number.
Number = Annotated[float, Strict()]
Share = Annotated[Number, Field(ge=0, le=1)]
# ASCII only: Airflow rejects other characters in the URI of an asset, and one such URI stops the update of all DAGs.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=100)]
ColumnType = Literal["string", "integer", "float", "boolean", "date", "datetime"]


class Model(Section):
    """The model to train. `name` is its name in the registry."""

    name: ModelName
    task: Task


class Column(Section):
    """The constraints of a column. A cell that can't be read as `type` violates them like a value out of bounds.

    `min` and `max` are inclusive, `above` and `below` are not; `max_missing` is a share of the rows.
    """

    type: ColumnType
    min: Number | None = None
    max: Number | None = None
    above: Number | None = None
    below: Number | None = None
    allowed: tuple[str | int | float | bool, ...] | None = None
    pattern: str | None = None
    max_missing: Share | None = None
    on_fail: Severity = "error"


class Data(DataSection):
    """The source of the rows and their columns. Columns that are not declared are kept; their types are inferred.

    `positive` is the positive class. It is required unless the labels are 0/1 or false/true.
    """

    key: Text | None = None
    target: Text
    positive: str | int | bool | None = None
    columns: dict[str, Column] = Field(default={})
    ignore: tuple[str, ...] = ()


class RowsCheck(Section):
    """The number of rows."""

    min: Annotated[Count, Field(ge=1)] = 1
    max: Annotated[Count, Field(ge=1)] | None = None
    on_fail: Literal["error", "warn"] = "error"


class MissingCheck(Section):
    """The largest share of missing cells in a column, unless the column declares `max_missing`."""

    max_share: Share = 0.5
    on_fail: Literal["error", "warn"] = "error"


class KeysCheck(Section):
    """Rows with a duplicate key. `quarantine` keeps the first row of each key."""

    on_fail: Severity = "error"


class LabelsCheck(Section):
    """The smallest share of the rarest class."""

    min_share: Share = 0.01
    on_fail: Literal["error", "warn"] = "error"


class LeakageCheck(Section):
    """Target leakage: a single column that predicts the label with at least this ROC AUC."""

    max_auc: Annotated[Number, Field(gt=0.5, le=1)] = 0.99
    on_fail: Literal["error", "warn"] = "warn"


class InfiniteCheck(Section):
    """Infinite numbers."""

    on_fail: Severity = "quarantine"


class Checks(Section):
    """The data quality checks. A failed `error` stops the run, `warn` is reported, `quarantine` removes the rows."""

    rows: RowsCheck = RowsCheck()
    missing: MissingCheck = MissingCheck()
    duplicate_keys: KeysCheck = KeysCheck()
    labels: LabelsCheck = LabelsCheck()
    leakage: LeakageCheck = LeakageCheck()
    infinite: InfiniteCheck = InfiniteCheck()
    max_quarantined: Share = 0.05


class Split(Section):
    """The split of the rows. The best candidate is selected on `validation` and evaluated on `test`.

    `hash` assigns a row by its key, so that the assignment is stable while the data grows. `stratified` keeps the share
    of each class. `time` takes the latest rows by `column` as the test set.
    """

    method: Literal["hash", "stratified", "time"] = "hash"
    test: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    validation: Annotated[Number, Field(gt=0, lt=1)] = 0.15
    column: str | None = None

    @model_validator(mode="after")
    def _require_training_rows(self) -> Split:
        if self.test + self.validation >= 1:
            raise ValueError("expected test + validation below 1, so that rows remain for training")
        if (self.method == "time") != (self.column is not None):
            raise ValueError("expected a column exactly if method is time")
        return self


class Outliers(Section):
    """Numbers are clipped to these quantiles of the training rows, in training and in scoring."""

    columns: tuple[str, ...]
    lower: Share = 0.01
    upper: Share = 0.99

    @model_validator(mode="after")
    def _require_order(self) -> Outliers:
        if self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


class Features(Section):
    """The encoding of the features. Text with more than `max_onehot` levels gets target encoding."""

    outliers: Outliers | None = None
    max_onehot: Annotated[Count, Field(ge=2)] = 30


class Candidate(Section):
    """An estimator to train: its import path in an allowed package, and its parameters."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$", max_length=60)]
    estimator: str
    params: dict[str, JsonValue] = Field(default={})


DEFAULT_CANDIDATES: dict[Task, tuple[Candidate, ...]] = {
    "classification": (
        Candidate(name="linear", estimator="sklearn.linear_model.LogisticRegression", params={"max_iter": 1000}),
        Candidate(name="boosted_trees", estimator="sklearn.ensemble.HistGradientBoostingClassifier"),
    ),
    "regression": (
        Candidate(name="linear", estimator="sklearn.linear_model.Ridge"),
        Candidate(name="boosted_trees", estimator="sklearn.ensemble.HistGradientBoostingRegressor"),
    ),
}


class Slices(Section):
    """Groups of at least `min_rows` rows, by the values of `columns`, with their own metrics.

    `floors` are limits for each group: minima, or maxima for metrics where lower is better. `max_drop` is the largest
    loss of each group against the current champion.
    """

    columns: tuple[str, ...] = ()
    min_rows: Annotated[Count, Field(ge=1)] = 50
    floors: dict[str, Number] = Field(default={})
    max_drop: dict[str, Annotated[Number, Field(ge=0)]] = Field(default={})


class Guards(Section):
    """Limits of resources: the size of the model file in bytes, and the prediction time in seconds per row.

    The prediction time is measured only if it is limited, on the machine that evaluates.
    """

    max_model_bytes: Annotated[Count, Field(gt=0)] | None = None
    max_seconds_per_row: Annotated[Number, Field(gt=0)] | None = None


class Approval(Section):
    """When a person must approve: a held model, every model, or never, which rejects a held model.

    Without an answer within `timeout` the champion stays.
    """

    when: Literal["on_hold", "always", "never"] = "on_hold"
    timeout: PositiveDuration = timedelta(days=3)


class Gate(Section):
    """The conditions of a promotion.

    `metric` is the primary metric. `thresholds` are minima, or maxima for metrics where lower is better.
    `lift_over_dummy` is the required difference of `metric` to the dummy baseline; positive differences are better.

    The comparison with the champion uses the confidence interval of the difference, of level `confidence`, from this
    many bootstrap `draws`. An interval above `improvement` promotes the model. An interval below zero, or one that
    extends below minus `non_inferiority`, rejects it. Any other interval holds it. `broken_champion` applies if the
    champion can't be evaluated.
    """

    metric: str
    thresholds: dict[str, Number] = Field(default={})
    lift_over_dummy: Annotated[Number, Field(ge=0)] = 0.01
    improvement: Number = 0.0
    non_inferiority: Annotated[Number, Field(ge=0)] | None = None
    confidence: Annotated[Number, Field(ge=0.5, lt=1)] = 0.95
    draws: Annotated[Count, Field(ge=200, le=100_000)] = 2000
    broken_champion: Literal["hold", "promote"] = "hold"
    guards: Guards = Guards()
    slices: Slices = Slices()
    approval: Approval = Approval()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics in the gate, each once."""
        names = (self.metric, *self.thresholds, *self.slices.floors, *self.slices.max_drop)
        return tuple(dict.fromkeys(names))


class Schedule(Section):
    """When a training starts: by a cron schedule, after a change of the data (checked this often), or after drift."""

    cron: str | None = None
    timezone: str = "UTC"
    on_new_data: PositiveDuration | None = None
    on_drift: bool = False

    @model_validator(mode="after")
    def _require_trigger(self) -> Schedule:
        if self.cron is None and self.on_new_data is None and not self.on_drift:
            raise ValueError("expected at least one of cron, on_new_data and on_drift")
        return self


class DefaultArgs(Section):
    """Airflow's `default_args` of all tasks. Durations have the form 90s, 5m, 4h or 1d.

    `sla` is the time from the start of the run within which a task must end. A wait for an approval does not count.
    """

    owner: str = "airflow"
    retries: Annotated[Count, Field(ge=0, le=100)] = 2
    retry_delay: Duration = timedelta(minutes=1)
    execution_timeout: PositiveDuration | None = None
    sla: PositiveDuration | None = None
    email: tuple[str, ...] = ()
    email_on_failure: bool = True
    email_on_retry: bool = False


class SlackAlerts(Section):
    """Slack: the name of an Airflow connection, and a channel."""

    connection: str = "slack_api_default"
    channel: Text


class Alerts(Section):
    """The recipients of notifications about runs."""

    slack: SlackAlerts | None = None


class PipelineSpec(Section):
    """A declaration of a training pipeline. The default of `name` is the stem of the file."""

    name: ModelName
    description: str = ""
    model: Model
    data: SerializeAsAny[Data]
    checks: Checks = Checks()
    split: Split = Split()
    features: Features = Features()
    candidates: tuple[Candidate, ...] = ()
    gate: Gate
    schedule: Schedule | None = None
    runtime: dict[str, Placement] = Field(default={})
    default_args: DefaultArgs = DefaultArgs()
    tags: tuple[Tag, ...] = ()
    alerts: Alerts = Alerts()
    seed: Annotated[Count, Field(ge=0, lt=2**32)] = 42

    @model_validator(mode="after")
    def _require_distinct_candidates(self) -> PipelineSpec:
        names = [candidate.name for candidate in self.candidates]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"several candidates have the same name: {', '.join(sorted(repeated))}")
        return self

    @model_validator(mode="after")
    def _require_metrics_of_task(self) -> PipelineSpec:
        for name in self.gate.metrics:
            if (metric := find_metric(name)) is not None and metric.task != self.model.task:
                raise ValueError(f"{name} is not a metric of {self.model.task}")
        return self

    @property
    def effective_candidates(self) -> tuple[Candidate, ...]:
        """The candidates to train: the declared ones, or the defaults of the task."""
        return self.candidates or DEFAULT_CANDIDATES[self.model.task]
