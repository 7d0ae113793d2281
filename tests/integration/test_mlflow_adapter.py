"""The MLflow adapters against the real MLflow: a database and a folder, and a server that comes and goes.

Run as a script, this file is the processes that the tests need: some are killed on the way, some race.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_pipelines.adapters.mlflow.client import MlflowServer
from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.adapters.mlflow.tracking import MlflowTracking
from ml_pipelines.contracts import ArtifactRef, DataPin, Identity
from ml_pipelines.errors import PipelineError, RegistryError, ServiceUnavailable
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.trusted_types import REVIEWED_TYPES
from ml_pipelines.ports import ModelVersion, TrackedModel, Training

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

IDENTITY = Identity(
    pipeline="credit", run_id='manual__it\'s "now"', task_id="train_model", map_index=1, run_url="http://airflow/run"
)
ROWS: list[dict[str, Any]] = [
    {"age": 20 + i, "income": None if i % 7 == 0 else 1.5 * i, "home": "rent" if i % 3 else "own", "vip": i % 2 == 0}
    for i in range(40)
]
FEATURES = [
    {"name": name, "dtype": dtype}
    for name, dtype in {"age": "integer", "income": "float", "home": "string", "vip": "boolean"}.items()
]
DIGEST = "md5:" + "0123456789abcdef" * 2


@functools.cache
def a_training(seed: int = 0) -> Training:
    """A small model on whole numbers, missing numbers, texts and booleans."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encode = make_column_transformer((OneHotEncoder(sparse_output=False), ["home"]), remainder="passthrough")
    model = make_pipeline(
        encode, HistGradientBoostingClassifier(max_iter=3, random_state=seed, min_samples_leaf=2 + seed)
    )
    frame = pd.DataFrame(ROWS)
    model.fit(frame, ["bad" if i % 4 == 0 else "good" for i in range(len(ROWS))])
    data = dump_model(model)
    digest = hashlib.sha256(data).hexdigest()
    return Training(
        model="credit",
        candidate="boosted_trees",
        key=hashlib.sha256(str(seed).encode()).hexdigest(),
        params={"max_iter": 3, "l1": None, "note": "x" * 7000},
        metrics={"rows": 40.0, "fit_seconds": 0.5},
        pin=DataPin(source="dvc", location="https://data.example/repo/credit.csv", revision="abc123", digest=DIGEST),
        model_ref=ArtifactRef(uri=f"file:///store/{digest}", sha256=digest, bytes=len(data), kind="model"),
        model_bytes=data,
        requirements=["pandas", "scikit-learn", "skops"],
        trusted_types=list(REVIEWED_TYPES),
        features=FEATURES,
        example=ROWS[:5],
        predictions=list(model.predict(frame.head(5))),
    )


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs(uri: str) -> list[Any]:
    client = client_of(uri)
    experiment = client.get_experiment_by_name("credit")
    return list(client.search_runs([experiment.experiment_id]))


def models(uri: str) -> list[Any]:
    client = client_of(uri)
    return list(client.search_logged_models([client.get_experiment_by_name("credit").experiment_id]))


def assert_one_of_each(uri: str, tracked: TrackedModel) -> None:
    """One run that is finished, one model that is ready and its output once; nothing else."""
    assert [(run.info.run_id, run.info.status) for run in runs(uri)] == [(tracked.run_id, "FINISHED")]
    assert [(model.model_uri, str(model.status)) for model in models(uri)] == [(tracked.model_uri, "READY")]
    outputs = client_of(uri).get_run(tracked.run_id).outputs.model_outputs
    assert [f"models:/{output.model_id}" for output in outputs] == [tracked.model_uri]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: to make them takes seconds, to copy them does not."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowRegistry(f"sqlite:///{path}").drop_alias("nothing", "nothing")
    return path


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


# --- Trainings ---


def test_a_retry_finds_its_run_and_model_and_writes_nothing_twice(uri: str) -> None:
    tracking = MlflowTracking(uri)
    tracked = tracking.log_training(IDENTITY, a_training())
    assert tracking.log_training(IDENTITY, a_training()) == tracked
    assert tracked.url is None
    assert_one_of_each(uri, tracked)
    client = client_of(uri)
    assert len(client.get_metric_history(tracked.run_id, "rows")) == 1
    assert len(client.get_run(tracked.run_id).inputs.dataset_inputs) == 1


