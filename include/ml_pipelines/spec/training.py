"""The declaration of a pipeline: what the YAML file may say. How a file is read: :mod:`ml_pipelines.spec.loader`.

The sections are also what the steps take as parameters, so a step sees just what it needs and its key changes only
with that.
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
# Strict: a switch or a quoted number is a slip of the pen, not a number.
Number = Annotated[float, Strict()]
Share = Annotated[Number, Field(ge=0, le=1)]
# Plain letters: Airflow takes no others in the URI of an asset, and one such URI stops the update of all DAGs.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=100)]
ColumnType = Literal["string", "integer", "float", "boolean", "date", "datetime"]


class Model(Section):
    """What is trained. `name` is its name in the registry."""

    name: ModelName
    task: Task


class Column(Section):
    """What a column must be. A cell that can't be read as `type` breaks the rule like one out of bounds.

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
    """Where the rows come from and what they are. Columns that are not declared are kept, their types inferred.

    `positive` is the label that counts as a hit; needed only if the labels are not 0/1 or false/true.
    """

    key: Text | None = None
    target: Text
    positive: str | int | bool | None = None
    columns: dict[str, Column] = Field(default={})
    ignore: tuple[str, ...] = ()


class RowsCheck(Section):
    """How many rows there must be."""

    min: Annotated[Count, Field(ge=1)] = 1
    max: Annotated[Count, Field(ge=1)] | None = None
    on_fail: Literal["error", "warn"] = "error"


class MissingCheck(Section):
    """The share of missing cells that any one column may have, where the column itself says nothing."""

    max_share: Share = 0.5
    on_fail: Literal["error", "warn"] = "error"


class KeysCheck(Section):
    """What to do with rows whose key occurred before. Quarantine keeps the first."""

    on_fail: Severity = "error"


class LabelsCheck(Section):
    """The share that the rarest class must have at least."""

    min_share: Share = 0.01
    on_fail: Literal["error", "warn"] = "error"


class LeakageCheck(Section):
    """A column that alone ranks the labels with at least this ROC-AUC knows the answer."""

    max_auc: Annotated[Number, Field(gt=0.5, le=1)] = 0.99
    on_fail: Literal["error", "warn"] = "warn"


class InfiniteCheck(Section):
    """What to do with infinite numbers."""

    on_fail: Severity = "quarantine"


class Checks(Section):
    """The quality gate. A failed `error` stops the run, `warn` is reported, `quarantine` sets the rows aside."""

    rows: RowsCheck = RowsCheck()
    missing: MissingCheck = MissingCheck()
    duplicate_keys: KeysCheck = KeysCheck()
    labels: LabelsCheck = LabelsCheck()
    leakage: LeakageCheck = LeakageCheck()
    infinite: InfiniteCheck = InfiniteCheck()
    max_quarantined: Share = 0.05


class Split(Section):
    """How rows are dealt out. The candidate is chosen on `validation` and judged on `test`.

    `hash`: by the key, so a row never changes sides as the data grows. `stratified`: the same share of each class.
    `time`: the latest rows by `column` are the test.
    """

    method: Literal["hash", "stratified", "time"] = "hash"
    test: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    validation: Annotated[Number, Field(gt=0, lt=1)] = 0.15
    column: str | None = None

    @model_validator(mode="after")
    def _leaves_rows_to_train(self) -> Split:
        if self.test + self.validation >= 1:
            raise ValueError("test and validation together must leave rows to train on")
        if (self.method == "time") != (self.column is not None):
            raise ValueError("method time needs a column, and only that method takes one")
        return self


class Outliers(Section):
    """Numbers outside these quantiles of the training rows are moved to them, in training and in scoring alike."""

    columns: tuple[str, ...]
    lower: Share = 0.01
    upper: Share = 0.99

    @model_validator(mode="after")
    def _ordered(self) -> Outliers:
        if self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


class Features(Section):
    """How columns become features. Text with more than `max_onehot` levels is encoded by its mean target."""

    outliers: Outliers | None = None
    max_onehot: Annotated[Count, Field(ge=2)] = 30


class Candidate(Section):
    """One estimator to train: its import path, from an allow-listed package, and its parameters."""

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
    """Groups of rows that are also measured on their own, where they have at least `min_rows`.

    `floors` are what each group must reach: minima, or maxima for metrics where less is better. `max_drop` is how much
    worse than today's champion each group may become.
    """

    columns: tuple[str, ...] = ()
    min_rows: Annotated[Count, Field(ge=1)] = 50
    floors: dict[str, Number] = Field(default={})
    max_drop: dict[str, Annotated[Number, Field(ge=0)]] = Field(default={})


class Guards(Section):
    """What else limits a model: the size of its file in bytes, and the seconds that it takes for a row.

    The seconds are measured only if they are limited, on the machine that decides.
    """

    max_model_bytes: Annotated[Count, Field(gt=0)] | None = None
    max_seconds_per_row: Annotated[Number, Field(gt=0)] | None = None


class Approval(Section):
    """Whether a person is asked: about a model that is held, about every model, or never, so that a held one stays out.

    Who does not answer within `timeout` keeps the champion.
    """

    when: Literal["on_hold", "always", "never"] = "on_hold"
    timeout: PositiveDuration = timedelta(days=3)


class Gate(Section):
    """What a model must show before it may serve.

    `metric` ranks models. `thresholds` are minima, or maxima for metrics where less is better. `lift_over_dummy`,
    `improvement` and `non_inferiority` are differences of `metric`, positive meaning better: over a model that learned
    nothing, and over today's champion. There the interval of the difference counts, of this `confidence`, by this many
    bootstrap `draws`. All of it above `improvement`: clearly better. All of it below zero, or some of it further below
    than `non_inferiority`: worse. Between them a model is held; and by `broken_champion`, if there is no comparison.
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
    """When it runs by itself: by the clock, when the data has changed (looked at this often), on a call for drift."""

    cron: str | None = None
    timezone: str = "UTC"
    on_new_data: PositiveDuration | None = None
    on_drift: bool = False

    @model_validator(mode="after")
    def _says_when(self) -> Schedule:
        if self.cron is None and self.on_new_data is None and not self.on_drift:
            raise ValueError("give cron, on_new_data, on_drift, or several of them")
        return self


class DefaultArgs(Section):
    """Airflow's `default_args` of every task. Durations are written 90s, 5m, 4h or 1d.

    `sla` is the time that a task has from the run's start. Who waits for a person is not late.
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
    """Where runs are talked about: the name of an Airflow connection, and a channel."""

    connection: str = "slack_api_default"
    channel: Text


class Alerts(Section):
    """Who is told how a run goes."""

    slack: SlackAlerts | None = None


class PipelineSpec(Section):
    """One pipeline, whole. `name` is the file's stem unless given."""

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
    def _candidates_are_told_apart(self) -> PipelineSpec:
        names = [candidate.name for candidate in self.candidates]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"candidates of the same name: {', '.join(sorted(repeated))}")
        return self

    @model_validator(mode="after")
    def _metrics_fit_the_task(self) -> PipelineSpec:
        for name in self.gate.metrics:
            if (metric := find_metric(name)) is not None and metric.task != self.model.task:
                raise ValueError(f"{name} does not judge {self.model.task}")
        return self

    @property
    def effective_candidates(self) -> tuple[Candidate, ...]:
        """The candidates to train: those declared, or sensible ones for the task."""
        return self.candidates or DEFAULT_CANDIDATES[self.model.task]
