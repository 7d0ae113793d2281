"""The parameters of each step: the sections of the declaration that it needs, which are part of its cache key.

Each class has a method `of(spec)` that takes them from a declaration. A field in `not_in_key` is an address or a
selection; the step's `resolve` phase turns it into a digest.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from ml_pipelines.contracts import Promote
from ml_pipelines.errors import RequestError
from ml_pipelines.spec.checks import Checks, Column, ColumnType
from ml_pipelines.spec.custom_metric import metric_function
from ml_pipelines.spec.gate import Gate, Slices
from ml_pipelines.spec.metric_table import METRICS, Task
from ml_pipelines.spec.sources import Section, Source, SourceSection
from ml_pipelines.spec.threshold import Threshold
from ml_pipelines.spec.training import Candidate, Features, PipelineSpec, Split

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


_DECIDING = ("checks", "split", "features", "threshold", "refit", "seed", "gate")
DeclaredThreshold = Annotated[Threshold | None, Field(exclude_if=lambda threshold: threshold is None)]


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
    def code(self) -> tuple[str, ...]:
        """Import paths of the code that the step calls; its sources and versions are part of the key."""
        return ()


class IngestParameters(Parameters):
    """The source of the rows, and the types of the declared columns.

    `used_by` holds the columns that other keys of the declaration name, by the key. Ingest checks that they exist.
    """

    not_in_key: ClassVar[frozenset[str]] = frozenset({"source", "used_by"})

    source: Source
    types: dict[str, ColumnType]
    formats: dict[str, str] = Field(default={})
    key: str | None
    target: str
    ignore: tuple[str, ...]
    used_by: dict[str, tuple[str, ...]] = Field(default={})

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data = spec.data
        types = {name: column.type for name, column in data.columns.items()}
        outliers = spec.features.outliers
        used_by = {
            "split.column": (spec.split.column,) if spec.split.column is not None else (),
            "split.group": (spec.split.group,) if spec.split.group is not None else (),
            "gate.slices.columns": tuple(spec.gate.slices.columns),
            # With a transform, they are columns of its result.
            "features.outliers.columns": tuple(outliers.columns) if outliers and not spec.features.transform else (),
        }
        return cls(
            source=spec.located(data.source),
            types=types,
            formats=data.formats,
            key=data.key,
            target=data.target,
            ignore=data.ignore,
            used_by={field: names for field, names in used_by.items() if names},
        )

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the data revision of a run.

        Raises:
            RequestError: the source has no revisions.
        """
        return self.model_copy(update={"source": revised(self.source, options.data_revision)})


def _present(*paths: str | None) -> tuple[str, ...]:
    """Return the import paths that are declared."""
    return tuple(path for path in paths if path is not None)


def _functions(checks: Checks) -> tuple[str, ...]:
    """Return the import paths of the custom checks."""
    return tuple(dict.fromkeys(check.function for check in checks.custom))


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
    threshold: DeclaredThreshold = None
    refit: bool = True
    seed: int
    gate: Gate
    force: bool = False

    @property
    def code(self) -> tuple[str, ...]:
        estimators = dict.fromkeys(path for candidate in self.candidates for path in candidate.estimators)
        return (
            *estimators,
            *_present(self.features.transform, self.features.preprocessing),
            *_functions(self.checks),
            *_present(*map(metric_function, (self.gate.metric, *self.gate.report))),
        )

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data = {name: getattr(spec.data, name) for name in ("key", "target", "positive", "ignore", "columns")}
        same = {name: getattr(spec, name) for name in _DECIDING}
        return cls(model=spec.model.name, task=spec.model.task, candidates=spec.effective_candidates, **data, **same)

    def for_run(self, options: RunOptions) -> Self:
        """Return the parameters with the candidates and `force` of a run."""
        names = options.candidates
        chosen = tuple(candidate for candidate in self.candidates if not names or candidate.name in names)
        return self.model_copy(update={"candidates": chosen, "force": options.force})


