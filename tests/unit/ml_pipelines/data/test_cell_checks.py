from __future__ import annotations

import math

import polars as pl
import pytest

from ml_pipelines.data import cell_checks
from ml_pipelines.data.cell_checks import check_cells
from ml_pipelines.data.column_expressions import ROW
from ml_pipelines.errors import DataError
from ml_pipelines.spec.checks import Column


def check(frame, columns):
    declared = {name: Column(**column) for name, column in columns.items()}
    return check_cells(frame.lazy().with_row_index(ROW), declared)


def rows(violation):
    return pl.concat(violation.positions).to_list() if violation.positions else []


RULES = {
    "min": ({"type": "float", "min": 0}, 0, -1.0),
    "max": ({"type": "float", "max": 6.5}, 6.5, 7.0),
    "above": ({"type": "float", "above": -1}, -1, -1.0),
    "below": ({"type": "float", "below": 7}, 7, 7.0),
    "allowed": ({"type": "float", "allowed": [0, 1, 2, -1]}, [0, 1, 2, -1], 7.0),
}


@pytest.mark.parametrize("name", RULES)
def test_check_cells_finds_the_cells_that_break_a_rule(name):
    column, limit, bad = RULES[name]
    values = [1.0, -1.0 if bad == -1.0 else 7.0, None, math.nan, 0.0]
    (violation,) = check(pl.DataFrame({"x": values}, strict=False), {"x": column})
    assert (violation.check, violation.column, violation.limit) == (name, "x", limit)
    assert (rows(violation), violation.examples, violation.count) == ([1], [(bad, 1)], 1)


def test_check_cells_returns_rules_without_violations():
    (low, high) = check(pl.DataFrame({"x": [1, 2]}), {"x": {"type": "integer", "min": 0, "max": 5}})
    assert (low.count, high.count) == (0, 0)


@pytest.mark.parametrize(
    ("pattern", "broken"),
    [(r"[A-Z]{2}", ["ü", "AB1", "ab", "AB\n", "größe"]), (r"\p{Lu}\w+|x", ["ab", "ÄB\n", "", " x"])],
)
def test_check_cells_matches_a_pattern_with_the_whole_text(pattern, broken):
    (violation,) = check(pl.DataFrame({"s": [*broken, "AB"]}), {"s": {"type": "string", "pattern": pattern}})
    assert rows(violation) == list(range(len(broken)))
    assert pattern in violation.reason


@pytest.mark.parametrize("rule", [{"pattern": "(?=a)"}, {"pattern": "("}, {"min": 3}])
def test_check_cells_reports_a_rule_that_does_not_apply(rule):
    name = next(iter(rule))
    with pytest.raises(DataError, match=f"{name!r}.*'id'") as caught:
        check(pl.DataFrame({"id": ["a"]}), {"id": {"type": "string", **rule}})
    assert caught.value.where == f"data.columns.id.{name}"


def test_check_cells_compares_allowed_values_as_the_type_of_the_column():
    frame = pl.DataFrame({"s": ["1"], "b": [True]}).with_columns(day=pl.date(2026, 10, 31))
    columns = {
        "s": {"type": "string", "allowed": [1]},
        "b": {"type": "boolean", "allowed": [True]},
        "day": {"type": "date", "allowed": ["2026-10-31"]},
    }
    assert [violation.count for violation in check(frame, columns)] == [0, 0, 0]


def test_check_cells_numbers_the_rows_across_batches(monkeypatch):
    monkeypatch.setattr(cell_checks, "BATCH_ROWS", 7)
    values = [-1.0 if row in (6, 7, 20, 39) else 1.0 for row in range(40)]
    (violation,) = check(pl.DataFrame({"x": values}), {"x": {"type": "float", "min": 0}})
    assert rows(violation) == [6, 7, 20, 39]
    assert violation.examples == [(-1.0, 6), (-1.0, 7), (-1.0, 20)]


def test_check_cells_takes_column_names_as_they_are():
    names = ["^income$", "income", "*", 'a "b" c']
    frame = pl.DataFrame({name: [0, position] for position, name in enumerate(names)})
    violations = check(frame, {name: {"type": "integer", "max": 1} for name in names})
    assert [(violation.column, rows(violation)) for violation in violations] == [
        ("^income$", []),
        ("income", []),
        ("*", [1]),
        ('a "b" c', [1]),
    ]
