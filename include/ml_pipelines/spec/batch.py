"""The declarations of batch scoring and of the watch over its drift; see :mod:`ml_pipelines.spec.loader`."""

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
"""Of a batch: Airflow maps a task 1024 times, unless it is told otherwise."""

OUTPUT_COLUMNS = frozenset({"prediction", "probability", "model", "model_version", "data"})
"""What the scores hold of themselves."""


class ModelReference(Section):
    """Which model scores: its name in the registry, and the version that `alias` points to, or always `version`."""

    name: ModelName
    alias: str = "champion"
    version: Annotated[str, Field(pattern=r"^[0-9]+$")] | None = None

    def at_version(self, version: str) -> ModelReference:
        """Another version of the same model, by its number or alias."""
        return ModelReference(name=self.name, **({"version": version} if version.isdigit() else {"alias": version}))


class Batch(DataSection):
    """Where the rows come from. `key` tells them apart; `types` are those of columns that the model did not learn from.

    Its features are read as the types that they had in training.
    """

    key: str
    types: dict[str, ColumnType] = Field(default={})


class Shards(Section):
    """How a batch is cut: into shards of so many `rows`, the last one with the rest; or into so many of equal size."""

    rows: Annotated[Count, Field(gt=0)] | None = None
    count: Annotated[Count, Field(gt=0, le=MAX_SHARDS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Shards:
        if (self.rows is None) == (self.count is None):
            raise ValueError("give either rows or count")
        return self


class Output(Section):
    """What the scores hold beside key, prediction, probabilities and where they come from: columns to `keep`."""

    keep: tuple[str, ...] = ()


class BatchSchedule(Section):
    """When a batch is scored by itself: by the clock, when another version of the model serves, or both."""

    cron: str | None = None
    timezone: str = "UTC"
    on_champion: bool = False

    @model_validator(mode="after")
    def _says_when(self) -> BatchSchedule:
        if self.cron is None and not self.on_champion:
            raise ValueError("give cron, on_champion: true or both")
        return self


class ScoringSpec(Section):
    """One batch scoring, whole. `name` is the file's stem unless given.

    `min_scored` is the share of the rows that must get a score, or the run fails and nothing is handed on.
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
    """From where on a batch has drifted: `features` of them, or the predictions, with at least this stability `index`.

    Of fewer than `min_rows` rows the index says little, so that nothing is judged.
    """

    index: Annotated[Number, Field(gt=0)] = 0.25
    features: Annotated[Count, Field(gt=0)] = 1
    min_rows: Annotated[Count, Field(gt=0)] = 500


class Retrain(Section):
    """What calls for a training: drift of the features, of the predictions, or either; and once within `cooldown`."""

    on: Literal["features", "predictions", "any"]
    cooldown: PositiveDuration = timedelta(days=7)


class DriftSchedule(Section):
    """When drift is measured by itself: by the clock, when the watched scoring has made scores, or both."""

    cron: str | None = None
    timezone: str = "UTC"
    on_scores: bool = False

    @model_validator(mode="after")
    def _says_when(self) -> DriftSchedule:
        if self.cron is None and not self.on_scores:
            raise ValueError("give cron, on_scores: true or both")
        return self


class DriftSpec(Section):
    """One watch over drift, whole: of the batches that the scoring `watch` has scored, against the model's training."""

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
