from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml_pipelines.data.date_formats import find_date_formats, parse_format


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        ("%d/%m/%Y", " 03/01/2024 ", dt.date(2024, 1, 3)),
        ("%d/%m/%Y", "31/31/2024", None),
        ("%d.%m.%Y %H:%M", "03.01.2024 12:30", dt.datetime(2024, 1, 3, 12, 30, tzinfo=dt.UTC)),
        ("%Y-%m-%dT%H:%M:%S%z", "2024-01-03T12:30:00+0200", dt.datetime(2024, 1, 3, 10, 30, tzinfo=dt.UTC)),
    ],
)
def test_a_text_is_read_by_its_format(form, text, value) -> None:
    assert pl.DataFrame({"x": [text]}).select(parse_format(pl.col("x"), form)).item() == value


def test_the_formats_that_fit_most_cells_are_found() -> None:
    cells = [f"{day:02}/01/2024" for day in range(1, 29)]
    matches = find_date_formats(pl.LazyFrame({"^x$": [*cells, None]}), "^x$")
    assert [(match.format, match.kind, match.cells) for match in matches] == [("%d/%m/%Y", "date", 28)]
    assert find_date_formats(pl.LazyFrame({"x": ["red", "blue"]}), "x") == []
    assert find_date_formats(pl.LazyFrame({"x": [None, None]}, schema={"x": pl.String}), "x") == []
