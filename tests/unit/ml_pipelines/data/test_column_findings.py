from __future__ import annotations

import datetime as dt
import random
from typing import Any

import polars as pl
import pytest
import yaml

from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.column_findings import find_column_findings
from ml_pipelines.spec.checks import Column
from ml_pipelines.spec.training import Split

ROWS = 1200
RANDOM = random.Random(0)
AMOUNTS = [f"{RANDOM.uniform(1000, 5000):.2f}" for _ in range(ROWS)]


def findings(cells: list[Any], name: str = "x", split: Split | None = None, **options: Any) -> list[CheckResult]:
    table = pl.LazyFrame({name: cells, "other": [row % 7 / 2 for row in range(len(cells))]})
    options = {"roles": (), "declared": (), **options}
    return list(find_column_findings(table, table.collect_schema(), split=split or Split(), **options))


def pasted(result: CheckResult) -> list[dict[str, Any]]:
    """The declarations between backticks of a remedy."""
    return [yaml.safe_load(text) for text in result.remedy.split("`")[1::2]]


@pytest.mark.parametrize(
    "other", ["N/A", "NULL", "?", "1,234.5", "2916,44", "29.2%", "$1,100", "-€ 5", "see note", " "]
)
def test_text_that_is_almost_numeric_is_a_finding(other: str) -> None:
    (result,) = findings([other, *AMOUNTS[1:]])
    assert (result.check, result.severity, result.passed) == ("almost_numeric", "warn", False)
    assert f"{ROWS - 1} of {ROWS} cells" in result.detail
    assert repr(other) in result.detail
    for declaration in pasted(result):
        assert Column.model_validate(declaration["data"]["columns"]["x"])


@pytest.mark.parametrize("form", ["${:,}", "{:,}.5", "{},25", "{}%", "{} €", "({})", "1'{}"])
def test_numbers_with_signs_or_separators_are_a_finding(form: str) -> None:
    cells = [form.format(100 + row % 900) for row in range(ROWS)]
    (result,) = findings(cells)
    assert result.check == "almost_numeric"


def test_many_words_for_a_missing_number_are_a_finding() -> None:
    (result,) = findings(["unknown" if row % 3 == 0 else str(row % 50) for row in range(ROWS)])
    assert result.check == "almost_numeric"


@pytest.mark.parametrize(
    "cells",
    [
        [("red", "blue")[row % 2] for row in range(ROWS)],
        [("10", "12", "M", "L")[row % 4] for row in range(ROWS)],
        ["01234" if row % 9 == 0 else str(10_000 + row % 90) for row in range(ROWS)],
        [("1.2.3", "1.10.0")[row % 2] for row in range(ROWS)],
        [f"+49 30 {row % 90:05}" for row in range(ROWS)],
        [row % 70 for row in range(ROWS)],
        [RANDOM.randrange(20_000, 200_000) for _ in range(ROWS)],
        [2000 + row % 25 for row in range(ROWS)],
        [row * 1.5 for row in range(ROWS)],
        [None] * ROWS,
        ["N/A", "1"] * 5,
    ],
)
def test_ordinary_columns_are_no_finding(cells: list[Any]) -> None:
    assert findings(cells) == []


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%d/%m/%Y", "{day:02}/{month:02}/2024"),
        ("%m/%d/%Y", "{month}/{day}/2024"),
        ("%d.%m.%Y", "{day:02}.{month:02}.2024"),
        ("%d.%m.%y", "{day:02}.{month:02}.24"),
        ("%d-%b-%Y", "{day:02}-Jan-2024"),
        ("%m/%d/%Y %I:%M %p", "{month}/{day}/2024 3:05 PM"),
        ("%d/%m/%Y %H:%M:%S", "{day}/{month}/2024 13:05:00"),
    ],
)
def test_dates_in_text_are_a_finding_with_their_format(form: str, text: str) -> None:
    cells = [text.format(day=row % 28 + 1, month=row % 12 + 1) for row in range(ROWS)]
    result, split = findings(cells)
    (declaration,) = pasted(result)
    assert declaration["data"]["columns"]["x"]["format"] == form
    assert Column.model_validate(declaration["data"]["columns"]["x"]).type == ("datetime" if "M" in form else "date")
    assert (result.check, split.check) == ("date_text", "time_split")