def test_a_run_shows_whose_it_is_from_what_data_and_with_which_parameters(uri: str) -> None:
    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    run = client_of(uri).get_run(tracked.run_id)
    assert run.info.run_name == "boosted_trees"
    shown = {name: value for name, value in run.data.tags.items() if name.startswith("ml_pipelines.")}
    assert shown.keys() == {
        *(f"ml_pipelines.{name}" for name in ("pipeline", "run_id", "task_id", "map_index", "run_url", "identity")),
        *(f"ml_pipelines.{name}" for name in ("key", "opened_at", "data_digest", "data_location", "data_revision")),
    }
    assert shown["ml_pipelines.run_id"] == IDENTITY.run_id
    assert shown["ml_pipelines.map_index"] == "1"
    assert shown["ml_pipelines.data_digest"] == DIGEST
    assert run.data.params == {"max_iter": "3", "l1": "None", "note": "x" * 6000}
    assert run.data.metrics == {"rows": 40.0, "fit_seconds": 0.5}
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest, logged.dataset.source_type) == (
        "credit.csv",
        DIGEST,
        "dvc",
    )
    assert json.loads(logged.dataset.source)["revision"] == "abc123"


def test_a_digest_that_mlflow_has_no_room_for_is_cut_only_in_the_data_set(uri: str) -> None:
    pin = DataPin(source="file", location="s3://bucket/credit.csv", digest=f"sha256:{'ab' * 32}")
    tracked = MlflowTracking(uri).log_training(IDENTITY, replace(a_training(), pin=pin))
    run = client_of(uri).get_run(tracked.run_id)
    assert run.inputs.dataset_inputs[0].dataset.digest == f"sha256:{'ab' * 32}"[:36]
    assert run.data.tags["ml_pipelines.data_digest"] == pin.digest


