from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.errors import DataError, NoRows, RegistryError, RequestError
from ml_pipelines.pipeline.batch_parameters import IngestBatchParameters
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.spec.batch import ModelReference
from ml_pipelines.spec.training import DvcSource, FileSource
from ml_pipelines.steps.batch.ingest_batch import ingest_batch, resolve

SOMEBODY = Identity(pipeline="p", run_id="r", task_id="t")
SOURCE = FileSource(path="rows.csv")
PIN = DataPin(source="file", location="rows.csv", digest="md5:1f")
FEATURES = {"x": "float", "colour": "string", "since": "date"}


def parameters(**changes):
    told = {"source": SOURCE, "key": "id", "keep": (), "types": {}, "model": ModelReference(name="churn")}
    return IngestBatchParameters(**told | changes)


class Source:
    def __init__(self, rows=True):
        self.rows = rows

    def pin(self):
        return PIN

    def fetch(self, pin, directory):
        if not self.rows:
            raise NoRows("the query gives no rows")
        return f"{directory}/rows.csv"


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "rows.csv"
        path.write_text(text)
        return str(path)

    return write


def read(path, told=None):
    return ingest_batch(
        raw_path=path, features=FEATURES, who="churn version 3", where="s3://b", parameters=told or parameters(), seed=0
    )


def test_a_batch_is_pinned_with_the_version_and_the_types_of_its_training(run):
    run.services.serve(SOURCE, Source())
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    found = resolve(parameters(), {}, run.services, SOMEBODY)
    assert found.values["pin"] == PIN.model_dump(mode="json")
    assert (found.values["model"]["name"], found.values["model"]["version"]) == ("churn", "1")
    assert found.values["model"]["artifact"]["sha256"] == run.models[0].sha256
    assert found.values["model"]["training"]["sha256"] == run.trainings[0].sha256
    assert found.key_facts == {"data": "md5:1f", "features": {"x": "float", "colour": "string"}}
    prepared = found.prepare("here")
    assert (prepared["raw_path"], prepared["who"]) == ("here/rows.csv", "churn version 1")


def test_a_model_that_the_store_has_lost_comes_from_the_registry(run):
    run.services.serve(SOURCE, Source())
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    del run.services.blobs[run.models[0].uri]
    resolve(parameters(), {}, run.services, SOMEBODY)
    assert run.models[0].uri in run.services.blobs


def test_without_a_champion_there_is_nothing_to_score_with(run):
    with pytest.raises(RegistryError, match="no version has the alias champion") as caught:
        resolve(parameters(), {}, run.services, SOMEBODY)
    assert "train and promote a model of this name" in caught.value.fix
    with pytest.raises(RegistryError, match="there is no version 9"):
        resolve(parameters(model=ModelReference(name="churn", version="9")), {}, run.services, SOMEBODY)


def test_the_columns_of_the_training_are_read_as_their_types_and_others_left_out(csv):
    made = read(csv("id,more,since,colour,x,label\n007,a,2026-01-02,1,5,0\n008,b,2026-01-03,2,oops,1\n"))
    table = made.outputs["table"].collect()
    assert table.columns == ["id", "x", "colour", "since", "_bad_cells"]
    assert table.schema["x"] == pl.Float64
    assert table["colour"].to_list() == ["1", "2"]  # it was text in training
    assert table["id"].to_list() == ["007", "008"]
    assert table["_bad_cells"].to_list() == [None, "x: 'oops' is not a float"]


def test_columns_to_keep_come_along_with_their_declared_types(csv):
    told = parameters(keep=("zip", "x"), types={"zip": "string"})
    table = read(csv("id,zip,since,colour,x\n1,123,,red,5\n"), told).outputs["table"].collect()
    assert table.row(0, named=True) == {"id": 1, "x": 5.0, "colour": "red", "since": None, "zip": "123"}


def test_a_batch_that_lacks_columns_is_told_with_those_that_may_be_meant(csv):
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


@pytest.mark.parametrize("text", [None, "id,x,colour,since\n"])
def test_no_rows_are_an_empty_table_of_the_same_columns(csv, text):
    path = csv(text) if text else None
    table = read(path).outputs["table"].collect()
    assert (len(table), table.columns) == (0, ["id", "x", "colour", "since"])
    assert table.schema["since"] == pl.Date


def test_a_query_without_rows_is_no_fault(run):
    run.services.serve(SOURCE, Source(rows=False))
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    assert resolve(parameters(), {}, run.services, SOMEBODY).prepare("here")["raw_path"] is None


def test_a_run_may_ask_for_another_revision_and_version():
    told = parameters(source=DvcSource(repo="r", path="p"))
    asked = told.for_run(RunOptions(data_revision="v2", model_version="7"))
    assert (asked.source.rev, asked.model) == ("v2", ModelReference(name="churn", version="7"))
    assert told.for_run(RunOptions(model_version="previous")).model == ModelReference(name="churn", alias="previous")
    with pytest.raises(RequestError, match="has no revisions"):
        parameters().for_run(RunOptions(data_revision="v2"))
