"""The recipe of a result: everything that it depends on, and the key that stands for it.

Same recipe, same result: the key is a digest of the recipe's components, which are kept beside the result so that a
later miss can say what is different.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import metadata, util
from importlib.machinery import SourceFileLoader
from platform import python_version_tuple

from ml_pipelines._utils.canonical_json import Components, canonical_json, sha256_hex
from ml_pipelines.contracts import ArtifactRef, JsonValue
from ml_pipelines.errors import MissingExtra, RequestError
from ml_pipelines.pipeline.step import Step

__all__ = ["cache_key", "code_digests", "package_versions"]


def cache_key(
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
        "code": code_digests(step),
        "parameters": parameters,
        "inputs": {name: _digests(value) for name, value in inputs.items()},
        "facts": key_facts,
        "seed": seed,
        "environment": package_versions(step),
    }
    text = canonical_json(components)
    return sha256_hex(text), json.loads(text)


def code_digests(step: Step) -> dict[str, str]:
    """Digests of the source of the module that computes and of `step.modules`, by name."""
    modules = {*step.modules, *([step.compute.partition(":")[0]] if step.compute else [])}
    return {module: _source_digest(module) for module in sorted(modules)}


def package_versions(step: Step) -> dict[str, str]:
    """Versions of Python and of the packages that a step computes with.

    Raises:
        MissingExtra: one of them is not installed.
    """
    major, minor, _ = python_version_tuple()
    return {"python": f"{major}.{minor}"} | {name: _version(name) for name in step.packages}


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
    return sha256_hex(spec.loader.get_source(module) or "")


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
