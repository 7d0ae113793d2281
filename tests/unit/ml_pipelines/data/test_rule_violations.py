from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.data.column_expressions import ROW
from ml_pipelines.data.rule_violations import (
    MAX_EXAMPLES,
    SEVERITY_ADVICE,
    RuleViolation,
    format_value,
    violation_outcome,
)


def cells(*rows):
    return pl.DataFrame({"x": [f"cell {row}" for row in rows], ROW: rows})


def test_rule_violation_counts_all_cells_and_keeps_the_first_examples():
    violation = RuleViolation("min", "x", "x is not at least 0", 0)
    violation.add(cells(1, 2))
    violation.add(cells(5, 6, 7))
    assert violation.count == 5
    assert violation.examples == [("cell 1", 1), ("cell 2", 2), ("cell 5", 5)]
    assert len(violation.examples) == MAX_EXAMPLES


@pytest.mark.parametrize("severity", ["error", "hold", "warn", "quarantine"])
def test_violation_outcome_has_figures_examples_and_a_remedy(severity):
    violation = RuleViolation("min", "x", "x is not at least 0", 0)
    violation.add(cells(3, 4))
    outcome = violation_outcome(violation, 40, severity)
    result = outcome.result
    assert (result.check, result.column, result.severity, result.passed) == ("min", "x", severity, False)
    assert (result.value, result.limit, result.rows) == (2, 0, 2)
    assert all(fact in result.detail for fact in ("2 of 40", "'cell 3' (row 3)"))
    assert result.remedy == SEVERITY_ADVICE[severity]
    assert (outcome.positions.to_list(), outcome.reason) == ([3, 4], "x is not at least 0")


def test_violation_outcome_passes_without_cells():
    outcome = violation_outcome(RuleViolation("min", "x", "x is not at least 0", 0), 40, "error")
    assert (outcome.result.passed, outcome.result.rows, outcome.positions) == (True, 0, None)
    assert outcome.result.remedy == ""


def test_format_value_quotes_text_and_shortens_it():
    assert (format_value("1"), format_value(1.5), format_value(None)) == ("'1'", "1.5", "None")
    assert len(format_value("a" * 500)) == 63
