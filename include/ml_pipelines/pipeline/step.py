"""The row of a step, and the arguments and results of its phases; see :mod:`ml_pipelines.pipeline.training`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity, JsonValue
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.facts import Facts
from ml_pipelines.pipeline.step_parameters import Parameters

__all__ = ["Publication", "References", "Resolution", "Step", "StepOutput", "all_artifacts", "one_artifact"]

References = dict[str, ArtifactRef | tuple[ArtifactRef, ...]]
ParametersT = TypeVar("ParametersT", bound=Parameters)
ReadsT = TypeVar("ReadsT")


def one_artifact(references: References, name: str) -> ArtifactRef:
    """Return the single artifact of a name.

    Raises:
        RequestError: the request has no artifact of this name, or a list of them.
    """
    reference = references.get(name)
    if isinstance(reference, ArtifactRef):
        return reference
    raise RequestError(
        f"the request has no single artifact {name!r}",
        expected=f"one artifact {name!r}",
        got="no such artifact" if reference is None else f"{len(reference)} artifacts",
        fix="make the request from the results of the earlier steps",
    )


def all_artifacts(references: References, name: str) -> tuple[ArtifactRef, ...]:
    """Return the artifacts of a mapped step; empty if the run did not reach it."""
    reference = references.get(name, ())
    return (reference,) if isinstance(reference, ArtifactRef) else reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The result of `resolve(parameters, inputs, services, identity)`.

    Attributes:
        inputs: artifacts to compute from, in addition to those of the request.
        key_facts: further values that the result depends on; part of the key.
        values: values to add to the values of the result.
        prepare: function that returns further arguments of `compute`. It is called on a miss, with an empty local
            directory.
        cacheable: False if the version of an input is unknown, so that the step always computes.
    """

    inputs: References = field(default_factory=dict)
    key_facts: dict[str, JsonValue] = field(default_factory=dict)
    values: dict[str, JsonValue] = field(default_factory=dict)
    prepare: Callable[[str], dict[str, Any]] | None = None
    cacheable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """The result of `compute(*, parameters, seed, **inputs)`.

    Attributes:
        outputs: by name, in the form of their kind: `table` a polars LazyFrame, `json` a dict, `model` a fitted
            scikit-learn estimator, `image` PNG bytes, `html` text.
        values: counts, metrics, names. Finite floats only.
        rows: by names of tables, how many rows they have together. The runner compares it with the rows that it writes.
        partial: a candidate failed, so the cache does not store the result.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    values: dict[str, JsonValue] = field(default_factory=dict)
    rows: dict[tuple[str, ...], int] = field(default_factory=dict)
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication(Generic[ParametersT, ReadsT]):
    """The arguments of `publish(work, services)`, which returns further values.

    Attributes:
        parameters: parameters of the step.
        references: the request's inputs, its context and the step's own outputs, by name.
        values: values of `resolve` and `compute`.
        facts: facts of earlier steps, an object of the class :attr:`Step.reads`.
        identity: the run and the task.
        key: cache key.
    """

    parameters: ParametersT
    references: References
    values: dict[str, JsonValue]
    facts: ReadsT
    identity: Identity
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row of a step table.

    Attributes:
        name: name of the step.
        parameters: pydantic model whose fields are sections of the declaration, as `module:class`.
        resolve: `module:function`, or None.
        compute: `module:function`, or None.
        publish: `module:function`, or None.
        inputs: argument of `compute` -> `step.output` that it comes from. Those of a mapped step are a list.
        context: the same for arguments that only `publish` takes.
        facts: contract of the values that the step hands on; None for values without a contract.
        reads: dataclass of the earlier facts that `publish` reads, with one field for each step; None for no facts.
        outputs: name -> kind. `shard_*` is any number of outputs, `shard_0` and so on.
        failure: `module:function` that turns the parameters and a ModelError of `compute` into the output `failure`, or
            None. The result then has this output and no other one; otherwise it has all outputs but this one.
        task: the task that runs the step after its built-in steps; only for a step of an installed extension.
    """

    name: str
    parameters: str
    resolve: str | None = None
    compute: str | None = None
    publish: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    facts: type[Facts] | None = None
    reads: type[Any] | None = None
    outputs: dict[str, ArtifactKind] = field(default_factory=dict)
    failure: str | None = None
    task: str = ""
