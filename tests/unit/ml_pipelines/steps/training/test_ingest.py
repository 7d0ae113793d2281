from __future__ import annotations

import datetime as dt
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.data.column_expressions import BAD_CELLS
from ml_pipelines.data.source_table import SourceTable, open_source
from ml_pipelines.errors import DataError, NoRows
from ml_pipelines.pipeline.step_parameters import IngestParameters
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.steps.training.ingest import ingest
from ml_pipelines.steps.training.ingest_io import resolve

SAMPLES = files("ml_pipelines") / "sample_data"
IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")


def parameters(types=None, *, target="y", key=None, ignore=(), used_by=None):
    return IngestParameters(
        source=FileSource(path="x"), types=types or {}, key=key, target=target, ignore=ignore, used_by=used_by or {}
    )


def read(path, types=None, **kwargs):
    source = open_source(str(path), "rows.csv", str(path.parent))
    return ingest(source=source, parameters=parameters(types, **kwargs), seed=0)


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "data.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


class Source:
    def __init__(self, digest):
        self.digest = digest

    def pin(self):
        return DataPin(source="file", location="rows.csv", digest=self.digest)

    def fetch(self, pin, directory):
        assert pin == self.pin()
        Path(directory, "rows.csv").write_text("a,y\n1,2\n")
        return f"{directory}/rows.csv"


def test_resolve_pins_the_data_and_fetches_it_on_request(tmp_path):
    services = SimpleNamespace(source=lambda declared: Source("md5:1"))
    resolution = resolve(parameters(), {}, services, IDENTITY)
    pin = DataPin(source="file", location="rows.csv", digest="md5:1").model_dump(mode="json")
    assert (resolution.key_facts, resolution.values, resolution.cacheable) == ({"data": "md5:1"}, {"pin": pin}, True)
    prepared = resolution.prepare(str(tmp_path))
    assert prepared == {"source": SourceTable(f"{tmp_path}/rows.csv", "rows.csv", ("a", "y"), rows=1)}


def test_resolve_is_not_cacheable_without_a_digest_of_the_data():
    assert not resolve(parameters(), {}, SimpleNamespace(source=lambda declared: Source(None)), IDENTITY).cacheable


def test_ingest_drops_ignored_columns_and_empty_records(csv):
    output = read(csv("y,a,b\n1,2,3\n\n4,5,6\n,,\n"), ignore=("b",))
    assert output.outputs["table"].collect().rows() == [(1, 2), (4, 5)]
    assert output.values == {"columns": 2, "empty_rows": 2}


def test_ingest_does_not_count_the_column_of_bad_cells(csv):
    output = read(csv("y,a\n1,2\n0,x\n"), {"a": "float"})
    assert BAD_CELLS in output.outputs["table"].collect_schema()
    assert output.values["columns"] == 2


def test_ingest_takes_column_names_as_they_are(csv):
    path = csv('y,^income$,income,*,"a ""b"" c",city\n1,5,6.5,x,7,Rome\n')
    output = read(path, {"^income$": "float"}, key='a "b" c', ignore=("*",))
    assert output.outputs["table"].collect().rows(named=True) == [
        {"y": 1, "^income$": 5.0, "income": 6.5, 'a "b" c': 7, "city": "Rome"}
    ]


@pytest.mark.parametrize(
    ("kwargs", "facts", "fix"),
    [
        ({"target": "why"}, ("target", "'why'"), "correct the name in the declaration"),
        ({"key": "customer"}, ("key", "'customer'"), "did you mean 'customer_id'?"),
        ({"types": {"amout": "float"}}, ("declared column", "'amout'"), "did you mean 'amount'?"),
        ({"ignore": ("y",)}, ("target", "'y'"), "correct the name in the declaration"),
        ({"ignore": ("^c.*$",)}, ("data.ignore", "'^c.*$'"), "correct the name in the declaration"),
        ({"used_by": {"split.column": ("amounts",)}}, ("split.column", "'amounts'"), "did you mean 'amount'?"),
        ({"used_by": {"gate.slices.columns": ("y", "^a.*$")}}, ("gate.slices", "'^a.*$'"), "correct the name"),
        ({"ignore": ("amounts",)}, ("data.ignore", "'amounts'"), "did you mean 'amount'?"),
    ],
)
def test_ingest_reports_a_missing_column_with_its_role(csv, kwargs, facts, fix):
    with pytest.raises(DataError) as caught:
        read(csv("y,customer_id,amount\n1,2,3\n"), **kwargs)
    assert all(fact in caught.value.what for fact in facts)
    assert fix in caught.value.fix
    assert "customer_id, amount" in caught.value.got


