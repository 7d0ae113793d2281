from __future__ import annotations

import importlib
import os
from dataclasses import replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from ml_pipelines._utils.error_json import parse_result
from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.errors import DataError, ModelError, RequestError, ServiceUnavailable
from ml_pipelines.pipeline.step import Step
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.runner.step import run_step
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.testing import FakeServices

POLARS = ("POLARS_IDEAL_MORSEL_SIZE", "POLARS_CSV_CHUNK_SIZE")
STEP = """
from ml_pipelines.errors import DataError, ModelError, ServiceUnavailable
from ml_pipelines.pipeline.step_parameters import Parameters
from ml_pipelines.pipeline.step import Resolution, StepOutput

class CountParameters(Parameters):
    upto: int

calls = []

def resolve(parameters, inputs, services, identity):
    return Resolution(values={"seen": len(calls)}, cacheable=parameters.upto != 3)

def count(*, parameters, seed, numbers):
    calls.append("compute")
    if parameters.upto < 0:
        raise DataError("there is nothing to count", where="count", fix="count from 0")
    if parameters.upto == 13:
        raise ModelError("it can't count", got="thirteen")
    document = {"upto": parameters.upto, "numbers": numbers}
    return StepOutput(outputs={"made": document}, values={"upto": parameters.upto}, partial=parameters.upto == 14)

def failure(parameters, error):
    return StepOutput(outputs={"failure": {"error": error.what}}, values={"upto": parameters.upto})

def publish(work, services):
    calls.append("publish")
    if services.tracking.down:
        raise ServiceUnavailable("down")
    return {"place": services.server_id, "of": work.values["upto"]}
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with a step of its own in the catalog, called `count`."""
    (tmp_path / "counting.py").write_text(STEP)
    monkeypatch.syspath_prepend(str(tmp_path))
    step = Step(
        name="count",
        parameters="counting:CountParameters",
        resolve="counting:resolve",
        compute="counting:count",
        publish="counting:publish",
        inputs={"numbers": "ingest.pin"},
        outputs={"made": "json"},
    )
    monkeypatch.setitem(TRAINING_STEPS, "count", step)
    module = importlib.import_module("counting")
    yield module
    importlib.sys.modules.pop("counting")  # type: ignore[attr-defined]


def request(folder: Path, upto: Any = 5, **fields: Any) -> StepRequest:
    store = ArtifactStore(str(folder / "store"))
    created = StepRequest(
        step="count",
        parameters={"upto": upto},
        inputs={"numbers": store.put_bytes(b'{"a": 1}', kind="json")},
        seed=1,
        store=store.uri,
        identity=Identity(pipeline="p", run_id="r", task_id="count"),
    )
    return created.model_copy(update=fields)


def test_a_step_is_computed_once_and_its_result_is_found_again(tmp_path: Path, counting: Any) -> None:
    services = FakeServices()
    first = run_step(request(tmp_path), services)
    assert (first.status, first.reason) == ("computed", "miss: first time")
    assert first.values == {"upto": 5, "seen": 0, "place": "memory", "of": 5}
    assert ArtifactStore(str(tmp_path / "store")).read(first.outputs["made"]) == b'{"numbers":{"a":1},"upto":5}'
    again = run_step(request(tmp_path), services)
    assert (again.status, again.key, again.outputs) == ("cached", first.key, first.outputs)
    assert again.reason.startswith("hit: computed 20")
    # Published where it was published before: told again, not done again.
    assert again.values == {**first.values, "seen": 2}
    assert counting.calls == ["compute", "publish"]


def test_a_failure_of_the_model_is_a_result_that_is_not_stored(
    tmp_path: Path, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="it can't count"):
        run_step(request(tmp_path, 13), FakeServices())
    step = replace(TRAINING_STEPS["count"], failure="counting:failure", outputs={"made": "json", "failure": "json"})
    monkeypatch.setitem(TRAINING_STEPS, "count", step)
    for _ in range(2):
        counting.calls.clear()
        failed = run_step(request(tmp_path, 13), FakeServices())
        assert counting.calls == ["compute"]
        assert (failed.status, failed.reason) == ("failed", "failed: it can't count (got thirteen)")
        assert parse_result(failed.model_dump_json().encode()) == failed
        store = ArtifactStore(str(tmp_path / "store"))
        assert store.read(failed.outputs["failure"]) == b'{"error":"it can\'t count"}'
        assert failed.values == {"upto": 13}
        assert store.lookup("count", failed.key) is None
    assert run_step(request(tmp_path), FakeServices()).outputs.keys() == {"made"}


def test_a_partial_result_is_published_and_not_stored(tmp_path: Path, counting: Any) -> None:
    for _ in range(2):
        counting.calls.clear()
        partial = run_step(request(tmp_path, 14), FakeServices())
        assert partial.status == "partial"
        assert counting.calls == ["compute", "publish"]