class CheckQualityParameters(Parameters):
    """The declared columns and checks, the split, and the defaults that were derived."""

    task: Task
    key: str | None
    target: str
    positive: str | int | bool | None = None
    columns: dict[str, Column]
    checks: Checks
    split: Split = Split()
    derived: dict[str, str] = Field(default={})

    @property
    def code(self) -> tuple[str, ...]:
        return _functions(self.checks)

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data = spec.data
        names = ("key", "target", "positive", "columns")
        same = {name: getattr(spec, name) for name in ("checks", "split", "derived")}
        return cls(task=spec.model.task, **{name: getattr(data, name) for name in names}, **same)


class PreprocessParameters(Parameters):
    """The target, which every row must have, and the transform, which is checked on all rows."""

    target: str
    key: str | None = None
    group: str | None = None
    transform: str | None = None

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data, transform = spec.data, spec.features.transform
        return cls(target=data.target, key=data.key, group=spec.split.group, transform=transform)

    @property
    def code(self) -> tuple[str, ...]:
        return _present(self.transform)


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
    """A candidate, its columns and its rows. `key`, `target` and `group` are not features."""

    task: Task
    key: str | None
    group: str | None = None
    target: str
    positive: str | int | bool | None
    features: Features
    formats: dict[str, str] = Field(default={})
    candidate: Candidate
    threshold: DeclaredThreshold = None
    refit: bool = True
    model: str

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model"})

    @classmethod
    def of(cls, spec: PipelineSpec, candidate: Candidate | None = None) -> Self:
        """Return the parameters for one candidate, by default the first."""
        data = spec.data
        return cls(
            task=spec.model.task,
            key=data.key,
            group=spec.split.group,
            target=data.target,
            positive=data.positive,
            features=spec.features,
            formats=data.formats,
            candidate=candidate or spec.effective_candidates[0],
            threshold=spec.threshold,
            refit=spec.refit,
            model=spec.model.name,
        )

    @property
    def code(self) -> tuple[str, ...]:
        return (*self.candidate.estimators, *_present(self.features.transform, self.features.preprocessing))


class EvaluateParameters(Parameters):
    """The metrics, the slices, and the confidence of the intervals.

    `other_metrics` are the metrics that the gate names and this package does not declare. `report_metrics` are further
    ones that decide nothing. `model` finds the champion.
    `candidates` are the import paths of the code in the models. Rows of the same `group` are resampled together. Limits
    of the gate are absent, because another limit needs no new evaluation.
    """

    task: Task
    key: str | None
    group: str | None = None
    target: str
    metric: str
    other_metrics: tuple[str, ...] = ()
    report_metrics: tuple[str, ...] = ()
    slices: Slices
    confidence: float
    draws: int
    model: str
    candidates: tuple[str, ...] = ()
    transform: str | None = None

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "candidates"})

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        data, gate = spec.data, spec.gate
        measured = {*METRICS, *gate.metrics}
        return cls(
            task=spec.model.task,
            key=data.key,
            group=spec.split.group,
            target=data.target,
            metric=gate.metric,
            other_metrics=tuple(sorted(name for name in gate.metrics if name not in METRICS)),
            report_metrics=tuple(dict.fromkeys(name for name in gate.report if name not in measured)),
            slices=Slices(columns=gate.slices.columns, min_rows=gate.slices.min_rows),
            confidence=gate.confidence,
            draws=gate.draws,
            model=spec.model.name,
            candidates=tuple(
                sorted(
                    {path for candidate in spec.effective_candidates for path in candidate.estimators}
                    | {*_present(spec.features.preprocessing)}
                )
            ),
            transform=spec.features.transform,
        )

    @property
    def code(self) -> tuple[str, ...]:
        metrics = map(metric_function, (self.metric, *self.other_metrics, *self.report_metrics))
        return (*self.candidates, *dict.fromkeys(_present(self.transform, *metrics)))


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