@pytest.mark.parametrize("name", ["_bad_cells", "_row", "_reason"])
def test_ingest_refuses_reserved_names(csv, name):
    with pytest.raises(DataError, match=name):
        read(csv(f"y,{name}\n1,2\n"))


def test_ingest_refuses_a_table_without_rows(csv):
    with pytest.raises(NoRows):
        read(csv("y,x\n,\n\n"))


def test_ingest_keeps_a_row_whose_values_are_in_ignored_columns(csv):
    output = read(csv("y,x,comment\n1,2,\n,,late\n,,\n"), ignore=("comment",))
    assert output.outputs["table"].collect().rows() == [(1, 2), (None, None)]
    assert (output.rows, output.values["empty_rows"]) == ({("table",): 2}, 1)


def test_ingest_reports_a_row_that_polars_loses(csv, monkeypatch):
    scan = SourceTable.scan
    monkeypatch.setattr(SourceTable, "scan", lambda source: scan(source).head(1))
    with pytest.raises(DataError) as caught:
        read(csv("y,x\n1,2\n3,4\n"))
    assert (caught.value.where, caught.value.expected, caught.value.got) == ("rows.csv", "2 rows", "1 rows")


@pytest.mark.parametrize(
    ("name", "rows", "key", "target"),
    [
        ("customers-2026-10.csv", 3333, "customer_id", "label"),
        ("customers-2026-11.csv", 5000, "customer_id", "label"),
        ("credit.csv", 4454, None, "Status"),
    ],
)
def test_ingest_reads_the_sample_files(name, rows, key, target):
    output = read(SAMPLES / name, key=key, target=target)
    expected = pl.read_csv(SAMPLES / name, infer_schema_length=None)
    assert output.outputs["table"].collect().equals(expected)
    assert (expected.height, output.values) == (rows, {"columns": expected.width, "empty_rows": 0})


def test_ingest_gives_a_key_its_canonical_form(csv, tmp_path):
    texts = {"100000.0,1\n100001.0,0\n": [100000, 100001], " A1,1\n100000.0,0\n": ["A1", "100000"]}
    for text, ids in texts.items():
        assert read(csv(f"id,y\n{text}"), key="id").outputs["table"].collect()["id"].to_list() == ids
    path = tmp_path / "data.parquet"
    pl.DataFrame({"id": [7.0, None], "y": [0, 1]}).write_parquet(path)
    assert read(path, key="id").outputs["table"].collect()["id"].to_list() == [7, None]


def test_ingest_reads_dates_of_a_declared_format(csv, tmp_path):
    declared = IngestParameters(
        source=FileSource(path="x"),
        types={"since": "date", "at": "datetime", "day": "date"},
        formats={"since": "%d/%m/%Y", "at": "%d.%m.%Y %H:%M", "day": "%Y%m%d"},
        used_by={},
        key=None,
        target="y",
        ignore=(),
    )
    path = csv("since,at,day,y\n03/01/2024,03.01.2024 12:30,20240103,1\nsoon,,20241399,0\n")
    source = open_source(str(path), "rows.csv", str(tmp_path))
    table = ingest(source=source, parameters=declared, seed=0).outputs["table"].collect()
    assert table["since"].to_list() == [dt.date(2024, 1, 3), None]
    assert table["at"].to_list() == [dt.datetime(2024, 1, 3, 12, 30, tzinfo=dt.UTC), None]
    assert table["day"].to_list() == [dt.date(2024, 1, 3), None]
    assert [cell["cell"] for cell in table[BAD_CELLS][1]] == ["soon", "20241399"]


def test_ingest_leaves_out_the_unnamed_index_of_pandas_unless_it_is_declared(tmp_path):
    path = tmp_path / "data.parquet"
    pl.DataFrame({"y": [0, 1], "__index_level_0__": [5, 3]}).write_parquet(path)
    output = read(path)
    assert output.outputs["table"].collect_schema().names() == ["y"]
    assert output.outputs["columns"] == {"types": {"y": "integer"}, "left_out": ["__index_level_0__"]}
    assert "__index_level_0__" in read(path, key="__index_level_0__").outputs["table"].collect_schema()
