"""What each step of batch scoring is told; see :mod:`ml_pipelines.pipeline.parameters`.

What an earlier step has found out (which shard, which model, which shards are done) is added by whoever runs the
steps, with `for_shard` and `for_results`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from ml_pipelines.contracts import ArtifactRef, DataPin, StepResult
from ml_pipelines.pipeline.parameters import Parameters, RunOptions, revised
from ml_pipelines.spec.batch import DriftLimits, DriftSpec, ModelReference, ScoringSpec, Shards
from ml_pipelines.spec.sources import Section, Source
from ml_pipelines.spec.training import ColumnType

__all__ = [
    "CollectScoresParameters",
    "IngestBatchParameters",
    "MeasureDriftParameters",
    "PlanShardsParameters",
    "ScoreShardParameters",
    "ShardScores",
]


class IngestBatchParameters(Parameters):
    """Where the rows are, which of their columns are needed beside the model's, and which model."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"source", "model"})

    source: Source
    key: str
    keep: tuple[str, ...]
    types: dict[str, ColumnType]
    model: ModelReference

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        data = spec.data
        return cls(source=data.source, key=data.key, keep=spec.output.keep, types=data.types, model=spec.model)

    def for_run(self, options: RunOptions) -> Self:
        """The revision and the version that the run asks for.

        Raises:
            RequestError: the source has no revisions.
        """
        asked = options.model_version
        model = self.model.at_version(asked) if asked else self.model
        return self.model_copy(update={"source": revised(self.source, options.data_revision), "model": model})


class PlanShardsParameters(Parameters):
    """How the rows are cut, and what tells them apart."""

    key: str
    shards: Shards

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        return cls(key=spec.data.key, shards=spec.shards)

    def for_run(self, options: RunOptions) -> Self:
        """Of the size that the run asks for."""
        return self.model_copy(update={"shards": Shards(rows=options.shard_rows)}) if options.shard_rows else self


class ScoreShardParameters(Parameters):
    """Which columns go with the scores; and which shard and model, whose digests are what counts."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"index", "shard", "model", "training"})

    key: str
    keep: tuple[str, ...]
    index: int = 0
    shard: ArtifactRef | None = None
    model: ArtifactRef | None = None
    training: ArtifactRef | None = None

    @classmethod
    def of(cls, spec: ScoringSpec) -> Self:
        return cls(key=spec.data.key, keep=spec.output.keep)

    def for_shard(self, index: int, batch: StepResult, plan: StepResult) -> Self:
        """For one shard of a plan, and the model that the batch was pinned with."""
        pinned: Any = batch.values["model"]
        refs = {name: ArtifactRef.model_validate(pinned[of]) for name, of in _PINNED.items()}
        return self.model_copy(update={"index": index, "shard": plan.outputs[f"shard_{index}"], **refs})


_PINNED = {"model": "artifact", "training": "training"}


class ShardScores(Section):
    """What became of a shard's rows."""

    index: int
    rows: int
    scores: ArtifactRef
    quarantine: ArtifactRef


class CollectScoresParameters(Parameters):
    """Whose scores these are, how many rows were planned, what has come of them, and how many must have a score."""

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
        return cls(key=spec.data.key, min_scored=spec.min_scored, model=spec.model.name)

    def for_results(self, batch: StepResult, plan: StepResult, scored: Sequence[StepResult]) -> Self:
        """For a plan, and the results of those of its shards that did not fail."""
        planned, pinned = tuple(plan.values["shards"]), batch.values  # type: ignore[arg-type]
        pin = DataPin.model_validate(pinned["pin"])
        done = []
        for each in sorted(scored, key=lambda result: int(result.values["shard"])):  # type: ignore[arg-type]
            index = int(each.values["shard"])  # type: ignore[arg-type]
            done.append(ShardScores(index=index, rows=planned[index], **each.outputs))
        return self.model_copy(
            update={
                "version": pinned["model"]["version"],  # type: ignore[index,call-overload]
                # Rows that no source tells apart by a digest are told apart by themselves.
                "data": pin.digest or f"sha256:{batch.outputs['table'].sha256}",
                "planned": planned,
                "done": tuple(done),
            }
        )


class MeasureDriftParameters(Parameters):
    """Which batches are compared with the training of which model, and what counts as drift."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"watch", "model"})

    watch: str
    model: ModelReference
    limits: DriftLimits

    @classmethod
    def of(cls, spec: DriftSpec) -> Self:
        return cls(watch=spec.watch, model=spec.model, limits=spec.limits)

    def for_run(self, options: RunOptions) -> Self:
        """Against the training of the version that the run asks for."""
        asked = options.model_version
        return self.model_copy(update={"model": self.model.at_version(asked)}) if asked else self
