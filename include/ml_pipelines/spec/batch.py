"""The declarations of batch scoring and of drift monitoring. :mod:`ml_pipelines.spec.loader` reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from ml_pipelines.spec.checks import ColumnType
from ml_pipelines.spec.declaration_base import Declaration
from ml_pipelines.spec.durations import PositiveDuration
from ml_pipelines.spec.placement import Placement
from ml_pipelines.spec.scheduling import Alerts, DefaultArgs
from ml_pipelines.spec.sources import LINE, Count, DataSection, Number, Section, Share
from ml_pipelines.spec.training import Description, ModelName, Tag

__all__ = [
    "MAX_SHARDS",
    "OUTPUT_COLUMNS",
    "ROW_COLUMN",
    "Batch",
    "BatchSchedule",
    "DriftLimits",
    "DriftSchedule",
    "DriftSpec",
    "ModelReference",
    "Output",
    "Retrain",
    "ScoringSpec",
    "Shards",
]

MAX_SHARDS = 1000
"""Of a batch: Airflow maps a task at most 1024 times by default."""

OUTPUT_COLUMNS = frozenset({"prediction", "probability", "model", "model_version", "data"})
"""Columns that every table of scores has."""

ROW_COLUMN = "row"
"""Identifies a row of a batch without a key: its position among the rows that have a value, from 0."""


class ModelReference(Section):
    """A model in the registry.

    Attributes:
        name: name in the registry.
        alias: alias of the version.
        version: number of a fixed version. It takes precedence over `alias`.
    """

    name: ModelName
    alias: Annotated[str, Field(min_length=1, max_length=250, pattern=LINE)] = "champion"
    version: Annotated[str, Field(pattern=r"^[0-9]+$")] | None = None

    def at_version(self, version: str) -> ModelReference:
        """Return the same model at another version, which is a number or an alias."""
        return ModelReference(name=self.name, **({"version": version} if version.isdigit() else {"alias": version}))


class Batch(DataSection):
    """The rows to score. Features have the same types as in training.

    Attributes:
        key: column that identifies a row. Without it, the scores have the column `row`: the position, from 0.
        types: types of columns that are no features of the model.
    """

    key: str | None = None
    types: dict[str, ColumnType] = Field(default={})

    @property
    def identifier(self) -> str:
        """The column of the scores that identifies a row."""
        return self.key if self.key is not None else ROW_COLUMN


class Shards(Section):
    """The size of the shards. Declare either `rows` or `count`.

    Attributes:
        rows: rows of a shard. The last shard has the rest.
        count: number of shards of equal size.
    """

    rows: Annotated[Count, Field(gt=0)] | None = None
    count: Annotated[Count, Field(gt=0, le=MAX_SHARDS)] | None = None

    @model_validator(mode="after")
    def _require_one_size(self) -> Shards:
        if (self.rows is None) == (self.count is None):
            raise ValueError("expected either rows or count")
        return self


class Output(Section):
    """The columns of the scores.

    Attributes:
        keep: columns of the batch to keep, beside key, prediction, probabilities and provenance.
    """

    keep: tuple[str, ...] = ()


class BatchSchedule(Section):
    """The schedule of a scoring. Declare `cron`, `on_champion: true` or both.

    Attributes:
        cron: cron expression, or a preset such as `@daily`.
        timezone: time zone of `cron`, by its IANA name.
        on_champion: whether a new champion starts a run.
    """

    cron: str | None = None
    timezone: str = "UTC"
    on_champion: bool = False

    @model_validator(mode="after")
    def _require_trigger(self) -> BatchSchedule:
        if self.cron is None and not self.on_champion:
            raise ValueError("expected cron, on_champion: true or both")
        return self


class ScoringSpec(Declaration):
    """A declaration of batch scoring.

    Attributes:
        kind: kind of the declaration. By default its keys show it.
        name: name of the pipeline, and id of its DAG. The default is the stem of the file.
        description: description of the DAG.
        model: the model.
        data: the rows to score.
        shards: the size of the shards.
        output: the columns of the scores.
        min_scored: share of rows that must get a score. Below it the run fails and publishes nothing.
        schedule: when the DAG runs. Without it a person or another DAG starts it.
        runtime: place of each task, by its id.
        default_args: Airflow's `default_args` of all tasks.
        tags: tags of the DAG, beside those of the package.
        alerts: recipients of notifications.
    """

    seed: ClassVar[int] = 0  # nothing here is random

    kind: Literal["scoring"] = "scoring"
    name: ModelName
    description: Description = ""
    model: ModelReference
    data: SerializeAsAny[Batch]
    shards: Shards = Shards(rows=100_000)
    output: Output = Output()
    min_scored: Share = 1.0
    schedule: BatchSchedule | None = None
    runtime: dict[str, Placement] = Field(default={})
    default_args: DefaultArgs = DefaultArgs()
    tags: tuple[Tag, ...] = ()
    alerts: Alerts = Alerts()


class DriftLimits(Section):
    """The limits of drift. Drift is reported if enough features, or the predictions, reach the index.

    Attributes:
        index: population stability index.
        features: number of features that must reach the index.
        min_rows: rows that a batch needs. The index of a smaller batch is too uncertain.
    """

    index: Annotated[Number, Field(gt=0)] = 0.25
    features: Annotated[Count, Field(gt=0)] = 1
    min_rows: Annotated[Count, Field(gt=0)] = 500


class Retrain(Section):
    """The drift that triggers a training.

    Attributes:
        on: drift of the features, of the predictions, or any of both.
        cooldown: least time between two triggered trainings.
    """

    on: Literal["features", "predictions", "any"]
    cooldown: PositiveDuration = timedelta(days=7)


class DriftSchedule(Section):
    """The schedule of drift monitoring. Declare `cron`, `on_scores: true` or both.

    Attributes:
        cron: cron expression, or a preset such as `@daily`.
        timezone: time zone of `cron`, by its IANA name.
        on_scores: whether each run of the monitored scoring starts a run.
    """

    cron: str | None = None
    timezone: str = "UTC"
    on_scores: bool = False

    @model_validator(mode="after")
    def _require_trigger(self) -> DriftSchedule:
        if self.cron is None and not self.on_scores:
            raise ValueError("expected cron, on_scores: true or both")
        return self


class DriftSpec(Declaration):
    """A declaration of drift monitoring. It compares the batches of a scoring pipeline with the training data.

    Attributes:
        kind: kind of the declaration. By default its keys show it.
        name: name of the pipeline, and id of its DAG. The default is the stem of the file.
        description: description of the DAG.
        model: the model whose training data is the reference.
        watch: name of the scoring pipeline to monitor.
        limits: the limits of drift.
        retrain: the drift that triggers a training. Without it drift is reported only.
        schedule: when the DAG runs. Without it a person or another DAG starts it.
        runtime: place of each task, by its id.
        default_args: Airflow's `default_args` of all tasks.
        tags: tags of the DAG, beside those of the package.
        alerts: recipients of notifications.
    """

    seed: ClassVar[int] = 0  # nothing here is random

    kind: Literal["drift"] = "drift"
    name: ModelName
    description: Description = ""
    model: ModelReference
    watch: ModelName
    limits: DriftLimits = DriftLimits()
    retrain: Retrain | None = None
    schedule: DriftSchedule | None = None
    runtime: dict[str, Placement] = Field(default={})
    default_args: DefaultArgs = DefaultArgs()
    tags: tuple[Tag, ...] = ()
    alerts: Alerts = Alerts()
