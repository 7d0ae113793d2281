"""The recipe of a result: everything that it depends on, and the key that stands for it.

Same recipe, same result: the key is a digest of the recipe's components, which are kept beside the result so that a
later miss can say what is different.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import metadata, util
from importlib.machinery import SourceFileLoader
from platform import python_version_tuple
from typing import Any

from ml_pipelines.catalog import Step
from ml_pipelines.contracts import ArtifactRef, JsonValue
from ml_pipelines.errors import MissingExtra, RequestError

__all__ = ["Components", "code_of", "differences", "environment_of", "key_of", "recipe_key"]

Components = dict[str, JsonValue]

_LONGEST_CHANGE = 120
_NOTHING = object()


def recipe_key(
    step: Step,
    *,
    parameters: Mapping[str, JsonValue],
    inputs: Mapping[str, ArtifactRef | tuple[ArtifactRef, ...]],
    key_facts: Mapping[str, JsonValue],
    seed: int,
) -> tuple[str, Components]:
    """The key of a step's result, and the components that it is the digest of.

    Args:
        step: row of the catalog. The code is that of the module that computes and of `step.modules`.
        parameters: what the step is told, without what its model excludes from the key.
        inputs: what it computes from; only the digests count, not where the artifacts are.
        key_facts: what else the result depends on.
        seed: for everything random.

    Returns:
        64 hex digits, and the components as JSON values.

    Raises:
        MissingExtra: a package that the step needs is not installed.
        RequestError: a value is not JSON: NaN, infinity or some object.
    """
    components = {
        "step": step.name,
        "code": code_of(step),
        "parameters": parameters,
        "inputs": {name: _digests(value) for name, value in inputs.items()},
        "facts": key_facts,
        "seed": seed,
        "environment": environment_of(step),
    }
    text = _canonical(components)
    return _sha256(text), json.loads(text)


def code_of(step: Step) -> dict[str, str]:
    """Digests of the source of the module that computes and of `step.modules`, by name."""
    modules = {*step.modules, *([step.compute.partition(":")[0]] if step.compute else [])}
    return {module: _source_digest(module) for module in sorted(modules)}


def environment_of(step: Step) -> dict[str, str]:
    """Versions of Python and of the packages that a step computes with.

    Raises:
        MissingExtra: one of them is not installed.
    """
    major, minor, _ = python_version_tuple()
    return {"python": f"{major}.{minor}"} | {name: _version(name) for name in step.packages}


def key_of(components: Components) -> str:
    """The key of a recipe."""
    return _sha256(_canonical(components))


def differences(old: Components, new: Components) -> list[str]:
    """What is different between two recipes of a step, one sentence each; empty if they are the same."""
    return [_sentence(*change) for change in _changes(old, new, ())]


def _canonical(components: Mapping[str, Any]) -> str:
    try:
        return json.dumps(components, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError) as exc:
        raise RequestError(
            "a parameter or fact can't be part of a key",
            where=f"step {components.get('step')}",
            expected="JSON values with finite numbers",
            got=str(exc),
            fix="remove NaN, infinity and objects from the step's parameters",
        ) from exc


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(value: ArtifactRef | tuple[ArtifactRef, ...]) -> str | list[str]:
    return value.sha256 if isinstance(value, ArtifactRef) else [ref.sha256 for ref in value]


@functools.cache  # as the module itself, which is imported once
def _source_digest(module: str) -> str:
    """Digest of a module's source, the same whatever its line endings; imports at most the packages above it."""
    spec = util.find_spec(module)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        raise RequestError(
            f"the source of {module} can't be found",
            expected="a Python file",
            got=str(spec and spec.origin),
            fix="install the package with its sources",
        )
    return _sha256(spec.loader.get_source(module) or "")


@functools.cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError as exc:
        raise MissingExtra(
            f"the package {distribution!r} is not installed",
            expected="the packages that the step computes with",
            fix='install the extra that brings it: pip install "airflow-provider-ml-pipelines[ml]"',
        ) from exc


def _changes(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in (*new, *(name for name in old if name not in new)):
            yield from _changes(old.get(name, _NOTHING), new.get(name, _NOTHING), (*path, name))
    elif _shown(old) != _shown(new):
        yield path, old, new


def _sentence(path: tuple[str, ...], old: Any, new: Any) -> str:
    section, *rest = path
    name = ".".join(rest)
    if section == "inputs":
        return f"input {name} changed"
    if section == "code":
        return f"code of {name} changed"
    subject = {"parameters": f"parameters.{name}", "facts": f"fact {name}", "environment": name}.get(section, section)
    change = f" from {_shown(old)} to {_shown(new)}"
    return f"{subject} changed{change if len(change) <= _LONGEST_CHANGE else ''}"


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value, sort_keys=True, ensure_ascii=False)
