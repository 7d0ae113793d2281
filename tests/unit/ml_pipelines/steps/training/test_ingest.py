from __future__ import annotations

from importlib.resources import files
from types import SimpleNamespace

import polars as pl
import pytest

from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.data.columns import BAD_CELLS
from ml_pipelines.data.csv_checks import check_csv
from ml_pipelines.errors import DataError, NoRows, SourceUnreadable
from ml_pipelines.pipeline.parameters import IngestParameters
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.steps.training.ingest import ingest
from ml_pipelines.steps.training.ingest_io import resolve

SAMPLES = files("ml_pipelines") / "sample_data"
IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")


def parameters(types=None, *, target="y", key=None, ignore=()):
    return IngestParameters(source=FileSource(path="x"), types=types or {}, key=key, target=target, ignore=ignore)


def read(path, types=None, **kwargs):
    return ingest(raw_path=str(path), parameters=parameters(types, **kwargs), seed=0)


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "data.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


class Source:
    def __init__(self, digest):
        self.digest = digest

    def pin(self):
        return DataPin(source="file", location="rows.csv", digest=self.digest)

    def fetch(self, pin, directory):
        assert pin == self.pin()
        return f"{directory}/rows.csv"


def test_resolve_pins_the_data_and_fetches_it_on_request():
    services = SimpleNamespace(source=lambda declared: Source("md5:1"))
    resolution = resolve(parameters(), {}, services, IDENTITY)
    pin = DataPin(source="file", location="rows.csv", digest="md5:1").model_dump(mode="json")
    assert (resolution.key_facts, resolution.values, resolution.cacheable) == ({"data": "md5:1"}, {"pin": pin}, True)
    assert resolution.prepare("here") == {"raw_path": "here/rows.csv"}


def test_resolve_is_not_cacheable_without_a_digest_of_the_data():
    assert not resolve(parameters(), {}, SimpleNamespace(source=lambda declared: Source(None)), IDENTITY).cacheable


def test_ingest_drops_ignored_columns_and_empty_records(csv):
    output = read(csv("y,a,b\n1,2,3\n\n4,5,6\n,,\n"), ignore=("b", "absent"))
    assert output.outputs["table"].collect().rows() == [(1, 2), (4, 5)]
    assert output.values == {"columns": 2, "empty_rows": 2}


def test_ingest_does_not_count_the_column_of_bad_cells(csv):
    output = read(csv("y,a\n1,2\n0,x\n"), {"a": "float"})
    assert BAD_CELLS in output.outputs["table"].collect_schema()
    assert output.values["columns"] == 2


def test_ingest_takes_column_names_as_they_are(csv):
    path = csv('y,^income$,income,*,"a ""b"" c",city\n1,5,6.5,x,7,Rome\n')
    output = read(path, {"^income$": "float"}, key='a "b" c', ignore=("*", "^c.*$"))
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


def test_ingest_reports_an_error_of_polars_with_the_line(csv):
    with pytest.raises(SourceUnreadable, match="line 3 has 3 cells") as caught:
        read(csv("y,x\n1,2\n1,2,3\n"))
    assert isinstance(caught.value.__cause__, pl.exceptions.PolarsError)


def test_ingest_reports_a_file_that_is_not_parquet(tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceUnreadable, match="Parquet"):
        read(tmp_path / "data.parquet")


@pytest.mark.parametrize(
    ("name", "rows", "key", "target"),
    [
        ("customers-2026-10.csv", 3333, "customer_id", "label"),
        ("customers-2026-11.csv", 5000, "customer_id", "label"),
        ("credit.csv", 4454, None, "Status"),
    ],
)
def test_ingest_reads_the_sample_files(name, rows, key, target):
    check_csv(str(SAMPLES / name))
    output = read(SAMPLES / name, key=key, target=target)
    expected = pl.read_csv(SAMPLES / name, infer_schema_length=None)
    assert output.outputs["table"].collect().equals(expected)
    assert (expected.height, output.values) == (rows, {"columns": expected.width, "empty_rows": 0})
