"""The cache key of a result: a digest of everything that the result depends on.

The components of the key are stored beside the result, so that a later miss can name the component that changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from platform import python_version_tuple

from ml_pipelines._utils.canonical_json import Components, canonical_json, sha256_hex
from ml_pipelines._utils.distributions import find_distribution
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, JsonValue
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.import_closure import Closure, import_closure
from ml_pipelines.pipeline.step import Step

__all__ = ["cache_key", "code_digests", "package_versions"]

# The modules that read and write an artifact are part of the code that computes it.
_FORMATS: dict[ArtifactKind, str] = {
    "table": "ml_pipelines.data.table_writer",
    "json": "ml_pipelines._utils.canonical_json",
    "model": "ml_pipelines.modeling.serialization",
}
# Numerical libraries that compute for a package although no module of the closure imports them.
_BACKENDS = {"sklearn": ("scipy",)}


def cache_key(
    step: Step,
    *,
    parameters: Mapping[str, JsonValue],
    inputs: Mapping[str, ArtifactRef | tuple[ArtifactRef, ...]],
    key_facts: Mapping[str, JsonValue],
    seed: int,
    estimators: Sequence[str] = (),
) -> tuple[str, Components]:
    """Return the cache key of a step's result and its components.

    Args:
        step: row of the step table. Its code is the import closure of the module of `compute`.
        parameters: parameters of the step, without the fields that its model excludes from the key.
        inputs: artifacts that the step reads; only their digests count, not their addresses.
        key_facts: further values that the result depends on.
        seed: for everything random.
        estimators: import paths of the estimators that the step fits or calls.

    Returns:
        64 hex digits, and the components as JSON values.

    Raises:
        RequestError: a value is not JSON (NaN, infinity or an object), or a module has no source.
    """
    references = [ref for value in inputs.values() for ref in (value if isinstance(value, tuple) else (value,))]
    closure = _closure(step, {ref.kind for ref in references}, estimators)
    components = {
        "step": step.name,
        "code": closure.digests,
        "parameters": parameters,
        "inputs": {name: _digests(value) for name, value in inputs.items()},
        "facts": key_facts,
        "seed": seed,
        "environment": _environment((*closure.external, *map(_top_level, estimators))) if step.compute else {},
    }
    try:
        text = canonical_json(components)
    except (ValueError, TypeError) as exc:
        raise RequestError(
            "a parameter or fact can't be part of a key",
            where=f"step {step.name}",
            expected="JSON values with finite numbers",
            got=str(exc),
            fix="remove NaN, infinity and objects from the step's parameters",
        ) from exc
    return sha256_hex(text), json.loads(text)


def code_digests(step: Step) -> dict[str, str]:
    """Return the digests of the sources that a step computes with, by module; empty if it computes nothing."""
    return _closure(step, (), ()).digests


def package_versions(step: Step, estimators: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python and of the distributions that a step computes with, by name."""
    return _environment((*_closure(step, (), estimators).external, *map(_top_level, estimators)))


def _closure(step: Step, input_kinds: Iterable[ArtifactKind], estimators: Sequence[str]) -> Closure:
    if step.compute is None:
        return Closure({}, ())
    kinds = {*step.outputs.values(), *input_kinds}
    # An estimator without a distribution has no version: its source stands for it.
    own = [path.rpartition(".")[0] for path in estimators if find_distribution(_top_level(path)) is None]
    formats = [_FORMATS[kind] for kind in kinds & _FORMATS.keys()]
    return import_closure((step.compute.partition(":")[0], *formats, *own))


def _top_level(path: str) -> str:
    return path.partition(".")[0]


def _environment(modules: Iterable[str]) -> dict[str, str]:
    major, minor, _ = python_version_tuple()
    names = {name for module in modules for name in (module, *_BACKENDS.get(module, ()))}
    versions = dict(filter(None, map(find_distribution, names)))
    return {"python": f"{major}.{minor}"} | {name: versions[name] for name in sorted(versions)}


def _digests(value: ArtifactRef | tuple[ArtifactRef, ...]) -> str | list[str]:
    return value.sha256 if isinstance(value, ArtifactRef) else [ref.sha256 for ref in value]
