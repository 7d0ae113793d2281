from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.data.source_table import SourceTable, open_source
from ml_pipelines.errors import ArtifactCorrupt, DataError, NoRows, RegistryError, RequestError
from ml_pipelines.pipeline.batch_parameters import IngestBatchParameters
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.spec.batch import ModelReference
from ml_pipelines.spec.sources import DvcSource, FileSource
from ml_pipelines.steps.batch.ingest_batch import ingest_batch, resolve

IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")
SOURCE = FileSource(path="rows.csv")
PIN = DataPin(source="file", location="rows.csv", digest="md5:1f")
FEATURES = {"x": "float", "colour": "string", "since": "date"}


def parameters(**changes):
    defaults = {"source": SOURCE, "key": "id", "keep": (), "types": {}, "model": ModelReference(name="churn")}
    return IngestBatchParameters(**defaults | changes)


class Source:
    def __init__(self, rows=True):
        self.rows = rows

    def pin(self):
        return PIN

    def fetch(self, pin, directory):
        if not self.rows:
            raise NoRows("the query gives no rows")
        Path(directory, "rows.csv").write_text("id,x\n1,2\n")
        return f"{directory}/rows.csv"


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "rows.csv"
        path.write_text(text)
        return path

    return write


def read(path, changed=None):
    return ingest_batch(
        source=open_source(str(path), "s3://b", str(path.parent)) if path else None,
        features=FEATURES,
        model="churn version 3",
        parameters=changed or parameters(),
        seed=0,
    )


def test_resolve_pins_the_batch_with_the_version_and_the_types_of_its_training(run, tmp_path):
    run.services.add_source(SOURCE, Source())
    run.recorded_champion()
    resolution = resolve(parameters(), {}, run.services, IDENTITY)
    assert resolution.values["pin"] == PIN.model_dump(mode="json")
    assert (resolution.values["model"]["name"], resolution.values["model"]["version"]) == ("churn", "1")
    assert resolution.values["model"]["artifact"]["sha256"] == run.models[0].sha256
    assert resolution.values["model"]["training"]["sha256"] == run.trainings[0].sha256
    assert resolution.key_facts == {"data": "md5:1f", "features": {"x": "float", "colour": "string"}}
    prepared = resolution.prepare(str(tmp_path))
    source = SourceTable(f"{tmp_path}/rows.csv", "rows.csv", ("id", "x"), rows=1)
    assert (prepared["source"], prepared["model"]) == (source, "churn version 1")


def test_resolve_fetches_a_model_that_the_store_lacks_from_the_registry(run):
    run.services.add_source(SOURCE, Source())
    run.recorded_champion()
    del run.services.blobs[run.models[0].uri]
    resolve(parameters(), {}, run.services, IDENTITY)
    assert run.models[0].uri in run.services.blobs


def test_resolve_uses_no_model_that_only_a_tag_names(run):
    run.services.add_source(SOURCE, Source())
    run.recorded_champion(0)
    registered = run.services.registry.versions["churn"][0]
    run.services.registry.versions["churn"][0] = replace(registered, artifact=run.models[1])
    with pytest.raises(ArtifactCorrupt, match="the registry serves other files than were registered") as caught:
        resolve(parameters(), {}, run.services, IDENTITY)
    assert run.models[0].sha256 in caught.value.expected
    assert run.models[1].sha256 in caught.value.got


def test_resolve_refuses_a_file_that_was_added_in_the_registry(run):
    run.services.add_source(SOURCE, Source())
    run.recorded_champion()
    del run.services.blobs[run.models[0].uri]
    run.services.registry.extra_files["code/evil.py"] = b"import os"
    with pytest.raises(ArtifactCorrupt, match="the registry serves other files than were registered") as caught:
        resolve(parameters(), {}, run.services, IDENTITY)
    assert "code/evil.py" in caught.value.got


def test_resolve_takes_the_training_record_of_the_ledger(run):
    run.services.add_source(SOURCE, Source())
    run.recorded_champion(0)
    run.services.registry.versions["churn"][0].tags[TRAINING_TAG] = run.trainings[1].model_dump_json()
    resolution = resolve(parameters(), {}, run.services, IDENTITY)
    assert resolution.values["model"]["training"]["sha256"] == run.trainings[0].sha256


def test_resolve_refuses_a_model_without_a_champion_and_an_unknown_version(run):
    with pytest.raises(RegistryError, match="no version has the alias champion") as caught:
        resolve(parameters(), {}, run.services, IDENTITY)
    assert "train and promote a model of this name" in caught.value.fix
    with pytest.raises(RegistryError, match="there is no version 9"):
        resolve(parameters(model=ModelReference(name="churn", version="9")), {}, run.services, IDENTITY)


