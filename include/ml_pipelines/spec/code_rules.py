"""Rules about code that a declaration names: its form, and that the deployment allows its package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_pipelines.spec.code_packages import (
    PACKAGES_VARIABLE,
    allowed_packages,
    is_allowed_package,
    is_code_path,
    top_level,
)
from ml_pipelines.spec.message_text import closest_match, format_value
from ml_pipelines.spec.nested_estimators import nested_fields
from ml_pipelines.spec.value_lookup import items_at, value_at
from ml_pipelines.spec.yaml_source import Loc, YamlIssue

__all__ = ["code_paths", "code_rules"]

_LOCATIONS: tuple[Loc, ...] = (
    ("features", "transform"),
    ("features", "preprocessing"),
    ("gate", "metric", "function"),
)


def code_rules(data: Any) -> Iterator[YamlIssue]:
    """Return the issues of the code that a declaration names. It imports nothing."""
    yield from _candidates(data)
    for loc, path in code_paths(data):
        if is_code_path(path):
            yield from _package(path, loc, "code")


def code_paths(data: Any) -> list[tuple[Loc, str]]:
    """Return the import paths of functions in the plain data of a training declaration, with their locations."""
    paths = [(loc, value_at(data, *loc)) for loc in _LOCATIONS]
    checks = items_at(data, "checks", "custom")
    paths += [((*loc, "function"), value_at(check, "function")) for loc, check in checks]
    report = items_at(data, "gate", "report")
    paths += [((*loc, "function"), value_at(metric, "function")) for loc, metric in report]
    return [(loc, path) for loc, path in paths if isinstance(path, str)]


def _candidates(data: Any) -> Iterator[YamlIssue]:
    names: list[str] = []
    for loc, candidate in items_at(data, "candidates"):
        name, path = value_at(candidate, "name"), value_at(candidate, "estimator")
        if isinstance(name, str) and name in names:
            message = f'expected distinct names, got "{name}", the name of candidates[{names.index(name)}]'
            yield YamlIssue(loc=(*loc, "name"), message=message, hint="rename one of the candidates")
        names.append(str(name))
        if isinstance(path, str):
            yield from _estimator(path, (*loc, "estimator"))
        params = value_at(candidate, "params")
        for field, nested in nested_fields(params) if isinstance(params, dict) else ():
            yield from _estimator(nested["estimator"], (*loc, "params", *field, "estimator"))


def _estimator(path: str, loc: Loc) -> Iterator[YamlIssue]:
    _, _, rest = path.partition(".")
    if issues := [*_package(path, loc, "an estimator")]:
        yield from issues
    elif not is_code_path(path) and (not rest or not all(part.isidentifier() for part in rest.split("."))):
        message = f"expected an import path such as sklearn.linear_model.LogisticRegression, got {format_value(path)}"
        yield YamlIssue(loc=loc, message=message)


def _package(path: str, loc: Loc, what: str) -> Iterator[YamlIssue]:
    """Check that code comes from an allowed package."""
    package, allowed = top_level(path), allowed_packages()
    if not is_allowed_package(package):
        message = f"expected {what} from {' or '.join(allowed)}, got {format_value(path)}"
        match = closest_match(package, list(allowed))
        other = f"a deployment allows other packages by the variable {PACKAGES_VARIABLE}"
        suggestion = f'did you mean "{match}{path.removeprefix(package)}"?'
        yield YamlIssue(loc=loc, message=message, hint=suggestion if match else other)
