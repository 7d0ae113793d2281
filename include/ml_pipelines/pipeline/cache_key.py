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
from ml_pipelines.pipeline.user_code import imported_packages, source_digests
from ml_pipelines.spec.code_packages import top_level

__all__ = ["cache_key", "code_digests", "components_match", "package_versions"]

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
    code: Sequence[str] = (),
) -> tuple[str, Components]:
    """Return the cache key of a step's result and its components.

    Args:
        step: row of the step table. Its code is the import closure of the module of `compute`.
        parameters: parameters of the step, without the fields that its model excludes from the key.
        inputs: artifacts that the step reads; only their digests count, not their addresses.
        key_facts: further values that the result depends on.
        seed: for everything random.
        code: import paths of the estimators, transforms, checks and metrics that the step calls.

    Returns:
        64 hex digits, and the components as JSON values.

    Raises:
        RequestError: a value is not JSON (NaN, infinity or an object), or a module has no source.
    """
    references = [ref for value in inputs.values() for ref in (value if isinstance(value, tuple) else (value,))]
    closure = _closure(step, {ref.kind for ref in references})
    components = {
        "step": step.name,
        "code": closure.digests,
        "parameters": parameters,
        "inputs": {name: _digests(value) for name, value in inputs.items()},
        "facts": key_facts,
        "seed": seed,
        "environment": _environment((*closure.external, *_packages(code))) if step.compute else {},
        "user_code": source_digests(code) if step.compute else {},
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


def components_match(
    components: Components,
    step: Step,
    *,
    parameters: Mapping[str, JsonValue],
    inputs: Mapping[str, ArtifactRef | tuple[ArtifactRef, ...]],
    seed: int,
) -> bool:
    """Return whether components belong to these parameters and inputs.

    The `resolve` function of a step may have added inputs. The code and the versions of packages can differ between a
    worker and a container.
    """
    declared = {"step": step.name, "parameters": parameters, "seed": seed}
    digests = {name: _digests(value) for name, value in inputs.items()}
    of_result = components.get("inputs")
    return isinstance(of_result, dict) and {**components, **declared, "inputs": {**of_result, **digests}} == components


def code_digests(step: Step) -> dict[str, str]:
    """Return the digests of the sources that a step computes with, by module; empty if it computes nothing."""
    return _closure(step, ()).digests


def package_versions(step: Step, code: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python and of the distributions that a step computes with, by name."""
    return _environment((*_closure(step, ()).external, *_packages(code)))


def _closure(step: Step, input_kinds: Iterable[ArtifactKind]) -> Closure:
    if step.compute is None:
        return Closure({}, ())
    kinds = {*step.outputs.values(), *input_kinds}
    formats = [_FORMATS[kind] for kind in kinds & _FORMATS.keys()]
    return import_closure((step.compute.partition(":")[0], *formats))


def _packages(code: Sequence[str]) -> tuple[str, ...]:
    """Return the packages that the code belongs to, and those that it imports."""
    return (*map(top_level, code), *imported_packages(code)) if code else ()


def _environment(modules: Iterable[str]) -> dict[str, str]:
    major, minor, _ = python_version_tuple()
    names = {name for module in modules for name in (module, *_BACKENDS.get(module, ()))}
    versions = dict(filter(None, map(find_distribution, names)))
    return {"python": f"{major}.{minor}"} | {name: versions[name] for name in sorted(versions)}


def _digests(value: ArtifactRef | tuple[ArtifactRef, ...]) -> str | list[str]:
    return value.sha256 if isinstance(value, ArtifactRef) else [ref.sha256 for ref in value]