def test_ingest_batch_reads_the_columns_of_the_training_as_their_types(csv):
    output = read(csv("id,more,since,colour,x,label\n007,a,2026-01-02,1,5,0\n008,b,2026-01-03,2,oops,1\n"))
    table = output.outputs["table"].collect()
    assert table.columns == ["id", "x", "colour", "since", "_bad_cells"]
    assert table.schema["x"] == pl.Float64
    assert table["colour"].to_list() == ["1", "2"]  # it was text in training
    assert table["id"].to_list() == ["007", "008"]
    assert table["_bad_cells"].to_list() == [None, [{"column": "x", "type": "float", "cell": "oops"}]]


def test_ingest_batch_reads_columns_to_keep_as_their_declared_types(csv):
    changed = parameters(keep=("zip", "x"), types={"zip": "string"})
    table = read(csv("id,zip,since,colour,x\n1,123,,red,5\n"), changed).outputs["table"].collect()
    assert table.row(0, named=True) == {"id": 1, "x": 5.0, "colour": "red", "since": None, "zip": "123"}


def test_ingest_batch_reports_missing_columns_with_similar_names(csv):
    with pytest.raises(
        DataError, match="the batch lacks columns that churn version 3 was trained with: x, colour"
    ) as c:
        read(csv("id,color,since,total\n1,red,,5\n"))
    assert (c.value.where, c.value.got) == ("s3://b", "id, color, since, total")
    assert c.value.fix == "did you mean 'color' for 'colour'?"
    with pytest.raises(DataError, match="the key 'id' is not in the data") as c:
        read(csv("ids,x,colour,since\n1,2,red,\n"))
    assert c.value.fix == "did you mean 'ids'?"
    with pytest.raises(DataError, match="the column to keep 'state' is not in the data"):
        read(csv("id,x,colour,since\n1,2,red,\n"), parameters(keep=("state",)))


@pytest.mark.parametrize("name", ["_row", "_reason", "_bad_cells"])
def test_ingest_batch_refuses_reserved_names(csv, name):
    with pytest.raises(DataError, match=name):
        read(csv(f"id,x,colour,since,{name}\n1,2,red,,5\n"), parameters(keep=(name,)))


def test_ingest_batch_takes_column_names_as_they_are(csv):
    path = csv("id,x,colour,since,^x$,*\n1,2.5,red,,7,8\n")
    table = read(path, parameters(key="*", keep=("^x$",))).outputs["table"].collect()
    assert table.row(0, named=True) == {"*": 8, "x": 2.5, "colour": "red", "since": None, "^x$": 7}


@pytest.mark.parametrize("text", [None, "id,x,colour,since\n,,,\n"])
def test_ingest_batch_returns_an_empty_table_for_no_rows(csv, text):
    path = csv(text) if text else None
    table = read(path).outputs["table"].collect()
    assert (len(table), table.columns) == (0, ["id", "x", "colour", "since"])
    assert table.schema["since"] == pl.Date


def test_resolve_accepts_a_query_without_rows(run):
    run.services.add_source(SOURCE, Source(rows=False))
    run.recorded_champion()
    assert resolve(parameters(), {}, run.services, IDENTITY).prepare("here")["source"] is None


def test_for_run_sets_the_revision_and_the_version():
    declared = parameters(source=DvcSource(repo="r", path="p"))
    changed = declared.for_run(RunOptions(data_revision="v2", model_version="7"))
    assert (changed.source.rev, changed.model) == ("v2", ModelReference(name="churn", version="7"))
    assert declared.for_run(RunOptions(model_version="previous")).model == ModelReference(
        name="churn", alias="previous"
    )
    with pytest.raises(RequestError, match="has no revisions"):
        parameters().for_run(RunOptions(data_revision="v2"))


def test_ingest_batch_gives_a_key_its_canonical_form_unless_it_is_a_feature(csv):
    text = "id,x,colour,since\n100000.0,5, red,\n,6,blue,\n"
    assert read(csv(text)).outputs["table"].collect()["id"].to_list() == [100000, None]
    by_feature = read(csv(text), parameters(key="colour")).outputs["table"].collect()
    assert by_feature["colour"].to_list() == [" red", "blue"]


def test_ingest_batch_numbers_the_rows_without_a_key(csv):
    table = read(csv("x,colour,since\n5,red,\n,,\n6,blue,\n"), parameters(key=None)).outputs["table"].collect()
    assert table.select("row", "x").rows() == [(0, 5.0), (1, 6.0)]
    assert "row" in read(None, parameters(key=None)).outputs["table"].collect_schema()
    with pytest.raises(DataError, match="'row'"):
        read(csv("x,colour,since,row\n5,red,,1\n"), parameters(key=None, keep=("row",)))


def test_ingest_batch_reads_dates_by_the_format_of_the_training(csv):
    path = csv("id,x,colour,since\n1,5,red,03/01/2024\n")
    source = open_source(str(path), "s3://b", str(path.parent))
    arguments = {"features": FEATURES, "model": "churn version 3", "parameters": parameters(), "seed": 0}
    table = ingest_batch(source=source, formats={"since": "%d/%m/%Y"}, **arguments).outputs["table"].collect()
    assert table["since"].to_list() == [dt.date(2024, 1, 3)]
