"""What each step is told: the parts of the declaration that it needs, and nothing else, since they are part of its key.

Every class has `of(spec)`, which takes them from a declaration. A field named in `not_in_key` tells where something
is, not what it is; the step's `resolve` phase turns it into a digest.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from ml_pipelines.contracts import Promote
from ml_pipelines.errors import RequestError
from ml_pipelines.spec.metrics import METRICS, Task
from ml_pipelines.spec.sources import Source, SourceSection
from ml_pipelines.spec.training import (
    Candidate,
    Checks,
    Column,
    ColumnType,
    Features,
    Gate,
    PipelineSpec,
    Section,
    Slices,
    Split,
)

__all__ = [
    "CheckQualityParameters",
    "CompareWithChampionParameters",
    "DecideParameters",
    "DeployParameters",
    "EvaluateParameters",
    "IngestParameters",
    "Parameters",
    "PreprocessParameters",
    "RecordParameters",
    "RegisterParameters",
    "RunOptions",
    "SplitParameters",
    "TrainParameters",
    "revised",
]


class RunOptions(Section):
    """What the person who starts a run may set: Airflow's trigger form, and the options of the command line.

    Attributes:
        data_revision: use this revision of the data instead of the declared one (DVC only).
        force: compute every step even if its result is there.
        candidates: train only these; empty means all.
        promote: `auto` follows the gate, `hold` asks first, `never` changes nothing in production.
        model_version: score a batch with this version, or with the one that this alias points to.
        shard_rows: cut a batch into shards of so many rows.
    """

    data_revision: str | None = None
    force: bool = False
    candidates: tuple[str, ...] = ()
    promote: Promote = "auto"
    model_version: str | None = None
    shard_rows: Annotated[int, Field(gt=0)] | None = None


class Parameters(Section):
    """Base: parameters of a step."""

    not_in_key: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def of(cls, spec: Any) -> Self:
        """The parameters that a declaration gives the step."""
        raise NotImplementedError(f"{cls.__name__}.of")

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the options of one run; most steps have none."""
        return self

    @property
    def estimators(self) -> tuple[str, ...]:
        """Import paths of the estimators that the step fits or calls; their versions are part of the key."""
        return ()


class IngestParameters(Parameters):
    """Where the rows are, and the types of the declared columns."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"source"})

    source: Source
    types: dict[str, ColumnType]
    key: str | None
    target: str
    ignore: tuple[str, ...]

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data = spec.data
        types = {name: column.type for name, column in data.columns.items()}
        return cls(source=data.source, types=types, key=data.key, target=data.target, ignore=data.ignore)

    def for_run(self, options: RunOptions) -> Self:
        """The revision that the run asks for.

        Raises:
            RequestError: the source has no revisions.
        """
        return self.model_copy(update={"source": revised(self.source, options.data_revision)})


def revised(source: SourceSection, revision: str | None) -> SourceSection:
    """Return a source at another revision, or unchanged if `revision` is empty.

    Raises:
        RequestError: the source has no revisions.
    """
    if not revision:
        return source
    if source.revision_field is None:
        raise RequestError(
            f"a source of kind {source.kind} has no revisions",
            where=f"data.{source.kind}",
            expected="a source with revisions, such as data.dvc",
            got=f"data revision {revision!r}",
            fix="leave the data revision empty",
        )
    return source.model_copy(update={source.revision_field: revision})


class CompareWithChampionParameters(Parameters):
    """All that a decision rests on beside data, code and environment. `force` goes on whatever has changed."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"force"})

    model: str
    task: Task
    key: str | None
    target: str
    positive: str | int | bool | None
    ignore: tuple[str, ...]
    columns: dict[str, Column]
    checks: Checks
    split: Split
    features: Features
    candidates: tuple[Candidate, ...]
    seed: int
    gate: Gate
    force: bool = False

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data = {name: getattr(spec.data, name) for name in ("key", "target", "positive", "ignore", "columns")}
        same = {name: getattr(spec, name) for name in ("checks", "split", "features", "seed", "gate")}
        return cls(model=spec.model.name, task=spec.model.task, candidates=spec.effective_candidates, **data, **same)

    def for_run(self, options: RunOptions) -> Self:
        """With the candidates that the run trains, and its own word on force."""
        chosen = tuple(each for each in self.candidates if not options.candidates or each.name in options.candidates)
        return self.model_copy(update={"candidates": chosen, "force": options.force})


class CheckQualityParameters(Parameters):
    """What the table must be."""

    task: Task
    key: str | None
    target: str
    columns: dict[str, Column]
    checks: Checks

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data = spec.data
        return cls(task=spec.model.task, key=data.key, target=data.target, columns=data.columns, checks=spec.checks)


class PreprocessParameters(Parameters):
    """Which column must be there in every row."""

    target: str

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(target=spec.data.target)


class SplitParameters(Parameters):
    """How rows are dealt out."""

    task: Task
    key: str | None
    target: str
    split: Split

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(task=spec.model.task, key=spec.data.key, target=spec.data.target, split=spec.split)


class TrainParameters(Parameters):
    """One candidate, and the columns it may learn from: all but `key` and `target`."""

    task: Task
    key: str | None
    target: str
    positive: str | int | bool | None
    features: Features
    candidate: Candidate
    model: str

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model"})

    @classmethod
    def of(cls, spec: PipelineSpec, candidate: Candidate | None = None) -> Self:
        """The parameters for one candidate, the first one unless told."""
        data = spec.data
        return cls(
            task=spec.model.task,
            key=data.key,
            target=data.target,
            positive=data.positive,
            features=spec.features,
            candidate=candidate or spec.effective_candidates[0],
            model=spec.model.name,
        )

    @property
    def estimators(self) -> tuple[str, ...]:
        return (self.candidate.estimator,)


class EvaluateParameters(Parameters):
    """How candidates are ranked, which groups are measured on their own, and how sure an interval is to hold.

    `other_metrics` are the metrics that the gate names and this package does not declare. `model` finds the champion.
    Limits of the gate are absent, because another limit needs no new evaluation.
    """

    task: Task
    key: str | None
    target: str
    metric: str
    other_metrics: tuple[str, ...] = ()
    slices: Slices
    confidence: float
    draws: int
    model: str
    candidates: tuple[str, ...] = ()

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "candidates"})

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data, gate = spec.data, spec.gate
        return cls(
            task=spec.model.task,
            key=data.key,
            target=data.target,
            metric=gate.metric,
            other_metrics=tuple(sorted(name for name in gate.metrics if name not in METRICS)),
            slices=Slices(columns=gate.slices.columns, min_rows=gate.slices.min_rows),
            confidence=gate.confidence,
            draws=gate.draws,
            model=spec.model.name,
            candidates=tuple(sorted({candidate.estimator for candidate in spec.effective_candidates})),
        )

    @property
    def estimators(self) -> tuple[str, ...]:
        return self.candidates


class DecideParameters(Parameters):
    """The gate. `promote` is what the person who started the run allows."""

    model: str
    gate: Gate
    promote: Promote = "auto"

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(model=spec.model.name, gate=spec.gate)

    def for_run(self, options: RunOptions) -> Self:
        """With the run's own word on promotion."""
        return self.model_copy(update={"promote": options.promote})


class RegisterParameters(Parameters):
    """Under which name."""

    model: str

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(model=spec.model.name)


class DeployParameters(RegisterParameters):
    """Which model."""


class RecordParameters(RegisterParameters):
    """Which model."""
