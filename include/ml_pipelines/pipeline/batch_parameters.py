"""The parameters of each step of batch scoring; see :mod:`ml_pipelines.pipeline.step_parameters`.

The methods `for_shard` and `for_results` add the results of earlier steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from ml_pipelines.contracts import ArtifactRef, DataPin, StepResult
from ml_pipelines.pipeline.step_parameters import Parameters, RunOptions, revised
from ml_pipelines.spec.batch import DriftLimits, DriftSpec, ModelReference, ScoringSpec, Shards
from ml_pipelines.spec.checks import ColumnType
from ml_pipelines.spec.sources import Section, Source

__all__ = [
    "CollectScoresParameters",
    "IngestBatchParameters",
    "MeasureDriftParameters",
    "PlanShardsParameters",
    "ScoreShardParameters",
    "ShardScores",
]


class IngestBatchParameters(Parameters):
    """The source of the rows, the columns to keep beside the features, and the model."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"source", "model"})

    source: Source
    key: str | None
    keep: tuple[str, ...]
    types: dict[str, ColumnType]
    model: ModelReference

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        data = spec.data
        return cls(
            source=spec.located(data.source), key=data.key, keep=spec.output.keep, types=data.types, model=spec.model
        )

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the data revision and the model version of a run.

        Raises:
            RequestError: the source has no revisions.
        """
        version = options.model_version
        model = self.model.at_version(version) if version else self.model
        return self.model_copy(update={"source": revised(self.source, options.data_revision), "model": model})


class PlanShardsParameters(Parameters):
    """The key of the rows, and the size of the shards."""

    key: str
    shards: Shards

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        return cls(key=spec.data.identifier, shards=spec.shards)

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the shard size of a run."""
        return self.model_copy(update={"shards": Shards(rows=options.shard_rows)}) if options.shard_rows else self


class ScoreShardParameters(Parameters):
    """The columns to keep, the shard and the model. The digests of the artifacts are part of the key."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"index", "shard", "model", "training"})

    key: str
    keep: tuple[str, ...]
    index: int = 0
    shard: ArtifactRef | None = None
    model: ArtifactRef | None = None
    training: ArtifactRef | None = None

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        return cls(key=spec.data.identifier, keep=spec.output.keep)

    def for_shard(self, index: int, batch: StepResult, plan: StepResult) -> Self:
        """Return the parameters for one shard of a plan, with the pinned model of the batch."""
        pinned: Any = batch.values["model"]
        refs = {name: ArtifactRef.model_validate(pinned[of]) for name, of in _PINNED.items()}
        return self.model_copy(update={"index": index, "shard": plan.outputs[f"shard_{index}"], **refs})


_PINNED = {"model": "artifact", "training": "training"}


class ShardScores(Section):
    """The scores and the quarantine of one shard."""

    index: int
    rows: int
    scores: ArtifactRef
    quarantine: ArtifactRef


class CollectScoresParameters(Parameters):
    """The model, the planned rows of each shard, the scored shards, and the share of rows that need a score."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"done"})

    key: str
    min_scored: float
    model: str
    version: str = ""
    data: str = ""
    planned: tuple[int, ...] = ()
    done: tuple[ShardScores, ...] = ()

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        return cls(key=spec.data.identifier, min_scored=spec.min_scored, model=spec.model.name)

    def for_results(self, batch: StepResult, plan: StepResult, scored: Sequence[StepResult]) -> Self:
        """Return the parameters for a plan and the results of the shards that did not fail."""
        planned, pinned = tuple(plan.values["shards"]), batch.values  # type: ignore[arg-type]
        pin = DataPin.model_validate(pinned["pin"])
        done = []
        for result in sorted(scored, key=lambda scores: int(scores.values["shard"])):  # type: ignore[arg-type]
            index = int(result.values["shard"])  # type: ignore[arg-type]
            done.append(ShardScores(index=index, rows=planned[index], **result.outputs))
        return self.model_copy(
            update={
                "version": pinned["model"]["version"],  # type: ignore[index,call-overload]
                # A source without a digest of its version: the digest of the table stands for it.
                "data": pin.digest or f"sha256:{batch.outputs['table'].sha256}",
                "planned": planned,
                "done": tuple(done),
            }
        )


class MeasureDriftParameters(Parameters):
    """The monitored scoring pipeline, the model of reference, and the limits of drift."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"watch", "model"})

    watch: str
    model: ModelReference
    limits: DriftLimits

    @classmethod
    def of(cls, spec: DriftSpec) -> Self:
        return cls(watch=spec.watch, model=spec.model, limits=spec.limits)

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the model version of a run."""
        version = options.model_version
        return self.model_copy(update={"model": self.model.at_version(version)}) if version else self