def test_the_model_has_the_metrics_and_loads_from_mlflow_alone(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    training = a_training()
    tracked = MlflowTracking(uri).log_training(IDENTITY, training)
    logged = client_of(uri).get_logged_model(tracked.model_uri.removeprefix("models:/"))
    assert {metric.key: metric.value for metric in logged.metrics} == training.metrics
    assert logged.source_run_id == tracked.run_id

    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", uri)
    info = mlflow.models.get_model_info(tracked.model_uri)
    assert (info.run_id, info.model_id) == (tracked.run_id, logged.model_id)
    assert [repr(column.type) for column in info.signature.inputs] == ["Any", "double", "string", "boolean"]
    frame = pd.DataFrame(training.example)
    assert list(mlflow.sklearn.load_model(tracked.model_uri).predict(frame)) == training.predictions
    assert list(mlflow.pyfunc.load_model(tracked.model_uri).predict(frame)) == training.predictions


def test_the_size_that_mlflow_shows_is_that_of_the_files(uri: str, tmp_path: Path) -> None:
    from mlflow.models import Model

    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    folder = next(tmp_path.rglob("model.skops")).parent
    written = sum(file.stat().st_size for file in folder.iterdir())
    assert folder.parent.name in tracked.model_uri
    assert 0 <= written - Model.load(str(folder)).model_size_bytes < 8000  # MLflow counts before its last small files


def test_another_key_under_the_same_identity_reuses_the_run_where_parameters_allow(uri: str) -> None:
    tracking = MlflowTracking(uri)
    first = tracking.log_training(IDENTITY, a_training())
    forced = replace(a_training(1), metrics={"rows": 41.0})
    second = tracking.log_training(IDENTITY, forced)
    assert second.run_id == first.run_id
    assert second.model_uri != first.model_uri
    run = client_of(uri).get_run(first.run_id)
    assert (run.info.status, run.data.metrics["rows"]) == ("FINISHED", 41.0)
    assert run.data.tags["ml_pipelines.key"] == forced.key


def test_other_parameters_under_the_same_identity_make_a_run_that_supersedes(uri: str) -> None:
    tracking = MlflowTracking(uri)
    first = tracking.log_training(IDENTITY, a_training())
    changed = replace(a_training(1), params={"max_iter": 4})
    second = tracking.log_training(IDENTITY, changed)
    assert second.run_id != first.run_id
    assert tracking.log_training(IDENTITY, changed) == second
    assert tracking.log_training(IDENTITY, a_training()) == first
    assert client_of(uri).get_run(second.run_id).data.tags["ml_pipelines.supersedes"] == first.run_id


def test_other_identities_have_runs_of_their_own(uri: str) -> None:
    tracking = MlflowTracking(uri)
    others = [{"pipeline": "b"}, {"run_id": "b"}, {"task_id": "b"}, {"map_index": 2}]
    actual = {tracking.log_training(IDENTITY.model_copy(update=other), a_training()).run_id for other in [{}, *others]}
    assert len(actual) == 5


def test_a_model_that_somebody_deleted_is_logged_again(uri: str) -> None:
    tracking = MlflowTracking(uri)
    first = tracking.log_training(IDENTITY, a_training())
    client_of(uri).delete_logged_model(first.model_uri.removeprefix("models:/"))
    second = tracking.log_training(IDENTITY, a_training())
    assert second.run_id == first.run_id
    assert [model.model_uri for model in models(uri)] == [second.model_uri] != [first.model_uri]


def test_a_deleted_experiment_is_named(uri: str) -> None:
    tracking = MlflowTracking(uri)
    tracking.log_training(IDENTITY, a_training())
    client = client_of(uri)
    client.delete_experiment(client.get_experiment_by_name("credit").experiment_id)
    with pytest.raises(PipelineError, match="the experiment 'credit' was deleted") as caught:
        tracking.log_training(IDENTITY, a_training())
    assert "mlflow experiments restore" in caught.value.fix


def test_an_evaluation_is_added_to_run_and_model(uri: str, tmp_path: Path) -> None:
    tracking = MlflowTracking(uri)
    tracked = tracking.log_training(IDENTITY, a_training())
    for _ in range(2):
        tracking.log_evaluation(tracked, {"test/roc_auc": 0.75}, {"roc.svg": b"<svg/>"}, {"card.json": '{"a": 1}'})
    client = client_of(uri)
    run = client.get_run(tracked.run_id)
    assert (run.info.status, run.data.metrics["test/roc_auc"]) == ("FINISHED", 0.75)
    assert len(client.get_metric_history(tracked.run_id, "test/roc_auc")) == 1
    logged = client.get_logged_model(tracked.model_uri.removeprefix("models:/"))
    assert [metric.value for metric in logged.metrics if metric.key == "test/roc_auc"] == [0.75]
    assert [file.path for file in client.list_artifacts(tracked.run_id, "evaluation")] == [
        "evaluation/card.json",
        "evaluation/roc.svg",
    ]
    tracking.log_evaluation(tracked, {"test/roc_auc": 0.8}, {}, {})
    assert client.get_run(tracked.run_id).data.metrics["test/roc_auc"] == 0.8


def test_an_evaluation_of_a_run_that_is_gone_says_so(uri: str) -> None:
    with pytest.raises(RegistryError, match="MLflow has no such model, version or run") as caught:
        MlflowTracking(uri).log_evaluation(TrackedModel("0" * 32, "models:/m-1"), {"a": 1.0}, {}, {})
    assert "0" * 32 in caught.value.got


def test_abandoned_runs_are_closed_but_neither_young_nor_foreign_nor_finished_ones(uri: str) -> None:
    tracking = MlflowTracking(uri)
    tracked = tracking.log_training(IDENTITY, a_training())
    client = client_of(uri)
    experiment = client.get_experiment_by_name("credit").experiment_id
    old, now = str(time.time() - 1000), str(time.time())
    opened = {
        name: client.create_run(
            experiment, tags={"ml_pipelines.pipeline": pipeline, "ml_pipelines.opened_at": at}
        ).info.run_id
        for name, pipeline, at in (("old", "credit", old), ("young", "credit", now), ("foreign", "other", old))
    }
    assert tracking.close_abandoned("credit", 500) == 1
    assert tracking.close_abandoned("credit", 500) == 0
    states = {name: client.get_run(run_id).info.status for name, run_id in opened.items()}
    assert states == {"old": "KILLED", "young": "RUNNING", "foreign": "RUNNING"}
    assert client.get_run(tracked.run_id).info.status == "FINISHED"


# --- Registry ---


def registered(uri: str, **tags: str) -> tuple[TrackedModel, ModelVersion]:
    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    return tracked, MlflowRegistry(uri).register("credit", tracked, a_training().model_ref, IDENTITY, tags)


def test_registering_twice_gives_one_version(uri: str) -> None:
    tracked, version = registered(uri, reason="better")
    assert registered(uri, reason="better") == (tracked, version)
    assert (version.model, version.version, version.artifact) == ("credit", "1", a_training().model_ref)
    assert version.tags["reason"] == "better"
    assert version.tags["ml_pipelines.task_id"] == "train_model"
    actual = client_of(uri).get_logged_model(tracked.model_uri.removeprefix("models:/"))
    assert [link["name"] for link in json.loads(actual.tags["mlflow.modelVersions"])] == ["credit"]
    assert [entry.run_id for entry in client_of(uri).search_model_versions("name = 'credit'")] == [tracked.run_id]


def test_an_alias_is_set_found_and_dropped(uri: str) -> None:
    registry = MlflowRegistry(uri)
    assert registry.by_alias("credit", "champion") is None
    registry.drop_alias("credit", "champion")
    _, version = registered(uri)
    assert registry.by_alias("credit", "champion") is None
    registry.set_alias("credit", version.version, "champion")
    registry.set_alias("credit", version.version, "champion")
    assert registry.by_alias("credit", "champion") == replace(version, aliases=("champion",))
    registry.drop_alias("credit", "champion")
    registry.drop_alias("credit", "champion")
    assert registry.by_alias("credit", "champion") is None


def test_a_version_is_found_by_its_number(uri: str) -> None:
    registry = MlflowRegistry(uri)
    assert registry.by_version("credit", "1") is None
    _, version = registered(uri)
    assert registry.by_version("credit", version.version) == version
    assert [registry.by_version("credit", number) for number in ("9", "latest", "-1", "")] == [None] * 4


def test_an_alias_for_a_version_that_is_not_there_is_an_error(uri: str) -> None:
    registered(uri)
    with pytest.raises(RegistryError, match="no such model, version or run") as caught:
        MlflowRegistry(uri).set_alias("credit", "9", "champion")
    assert "version=9" in caught.value.got
    assert caught.value.fix.startswith("restore what was deleted in MLflow")


@pytest.mark.parametrize("artifact", [None, "not json", '{"uri": "x"}'])
def test_a_version_that_something_else_registered_has_no_artifact(uri: str, artifact: str | None) -> None:
    registered(uri)
    client = client_of(uri)
    tags = {} if artifact is None else {"ml_pipelines.artifact": artifact}
    version = client.create_model_version("credit", "s3://elsewhere/model", tags=tags)
    registry = MlflowRegistry(uri)
    registry.set_alias("credit", version.version, "champion")
    actual = registry.by_alias("credit", "champion")
    assert actual is not None
    assert (actual.version, actual.artifact, actual.tags) == ("2", None, tags)


def test_the_file_is_the_artifact_byte_for_byte(uri: str) -> None:
    _, version = registered(uri)
    data = MlflowRegistry(uri).fetch(version)
    assert data == a_training().model_bytes
    assert list(load_model(data).predict(pd.DataFrame(ROWS[:5]))) == a_training().predictions


def model_folder(tmp_path: Path) -> Path:
    return next(tmp_path.rglob("model.skops")).parent


def test_the_files_are_all_that_a_client_loads(uri: str, tmp_path: Path) -> None:
    _, version = registered(uri)
    files = MlflowRegistry(uri).fetch_files(version)
    assert files["model.skops"] == a_training().model_bytes
    assert files == {path.name: path.read_bytes() for path in model_folder(tmp_path).iterdir()}


@pytest.mark.parametrize("name", ["code/evil.py", "model.pkl", "code/deep/er.py", "registered_model_meta"])
def test_a_folder_with_other_files_is_refused(uri: str, tmp_path: Path, name: str) -> None:
    _, version = registered(uri)
    file = model_folder(tmp_path) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("import os")
    with pytest.raises(RegistryError, match="contains files that no pipeline writes") as caught:
        MlflowRegistry(uri).fetch_files(version)
    assert name.partition("/")[0] in caught.value.got


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loader_module: mlflow.sklearn", "loader_module: evil"),
        ("loader_module: mlflow.sklearn", "loader_module: mlflow.sklearn\n    code: code"),
        ("loader_module: mlflow.sklearn", "loader_module: mlflow.sklearn\n    model_code_path: m.py"),
        ("    code: null", "    code: code"),
        ("serialization_format: skops", "serialization_format: cloudpickle"),
        ("pickled_model: model.skops", "pickled_model: model.pkl"),
        ("skops_trusted_types:", "skops_trusted_types:\n    - os.system"),
        ("  sklearn:", "  spark:\n    code: null\n  sklearn:"),
        ("flavors:", "flavors: []\nothers:"),
        ("flavors:", "flavors: ["),
    ],
)
def test_a_description_that_would_run_other_code_is_refused(uri: str, tmp_path: Path, old: str, new: str) -> None:
    _, version = registered(uri)
    file = model_folder(tmp_path) / "MLmodel"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(RegistryError, match="MLmodel of the model would run other code"):
        MlflowRegistry(uri).fetch_files(version)


