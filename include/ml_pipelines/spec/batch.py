"""The declarations of batch scoring and of drift monitoring. :mod:`ml_pipelines.spec.loader` reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from ml_pipelines.spec.durations import PositiveDuration
from ml_pipelines.spec.execution import Placement
from ml_pipelines.spec.sources import Count, DataSection, Section
from ml_pipelines.spec.training import Alerts, ColumnType, DefaultArgs, ModelName, Number, Share, Tag

__all__ = [
    "MAX_SHARDS",
    "OUTPUT_COLUMNS",
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


class ModelReference(Section):
    """A model in the registry, at the version behind `alias`, or at a fixed `version`."""

    name: ModelName
    alias: str = "champion"
    version: Annotated[str, Field(pattern=r"^[0-9]+$")] | None = None

    def at_version(self, version: str) -> ModelReference:
        """Return the same model at another version, which is a number or an alias."""
        return ModelReference(name=self.name, **({"version": version} if version.isdigit() else {"alias": version}))


class Batch(DataSection):
    """The rows to score. `key` identifies a row; `types` are for columns that are no features of the model.

    Features have the same types as in training.
    """

    key: str
    types: dict[str, ColumnType] = Field(default={})


class Shards(Section):
    """The size of the shards: a number of `rows`, where the last shard has the rest, or a `count` of equal shards."""

    rows: Annotated[Count, Field(gt=0)] | None = None
    count: Annotated[Count, Field(gt=0, le=MAX_SHARDS)] | None = None

    @model_validator(mode="after")
    def _require_one_size(self) -> Shards:
        if (self.rows is None) == (self.count is None):
            raise ValueError("expected either rows or count")
        return self


class Output(Section):
    """Columns of the batch to `keep` in the scores, beside key, prediction, probabilities and provenance."""

    keep: tuple[str, ...] = ()


class BatchSchedule(Section):
    """When a batch is scored: by a cron schedule, after a change of the champion, or both."""

    cron: str | None = None
    timezone: str = "UTC"
    on_champion: bool = False

    @model_validator(mode="after")
    def _require_trigger(self) -> BatchSchedule:
        if self.cron is None and not self.on_champion:
            raise ValueError("expected cron, on_champion: true or both")
        return self


class ScoringSpec(Section):
    """A declaration of batch scoring. The default of `name` is the stem of the file.

    `min_scored` is the share of rows that must get a score. Below it the run fails and publishes nothing.
    """

    seed: ClassVar[int] = 0  # nothing here is random

    name: ModelName
    description: str = ""
    model: ModelReference
    data: SerializeAsAny[Batch]
    shards: Shards
    output: Output = Output()
    min_scored: Share = 1.0
    schedule: BatchSchedule | None = None
    runtime: dict[str, Placement] = Field(default={})
    default_args: DefaultArgs = DefaultArgs()
    tags: tuple[Tag, ...] = ()
    alerts: Alerts = Alerts()


class DriftLimits(Section):
    """The limits of drift: at least `features` features, or the predictions, reach the population stability `index`.

    A batch of fewer than `min_rows` rows is not evaluated, because its index is too uncertain.
    """

    index: Annotated[Number, Field(gt=0)] = 0.25
    features: Annotated[Count, Field(gt=0)] = 1
    min_rows: Annotated[Count, Field(gt=0)] = 500


class Retrain(Section):
    """The drift that triggers a training: of features, of predictions or any; at most once within `cooldown`."""

    on: Literal["features", "predictions", "any"]
    cooldown: PositiveDuration = timedelta(days=7)


class DriftSchedule(Section):
    """When drift is measured: by a cron schedule, after each run of the monitored scoring, or both."""

    cron: str | None = None
    timezone: str = "UTC"
    on_scores: bool = False

    @model_validator(mode="after")
    def _require_trigger(self) -> DriftSchedule:
        if self.cron is None and not self.on_scores:
            raise ValueError("expected cron, on_scores: true or both")
        return self


class DriftSpec(Section):
    """A declaration of drift monitoring: the batches of the scoring pipeline `watch` against the training data."""

    seed: ClassVar[int] = 0  # nothing here is random

    name: ModelName
    description: str = ""
    model: ModelReference
    watch: ModelName
    limits: DriftLimits = DriftLimits()
    retrain: Retrain | None = None
    schedule: DriftSchedule | None = None
    runtime: dict[str, Placement] = Field(default={})
    default_args: DefaultArgs = DefaultArgs()
    tags: tuple[Tag, ...] = ()
    alerts: Alerts = Alerts()