def test_a_day_that_may_be_a_month_is_ambiguous() -> None:
    cells = [f"{row % 12 + 1:02}/{row % 11 + 1:02}/2024" for row in range(ROWS)]
    result = findings(cells)[0]
    forms = [declaration["data"]["columns"]["x"]["format"] for declaration in pasted(result)]
    assert forms == ["%d/%m/%Y", "%m/%d/%Y"]
    assert all(form in result.detail for form in forms)


def test_dates_with_a_word_among_them_keep_the_rows() -> None:
    result = findings(["soon", *(f"2024-01-{row % 28 + 1:02}" for row in range(ROWS - 1))])[0]
    assert f"{ROWS - 1} of {ROWS}" in result.detail
    assert pasted(result)[0]["data"]["columns"]["x"] == {"type": "date", "format": "%Y-%m-%d", "on_fail": "warn"}


@pytest.mark.parametrize(
    ("name", "cells", "check"),
    [
        ("Unnamed: 0", [*range(ROWS)], "index"),
        ("__index_level_0__", RANDOM.sample(range(10_000), ROWS), "index"),
        ("position", [row + 5 for row in RANDOM.sample(range(ROWS), ROWS)], "index"),
        ("customer_id", [row * 17 for row in range(ROWS)], "identifier"),
        ("orderId", [row * 17 for row in range(ROWS)], "identifier"),
        ("name", [f"Person {row * 31}x" for row in range(ROWS)], "identifier"),
        ("comment", [f"note {row}" if row % 2 else None for row in range(ROWS)], "identifier"),
        ("zip", [f"{row * 7:05}" for row in range(ROWS)], "identifier"),
    ],
)
def test_identifiers_and_indexes_are_a_finding(name: str, cells: list[Any], check: str) -> None:
    (result,) = findings(cells, name)
    assert (result.check, result.column) == (check, name)
    assert [declaration["data"] for declaration in pasted(result)] == [{"ignore": [name]}, {"key": name}]
    assert findings(cells, name, declared=(name,)) == findings(cells, name, roles=(name,)) == []


def test_an_identifier_of_a_long_table_is_found_in_a_sample_of_its_values() -> None:
    rows = 300_000
    assert [result.check for result in findings([f"k{row}" for row in range(rows)])] == ["identifier"]
    assert findings([f"k{row % (rows // 3)}" for row in range(rows)]) == []


@pytest.mark.parametrize(
    "cells",
    [
        [1_700_000_000 + row * 777 % 99_999 for row in range(ROWS)],
        [1_700_000_000_000 + row * 777 % 99_999 for row in range(ROWS)],
        [20_240_101 + row % 28 for row in range(ROWS)],
    ],
)
def test_times_as_whole_numbers_are_a_finding(cells: list[int]) -> None:
    result, split = findings(cells)
    assert (result.check, split.check) == ("timestamp", "time_split")


@pytest.mark.parametrize("dtype", [pl.Date(), pl.Datetime("us", "UTC")])
def test_a_time_that_the_split_ignores_is_a_finding(dtype: pl.DataType) -> None:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=row) for row in range(ROWS)]
    cells = pl.Series(days).cast(dtype).to_list()
    for method in ("hash", "stratified"):
        (result,) = findings(cells, "since", Split(method=method), declared=("since",))
        assert (result.check, method in result.detail) == ("time_split", True)
        assert pasted(result) == [{"split": {"method": "time", "column": "since"}}]
    assert findings(cells, "since", Split(method="time", column="since")) == []
    assert findings(cells, "since", roles=("since",)) == []


@pytest.mark.parametrize("name", ["^x$", "*", 'a "b" c'])
def test_column_names_are_taken_as_they_are(name: str) -> None:
    (result,) = findings(["N/A", *AMOUNTS[1:]], name)
    assert pasted(result)[0]["data"]["columns"] == {name: {"type": "float", "on_fail": "warn"}}
