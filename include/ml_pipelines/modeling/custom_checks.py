"""Run the checks of a declaration that are functions of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from ml_pipelines.contracts import Finding
from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.column_expressions import BAD_CELLS, ROW
from ml_pipelines.data.rule_violations import SEVERITY_ADVICE, CheckOutcome, RuleViolation, violation_outcome
from ml_pipelines.errors import UserCodeError
from ml_pipelines.modeling.user_transform import input_columns, user_frame
from ml_pipelines.pipeline.user_code import load_code
from ml_pipelines.pipeline.user_errors import user_code_errors
from ml_pipelines.spec.checks import CustomCheck, Severity

__all__ = ["custom_outcomes"]

KEY = "checks.custom"
_FIX = "return a boolean Series with `index=frame.index`, or a list of texts and findings"


def custom_outcomes(table: pl.LazyFrame, checks: tuple[CustomCheck, ...]) -> Iterator[CheckOutcome]:
    """Call each function with a frame of the table, which is collected.

    Args:
        table: the rows with their numbers.
        checks: of the declaration.

    Raises:
        UserCodeError: a function can't be loaded, fails, or returns something else.
    """
    if not checks:
        return
    rows = table.drop(ROW, BAD_CELLS, strict=False)
    frame = user_frame(rows, input_columns(rows, ()))
    for check in checks:
        function = load_code(check.function, where=KEY)
        with user_code_errors(check.function, KEY):
            result = function(frame.copy())
            # A generator runs here, so that its errors show the user's line.
            result = result if isinstance(result, pd.Series) or result is None else [*result]
        yield from _outcomes(result, check, frame.index)


def _outcomes(result: Any, check: CustomCheck, index: pd.Index) -> Iterator[CheckOutcome]:
    if isinstance(result, pd.Series):
        yield _rows(result, check, index)
    elif not result:
        yield CheckOutcome(_result(check, check.on_fail, "", passed=True))
    else:
        for item in result:
            yield CheckOutcome(_finding(item, check))


def _rows(result: pd.Series, check: CustomCheck, index: pd.Index) -> CheckOutcome:
    """Return the outcome of a check that marks the rows that violate it."""
    if not pd.api.types.is_bool_dtype(result.dtype) or not result.index.equals(index) or result.isna().any():
        got = f"{result.dtype} with {len(result)} rows"
        raise _wrong(check, "a boolean for each of the rows, with their index", got)
    violation = RuleViolation(check.function, "", f"{check.function} marks the row")
    rows = np.flatnonzero(result.to_numpy(dtype=bool))
    positions = pl.Series(ROW, rows, dtype=pl.UInt32)
    violation.add(pl.DataFrame({"value": ["marked"] * len(rows), ROW: positions}))
    outcome = violation_outcome(violation, len(index), check.on_fail)
    return CheckOutcome(outcome.result.model_copy(update={"column": None}), outcome.positions, outcome.reason)


def _finding(item: Any, check: CustomCheck) -> CheckResult:
    if isinstance(item, Finding):
        result = _result(check, item.severity, item.detail, remedy=item.remedy)
        return result.model_copy(update={"column": item.column})
    if not isinstance(item, str):
        raise _wrong(check, "a text or a finding", type(item).__name__)
    if check.on_fail == "quarantine":
        raise _wrong(check, "a boolean for each of the rows, since on_fail is quarantine", "a text")
    return _result(check, check.on_fail, item)


def _result(
    check: CustomCheck, severity: Severity, detail: str, *, passed: bool = False, remedy: str = ""
) -> CheckResult:
    return CheckResult(
        check=check.function,
        column=None,
        severity=severity,
        passed=passed,
        detail=detail or f"{check.function} reports nothing",
        remedy="" if passed else remedy or SEVERITY_ADVICE[severity],
    )


def _wrong(check: CustomCheck, expected: str, got: str) -> UserCodeError:
    return UserCodeError(f"{check.function} returns another result", where=KEY, expected=expected, got=got, fix=_FIX)
