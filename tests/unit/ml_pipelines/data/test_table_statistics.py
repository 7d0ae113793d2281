from __future__ import annotations

import math

import polars as pl
import pytest

from ml_pipelines.data.column_expressions import BAD_CELLS, ROW, column
from ml_pipelines.data.rule_violations import RuleViolation
from ml_pipelines.data.table_statistics import compute_statistics, find_violations

TABLE = pl.LazyFrame(
    {
        "x": [1.0, math.nan, None, math.inf],
        "c": [5, None, 5, 5],
        "s": ["a", "b", None, None],
        "e": pl.Series([None] * 4, dtype=pl.String),
    }
)


def test_compute_statistics_counts_cells_by_column():
    statistics = compute_statistics(TABLE)
    assert statistics.rows == 4
    assert statistics.missing == {"x": 2, "c": 1, "s": 2, "e": 4}
    assert statistics.infinite == {"x": 1}
    assert statistics.constant == {"x": False, "c": True, "s": False, "e": False}
    assert ROW in statistics.frame.collect_schema()
    assert not statistics.has_bad_cells


def test_compute_statistics_leaves_the_bad_cells_out():
    statistics = compute_statistics(TABLE.with_columns(pl.lit(None).alias(BAD_CELLS)))
    assert statistics.has_bad_cells
    assert list(statistics.schema) == ["x", "c", "s", "e"]


def test_compute_statistics_of_an_empty_table():
    statistics = compute_statistics(TABLE.head(0))
    assert (statistics.rows, set(statistics.missing.values()), set(statistics.constant.values())) == (0, {0}, {False})


@pytest.mark.parametrize("name", ["^x$", "*", 'a "b" c'])
def test_compute_statistics_takes_column_names_as_they_are(name):
    statistics = compute_statistics(pl.LazyFrame({name: [1.0, None], "x": [math.inf, math.inf]}))
    assert statistics.missing == {name: 1, "x": 0}
    assert statistics.infinite == {name: 0, "x": 2}


def test_find_violations_adds_rows_and_examples():
    statistics = compute_statistics(TABLE)
    violation = find_violations(statistics, RuleViolation("rule", "s", "reason"), column("c") == 5)
    assert (violation.count, violation.examples) == (3, [("a", 0), (None, 2), (None, 3)])
    violation = find_violations(statistics, RuleViolation("rule", "s", "reason"), column("c") == 5, column("x"))
    assert violation.examples == [(1.0, 0), (None, 2), (math.inf, 3)]
