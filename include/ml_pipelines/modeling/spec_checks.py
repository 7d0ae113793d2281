"""Issues of a declaration that only a library can find: estimators, their parameters, and regular expressions.

:mod:`ml_pipelines.spec.cross_field_rules` has the rules that need no library: a DAG file is parsed without these
libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from ml_pipelines.errors import EstimatorError, MissingExtra, UserCodeError
from ml_pipelines.modeling.estimators import build_estimator, require_scikit_learn
from ml_pipelines.pipeline.user_code import load_code
from ml_pipelines.spec.code_packages import is_allowed_package, is_code_path, top_level
from ml_pipelines.spec.code_rules import code_paths
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.training import Candidate
from ml_pipelines.spec.yaml_source import YamlIssue

__all__ = ["find_library_issues"]


def find_library_issues(data: Mapping[str, Any]) -> list[YamlIssue]:
    """Return the issues that libraries find in the plain data of a training declaration.

    Missing fields and wrong types are no issues here; :mod:`ml_pipelines.spec.loader` reports them.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    require_scikit_learn(where="candidates")
    return [*_candidates(data), *_code(data), *_patterns(data)]


def _code(data: Mapping[str, Any]) -> Iterator[YamlIssue]:
    """Import the functions that the declaration names and the deployment allows."""
    for loc, path in code_paths(data):
        if is_code_path(path) and is_allowed_package(top_level(path)):
            try:
                load_code(path, where=".".join(map(str, loc)))
            except UserCodeError as exc:
                facts = f"{exc.what}: {exc.got}" if exc.got else exc.what
                yield YamlIssue(loc=loc, message=facts, hint=exc.fix)


def _candidates(data: Mapping[str, Any]) -> Iterator[YamlIssue]:
    model, candidates = data.get("model"), data.get("candidates")
    task: Any = model.get("task") if isinstance(model, dict) else None
    if task not in get_args(Task) or not isinstance(candidates, list):
        return
    for index, declared in enumerate(candidates):
        try:
            build_estimator(Candidate.model_validate(declared), task=task, seed=0)
        except ValidationError:
            continue
        except EstimatorError as exc:
            facts = f"expected {exc.expected}" if exc.expected else exc.got
            yield YamlIssue(
                loc=("candidates", index, *exc.field),
                message=f"{exc.what}: {facts}" if facts else exc.what,
                hint=exc.fix,
                at_key=exc.at_key,
            )
        except MissingExtra as exc:
            yield YamlIssue(loc=("candidates", index, "estimator"), message=exc.what, hint=exc.fix)


def _patterns(data: Mapping[str, Any]) -> Iterator[YamlIssue]:
    declared = data.get("data")
    columns = declared.get("columns") if isinstance(declared, dict) else None
    for name, column in columns.items() if isinstance(columns, dict) else ():
        pattern = column.get("pattern") if isinstance(column, dict) else None
        if isinstance(pattern, str) and (fault := _pattern_fault(pattern)):
            message = f"expected a regular expression as Rust has them, without look-around; {fault}"
            yield YamlIssue(loc=("data", "columns", name, "pattern"), message=message)


def _pattern_fault(pattern: str) -> str:
    """The fault of a regular expression; empty if polars accepts it."""
    # Imported here, because most declarations have no pattern.
    import polars as pl

    try:
        for whole in (pattern, f"^(?:{pattern})$"):  # the quality check runs the latter
            pl.Series([""]).str.contains(whole)
    except pl.exceptions.ComputeError as exc:
        match = re.search(r"^error: (.+)", str(exc), re.MULTILINE)
        return match[1] if match else str(exc).partition("\n")[0]
    return ""