def test_row_groups_have_as_many_cells_as_is_set_which_is_no_part_of_the_key(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    pl.DataFrame({"id": range(100), "label": [0, 1] * 50}).write_parquet(tmp_path / "clean.parquet")
    table = store.put_file(str(tmp_path / "clean.parquet"), kind="table", rows=100)
    parameters = {"task": "classification", "key": "id", "target": "label", "split": {"test": 0.3}}
    columns = store.put_bytes(b'{"types": {"id": "integer", "label": "integer"}, "left_out": []}', kind="json")
    asked = request(tmp_path, step="split", parameters=parameters, inputs={"table": table, "columns": columns})
    services = FakeServices()
    services.cells_per_group = 20
    before = {name: os.environ.get(name) for name in POLARS}
    first = run_step(asked, services)
    assert {name: os.environ.get(name) for name in POLARS} == before
    trained = pq.ParquetFile(BytesIO(store.read(first.outputs["train"]))).metadata
    assert [trained.row_group(at).num_rows for at in range(3)] == [10, 10, 10]
    services.cells_per_group = 1_000_000
    assert run_step(asked, services).outputs == first.outputs
    other = run_step(asked.model_copy(update={"force": True}), services)
    assert other.key == first.key
    assert pq.ParquetFile(BytesIO(store.read(other.outputs["train"]))).metadata.num_row_groups == 1
    again, earlier = (pl.read_parquet(store.read(item.outputs["train"])) for item in (other, first))
    assert again.equals(earlier)


def test_a_step_may_make_as_many_parts_as_there_are_each_a_table_of_its_own(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))

    def plan(rows: int, size: int) -> StepResult:
        pl.DataFrame({"id": range(rows)}).write_parquet(tmp_path / "table.parquet")
        table = store.put_file(str(tmp_path / "table.parquet"), kind="table", rows=rows)
        asked = request(
            tmp_path, step="plan_shards", parameters={"key": "id", "shards": {"rows": size}}, inputs={"table": table}
        )
        return run_step(asked, FakeServices())

    created = plan(25, 10)
    assert [(name, ref.rows) for name, ref in created.outputs.items()] == [
        ("shard_0", 10),
        ("shard_1", 10),
        ("shard_2", 5),
    ]
    read = [pl.read_parquet(BytesIO(store.read(ref)))["id"].to_list() for ref in created.outputs.values()]
    assert [*chain.from_iterable(read)] == list(range(25))
    # What is the same in a longer table is the same artifact, so its scores are found again.
    longer = plan(33, 10)
    assert [longer.outputs[name] == ref for name, ref in created.outputs.items()] == [True, True, False]
    assert plan(25, 10).status == "cached"
    assert plan(0, 10).outputs == {}


def test_a_change_is_a_miss_that_says_what_changed(tmp_path: Path, counting: Any) -> None:
    run_step(request(tmp_path), FakeServices())
    changed = run_step(request(tmp_path, upto=6), FakeServices())
    assert (changed.status, changed.reason) == ("computed", "miss: parameters.upto changed from 5 to 6")


def test_force_computes_a_cached_result_again(tmp_path: Path, counting: Any) -> None:
    run_step(request(tmp_path), FakeServices())
    result = run_step(request(tmp_path, force=True), FakeServices())
    assert (result.status, result.reason) == ("computed", "miss: forced")
    assert counting.calls == ["compute", "publish"] * 2


def test_changed_source_is_a_miss_that_names_the_module(tmp_path: Path, counting: Any) -> None:
    run_step(request(tmp_path), FakeServices())
    (tmp_path / "counting.py").write_text(f"{STEP}# changed\n")
    changed = run_step(request(tmp_path), FakeServices())
    assert (changed.status, changed.reason) == ("computed", "miss: code of counting changed")


def test_what_only_reading_tells_is_computed_each_time(tmp_path: Path, counting: Any) -> None:
    for _ in range(2):
        result = run_step(request(tmp_path, upto=3), FakeServices())
        assert (result.status, result.reason) == ("computed", "miss: the source has no version, so it is read again")


def test_a_step_that_fails_leaves_nothing_and_works_once_it_can(tmp_path: Path, counting: Any) -> None:
    with pytest.raises(DataError, match="there is nothing to count"):
        run_step(request(tmp_path, upto=-1), FakeServices())
    store = ArtifactStore(str(tmp_path / "store"))
    assert [
        entry.name for folder in ("manifests", "runs", "tmp", "leases") for entry in store.files.entries(folder)
    ] == []
    assert run_step(request(tmp_path), FakeServices()).status == "computed"


def test_what_could_not_be_published_is_published_by_the_next_try(tmp_path: Path, counting: Any) -> None:
    services = FakeServices()
    services.tracking.down = True
    with pytest.raises(ServiceUnavailable):
        run_step(request(tmp_path), services)
    services.tracking.down = False
    assert run_step(request(tmp_path), services).status == "cached"
    assert counting.calls == ["compute", "publish", "publish"]


def test_a_step_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no step 'trian'") as caught:
        run_step(request(tmp_path, step="trian"), FakeServices())
    assert (caught.value.got, caught.value.fix) == ("trian", "did you mean 'train'?")


def test_parameters_that_are_not_the_steps(tmp_path: Path, counting: Any) -> None:
    with pytest.raises(RequestError, match="step count does not take these parameters") as caught:
        run_step(request(tmp_path, parameters={"upto": "many", "to": 1}), FakeServices())
    assert caught.value.expected == "the fields of CountParameters: upto"
    assert "to: Extra inputs are not permitted" in caught.value.got
    assert caught.value.fix.startswith("make the request from the declaration again")


def test_an_input_that_is_not_given(tmp_path: Path, counting: Any) -> None:
    with pytest.raises(RequestError, match="step count has no input 'numbers'") as caught:
        run_step(request(tmp_path, inputs={}), FakeServices())
    assert (caught.value.expected, caught.value.got) == ("numbers (of ingest.pin)", "no inputs")
    assert caught.value.fix == "name the artifacts of the earlier steps in the request"
    assert counting.calls == []
