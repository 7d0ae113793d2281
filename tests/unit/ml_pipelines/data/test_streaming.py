from __future__ import annotations

import os

import polars as pl
import pytest

from ml_pipelines.data.streaming import aggregate, limit_chunk_size, report_progress

VARIABLE = "POLARS_CSV_CHUNK_SIZE"


@pytest.mark.parametrize("before", [None, "123"])
def test_limit_chunk_size_restores_the_settings(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, before)
    with limit_chunk_size(4000, 10):
        assert os.environ[VARIABLE] == "16000"
        assert "100" in pl.Config.state(if_set=True).values()
    assert os.environ.get(VARIABLE) == before


def test_limit_chunk_size_restores_the_settings_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ZeroDivisionError), limit_chunk_size(1, 1):
        raise ZeroDivisionError
    assert VARIABLE not in os.environ


def test_report_progress_returns_the_same_table_and_reports_each_row_once() -> None:
    reports: list[int] = []
    table = pl.LazyFrame({"a": range(100_000), "b": [None, "x"] * 50_000})
    assert report_progress(table, reports.append).collect(engine="streaming").equals(table.collect())
    assert sum(reports) == 100_000


@pytest.mark.parametrize("name", ["^b$", "*"])
def test_report_progress_takes_column_names_as_they_are(name: str) -> None:
    reports: list[int] = []
    table = pl.LazyFrame({name: [1, 2, 3], "b": ["x", "y", "z"]})
    assert report_progress(table, reports.append).collect().equals(table.collect())
    assert sum(reports) == 3


def test_aggregate_collects_a_result() -> None:
    assert aggregate(pl.LazyFrame({"a": [1, 2]}).select(pl.col("a").sum())).item() == 3