def test_a_folder_without_a_description_is_refused(uri: str, tmp_path: Path) -> None:
    _, version = registered(uri)
    (model_folder(tmp_path) / "MLmodel").unlink()
    with pytest.raises(RegistryError, match="MLmodel of the model would run other code"):
        MlflowRegistry(uri).fetch_files(version)


def test_a_file_that_is_gone_is_named_with_its_version(uri: str, tmp_path: Path) -> None:
    _, version = registered(uri)
    next(tmp_path.rglob("model.skops")).unlink()
    with pytest.raises(RegistryError, match="the file of version 1 of credit is gone") as caught:
        MlflowRegistry(uri).fetch(version)
    assert caught.value.expected == "model.skops"
    assert "MLmodel" in caught.value.got
    assert caught.value.fix == "restore MLflow's artifacts, or promote another version"


def test_a_version_that_is_gone_is_named(uri: str) -> None:
    _, version = registered(uri)
    client_of(uri).delete_model_version("credit", "1")
    with pytest.raises(RegistryError) as caught:
        MlflowRegistry(uri).fetch(version)
    assert "version=1" in caught.value.got


# --- Errors ---


def test_a_database_in_a_folder_that_is_a_file_is_final(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(PipelineError, match="MLflow does not accept a request") as caught:
        MlflowRegistry(uri).by_alias("credit", "champion")
    assert caught.value.where == uri
    assert not isinstance(caught.value, ServiceUnavailable)


def test_a_scheme_that_mlflow_does_not_know_is_not(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not accept") as caught:
        MlflowRegistry("gopher://host").by_alias("credit", "champion")
    assert not isinstance(caught.value, ServiceUnavailable)
    assert "gopher" in caught.value.got


def test_pages_are_those_of_a_server_without_credentials() -> None:
    assert MlflowServer("http://me:secret@host:5000/").page("models", "a b") == "http://host:5000/#/models/a%20b"
    assert MlflowServer("sqlite:///x.db").page("models") is None


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    MlflowRegistry(uri).drop_alias("credit", "champion")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"


def test_the_working_directory_and_the_process_wide_uri_are_left_alone(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking._tracking_service import utils

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = utils._tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    registered(uri)
    assert (utils._tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")) == before
    assert list(elsewhere.iterdir()) == []


# --- Killed and racing processes ---

KILLED_AT = (
    "after create_experiment",
    "after create_run",
    "after log_inputs",
    "after create_logged_model",
    "after log_outputs",
    "amid log_model_artifacts",
    "after log_model_artifacts",
    "after finalize_logged_model",
)


RACES = tuple(f"race {number}" for number in range(6))


@pytest.fixture(scope="module")
def aftermath(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Databases after processes were killed at each point, and after two raced; and what the processes reported."""
    folder = tmp_path_factory.mktemp("killed")
    for name in (*KILLED_AT, *RACES):
        (folder / name).mkdir()
        shutil.copy(empty_database, folder / name / "mlflow.db")
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize("point", KILLED_AT)
def test_after_a_kill_the_retry_completes_what_is_there(point: str, aftermath: tuple[Path, dict[str, Any]]) -> None:
    folder, reported = aftermath
    assert reported[point] == -signal.SIGKILL
    uri = f"sqlite:///{folder / point / 'mlflow.db'}"
    before = {run.info.run_id: run.info.status for run in runs(uri)}
    assert set(before.values()) <= {"RUNNING"}
    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    assert before.keys() <= {tracked.run_id}
    assert_one_of_each(uri, tracked)
    assert client_of(uri).get_run(tracked.run_id).data.metrics == a_training().metrics
    version = MlflowRegistry(uri).register("credit", tracked, a_training().model_ref, IDENTITY, {})
    assert MlflowRegistry(uri).fetch(version) == a_training().model_bytes


def test_the_first_who_use_a_database_make_its_tables_once(aftermath: tuple[Path, dict[str, Any]]) -> None:
    folder, reported = aftermath
    assert reported["new"] == [0, 0, 0]
    assert len(runs(f"sqlite:///{folder}/new/mlflow.db")) == 1


@pytest.mark.parametrize("race", RACES)
def test_two_processes_at_once_leave_one_of_each(race: str, aftermath: tuple[Path, dict[str, Any]]) -> None:
    folder, reported = aftermath
    uri = f"sqlite:///{folder / race / 'mlflow.db'}"
    assert reported[race] == [0, 0]
    (run,) = runs(uri)
    assert_one_of_each(uri, TrackedModel(run.info.run_id, models(uri)[0].model_uri))
    versions = client_of(uri).search_model_versions("name = 'credit'")
    assert [(str(version.version), version.run_id) for version in versions] == [("1", run.info.run_id)]
    assert len(client_of(uri).get_run(run.info.run_id).inputs.dataset_inputs) == 1


@pytest.mark.parametrize("conflict", [False, True])
def test_a_run_gives_way_to_an_older_one_that_shows_up_late(
    uri: str, conflict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process took its start time first, and its row became visible while this one was writing.

    It may have logged the same data set at the same moment, too.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    late: list[str] = []
    original = MlflowClient.log_inputs

    def log_inputs(self: MlflowClient, run_id: str, *args: Any) -> None:
        original(self, run_id, *args)
        if not late:
            mine = self.get_run(run_id)
            tags = {name: value for name, value in mine.data.tags.items() if name.startswith("ml_pipelines.")}
            older = self.create_run(mine.info.experiment_id, start_time=mine.info.start_time - 5, tags=tags)
            late.append(older.info.run_id)
            if conflict:
                raise MlflowException("(psycopg2.errors.UniqueViolation) duplicate key value")

    monkeypatch.setattr(MlflowClient, "log_inputs", log_inputs)
    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    assert [tracked.run_id] == late
    assert_one_of_each(uri, tracked)


def test_an_older_run_gives_way_to_one_that_is_complete(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process wrote everything between this one's start time and its row."""
    from mlflow import MlflowClient

    original = MlflowClient.create_run
    others: list[TrackedModel] = []

    def create_run(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(MlflowClient, "create_run", original)
        others.append(MlflowTracking(uri).log_training(IDENTITY, a_training()))
        return original(self, *args, start_time=1, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    assert MlflowTracking(uri).log_training(IDENTITY, a_training()) == others[0]
    assert_one_of_each(uri, others[0])


def test_a_model_gives_way_to_one_that_is_ready(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process made an entry of its own in the same run, and was done first."""
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelStatus

    original = MlflowClient.log_model_artifacts
    ready: list[str] = []

    def log_model_artifacts(self: MlflowClient, model_id: str, folder: str) -> None:
        original(self, model_id, folder)
        if not ready:
            mine = self.get_logged_model(model_id)
            other = self.create_logged_model(
                mine.experiment_id, source_run_id=mine.source_run_id, tags=dict(mine.tags), params=dict(mine.params)
            )
            original(self, other.model_id, folder)
            self.finalize_logged_model(other.model_id, LoggedModelStatus.READY)
            ready.append(other.model_uri)

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", log_model_artifacts)
    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    assert [tracked.model_uri] == ready
    assert_one_of_each(uri, tracked)


# --- A server ---


@pytest.mark.timeout(480)  # a server takes up to a minute to start, and it starts twice
def test_a_server_that_comes_goes_and_comes_back(
    empty_database: Path, tmp_path: Path, start_mlflow: Callable[..., AbstractContextManager[str]]
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with socket.socket() as actual:
        actual.bind(("127.0.0.1", 0))
        port = actual.getsockname()[1]
    uri = f"http://me:s3cret@127.0.0.1:{port}"
    tracking, registry = MlflowTracking(uri), MlflowRegistry(uri)
    assert_says_that_it_is_down(lambda: registry.by_alias("credit", "champion"), f"http://127.0.0.1:{port}")

    with start_mlflow(tmp_path, port):
        assert registry.by_alias("credit", "champion") is None
        tracked = tracking.log_training(IDENTITY, a_training())
        experiment = client_of(uri).get_experiment_by_name("credit").experiment_id
        assert tracked.url == f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs/{tracked.run_id}"
        tracking.log_evaluation(tracked, {"test/roc_auc": 0.75}, {"roc.svg": b"<svg/>"}, {})
        version = registry.register("credit", tracked, a_training().model_ref, IDENTITY, {"reason": "better"})
        assert version.url == f"http://127.0.0.1:{port}/#/models/credit/versions/1"
        with pytest.raises(RegistryError, match="no such model, version or run"):
            registry.set_alias("credit", "9", "champion")

    assert_says_that_it_is_down(lambda: tracking.log_training(IDENTITY, a_training()), f"http://127.0.0.1:{port}")

    with start_mlflow(tmp_path, port):
        assert tracking.log_training(IDENTITY, a_training()) == tracked
        assert registry.register("credit", tracked, a_training().model_ref, IDENTITY, {"reason": "better"}) == version
        assert_one_of_each(uri, tracked)
        registry.set_alias("credit", version.version, "champion")
        assert registry.by_alias("credit", "champion") == replace(version, aliases=("champion",))
        assert registry.fetch(version) == a_training().model_bytes
        assert len(registry.fetch_files(version)) == 7
        logged = client_of(uri).get_logged_model(tracked.model_uri.removeprefix("models:/"))
        assert {metric.key: metric.value for metric in logged.metrics}["test/roc_auc"] == 0.75
        next(tmp_path.rglob("model.skops")).unlink()
        with pytest.raises(RegistryError, match="the file of version 1 of credit is gone"):
            registry.fetch(version)


def assert_says_that_it_is_down(call: Callable[[], object], where: str) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="MLflow does not answer") as caught:
        call()
    assert time.monotonic() - started < 15
    assert caught.value.where == where
    assert "Connection refused" in caught.value.got
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


# --- The processes ---


def _killed_at(point: str, uri: str) -> None:
    """Log a training, and be killed in or after one of the client's calls."""
    from mlflow import MlflowClient

    moment, method = point.split()
    original = getattr(MlflowClient, method)

    def call_and_die(self: Any, *args: Any, **kwargs: Any) -> None:
        if moment == "amid":
            (Path(args[1]) / "model.skops").unlink()
        original(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, method, call_and_die)
    MlflowTracking(uri).log_training(IDENTITY, a_training())


def _race(uri: str, both: Any) -> None:
    """Log and register, waiting for the other process wherever nothing has been found yet."""
    from mlflow import MlflowClient

    def meet_after_first(method: str) -> None:
        original = getattr(MlflowClient, method)
        met: list[str] = []

        def search(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            if not met:
                met.append(method)
                both.wait(60)
            return result

        setattr(MlflowClient, method, search)

    for method in (
        *("get_experiment_by_name", "search_runs", "search_logged_models"),  # then each creates
        *("update_run", "get_run", "search_model_versions"),  # then each logs inputs, outputs, registers
    ):
        meet_after_first(method)
    tracked = MlflowTracking(uri).log_training(IDENTITY, a_training())
    MlflowRegistry(uri).register("credit", tracked, a_training().model_ref, IDENTITY, {})


def _open_new(uri: str, all_of_them: Any) -> None:
    """Be among the first who use a database."""
    all_of_them.wait(60)
    MlflowTracking(uri).log_training(IDENTITY, a_training())


def _processes(folder: Path) -> dict[str, Any]:
    import mlflow.sklearn
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    a_training()
    fork = multiprocessing.get_context("fork")  # what is imported need not be imported again
    reported: dict[str, Any] = {}
    for point in KILLED_AT:
        process = fork.Process(target=_killed_at, args=(point, f"sqlite:///{folder / point / 'mlflow.db'}"))
        process.start()
        process.join()
        reported[point] = process.exitcode
    for race in RACES:
        both = fork.Barrier(2)
        racing = [fork.Process(target=_race, args=(f"sqlite:///{folder / race / 'mlflow.db'}", both)) for _ in range(2)]
        for process in racing:
            process.start()
        for process in racing:
            process.join()
        reported[race] = [process.exitcode for process in racing]
    (folder / "new").mkdir()
    at_once = fork.Barrier(3)
    first = [fork.Process(target=_open_new, args=(f"sqlite:///{folder}/new/mlflow.db", at_once)) for _ in range(3)]
    for process in first:
        process.start()
    for process in first:
        process.join()
    reported["new"] = [process.exitcode for process in first]
    return reported


if __name__ == "__main__":
    print(json.dumps(_processes(Path(sys.argv[1]))))
