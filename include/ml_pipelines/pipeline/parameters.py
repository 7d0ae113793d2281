"""The parameters of each step: the sections of the declaration that it needs, which are part of its cache key.

Each class has a method `of(spec)` that takes them from a declaration. A field in `not_in_key` is an address or a
selection; the step's `resolve` phase turns it into a digest.
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
    """The options of a run: the fields of Airflow's trigger form and the options of the command line.

    Attributes:
        data_revision: revision of the data instead of the declared one, for a source with revisions.
        force: compute every step, also if its result is cached.
        candidates: names of the candidates to train; empty for all.
        promote: `auto` follows the gate, `hold` requires an approval, `never` keeps the champion.
        model_version: version or alias of the model that scores a batch.
        shard_rows: rows per shard of a batch.
    """

    data_revision: str | None = None
    force: bool = False
    candidates: tuple[str, ...] = ()
    promote: Promote = "auto"
    model_version: str | None = None
    shard_rows: Annotated[int, Field(gt=0)] | None = None


class Parameters(Section):
    """Base class of the parameters of a step."""

    not_in_key: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def of(cls, spec: Any) -> Self:
        """Return the parameters of the step from a declaration."""
        raise NotImplementedError(f"{cls.__name__}.of")

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the options of one run; most steps have none."""
        return self

    @property
    def estimators(self) -> tuple[str, ...]:
        """Import paths of the estimators that the step fits or calls; their versions are part of the key."""
        return ()


class IngestParameters(Parameters):
    """The source of the rows, and the types of the declared columns."""

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
        """Return the parameters with the data revision of a run.

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
    """The part of a declaration that a decision depends on. `force` continues although nothing has changed."""

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
        """Return the parameters with the candidates and `force` of a run."""
        names = options.candidates
        chosen = tuple(candidate for candidate in self.candidates if not names or candidate.name in names)
        return self.model_copy(update={"candidates": chosen, "force": options.force})


class CheckQualityParameters(Parameters):
    """The declared columns and checks."""

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
    """The target, which every row must have."""

    target: str

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(target=spec.data.target)


class SplitParameters(Parameters):
    """The rule that splits the rows."""

    task: Task
    key: str | None
    target: str
    split: Split

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(task=spec.model.task, key=spec.data.key, target=spec.data.target, split=spec.split)


class TrainParameters(Parameters):
    """A candidate, and its columns. `key` and `target` are not features."""

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
        """Return the parameters for one candidate, by default the first."""
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
    """The metrics, the slices, and the confidence of the intervals.

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
    """The gate, and the promotion that the run allows."""

    model: str
    gate: Gate
    promote: Promote = "auto"

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(model=spec.model.name, gate=spec.gate)

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the promotion option of a run."""
        return self.model_copy(update={"promote": options.promote})


class RegisterParameters(Parameters):
    """The name of the model."""

    model: str

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        return cls(model=spec.model.name)


class DeployParameters(RegisterParameters):
    """The name of the model."""


class RecordParameters(RegisterParameters):
    """The name of the model."""
