from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_pipelines.errors import ArtifactCorrupt, RequestError
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.sources import DvcSource, FileSource, SqlSource
from ml_pipelines.store.artifact_store import ArtifactStore


def settings(folder: Path) -> Settings:
    return Settings(
        store=f"file://{folder}", tracking_uri="http://user:secret@mlflow", connections={"crm": "sqlite://"}
    )


def test_everything_is_in_the_working_directory_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    actual = Settings.from_environment({})
    assert actual.store == f"file://{tmp_path}/.ml-pipelines/store"
    assert actual.tracking_uri == f"sqlite:///{tmp_path}/.ml-pipelines/mlflow.db"
    assert actual.ledger == f"sqlite:///{tmp_path}/.ml-pipelines/ledger.db"
    assert not list(tmp_path.iterdir())


def test_the_environment_tells_where_the_systems_are() -> None:
    environment = {
        "ML_PIPELINES_STORE": "s3://b/store",
        "ML_PIPELINES_LEDGER": "postgresql://me:s3cret@db/ml",
        "MLFLOW_TRACKING_URI": "http://mlflow",
        "ML_PIPELINES_CONNECTION_CRM": "sqlite://",
        "ML_PIPELINES_CELLS_PER_GROUP": "5000",
        "ML_DATA_REPO": "/data",
        "AIRFLOW__CORE__FERNET_KEY": "f3rnet",
    }
    actual = Settings.from_environment(environment)
    assert (actual.store, actual.tracking_uri, actual.connections) == (
        "s3://b/store",
        "http://mlflow",
        {"crm": "sqlite://"},
    )
    assert actual.environment == {"ML_DATA_REPO": "/data"}
    assert ConnectedServices(actual).cells_per_group == 5000
    assert actual.ledger == "postgresql://me:s3cret@db/ml"
    assert "sqlite://" not in repr(actual)
    assert "s3cret" not in repr(actual)


def test_another_process_is_told_the_same() -> None:
    output = Settings(
        store="s3://b/store",
        ledger="postgresql://ledger",
        tracking_uri="http://mlflow",
        tracking_ui="https://ml.example.com",
        tracking_variables={"MLFLOW_TRACKING_TOKEN": "t"},
        connections={"crm": "sqlite://", "other": "secret"},
        cells_per_group=70,
    )
    environment = output.as_environment("crm", "unknown")
    again = Settings.from_environment(environment)
    assert (again.store, again.ledger, again.tracking_uri) == (output.store, output.ledger, output.tracking_uri)
    assert (again.tracking_ui, again.cells_per_group) == (output.tracking_ui, 70)
    assert again.connections == {"crm": "sqlite://"}
    assert environment["MLFLOW_TRACKING_TOKEN"] == "t"
    assert "secret" not in environment.values()
    assert Settings.from_environment(Settings(store="s", tracking_uri="u").as_environment()).tracking_ui is None


def test_another_process_can_verify_manifests_but_not_sign_them() -> None:
    settings = Settings(store="s", tracking_uri="u", signing_key="ab" * 32)
    assert "abab" not in repr(settings)
    environment = settings.as_environment()
    again = Settings.from_environment(environment).manifest_keys
    assert settings.manifest_keys
    assert again
    assert (settings.manifest_keys.can_sign, again.can_sign) == (True, False)
    assert again.verification == settings.manifest_keys.verification
    assert "ab" * 32 not in environment.values()


@pytest.mark.parametrize("text", ["0", "-5", "many", "1e6", "0.5"])
def test_what_is_no_number_of_cells_is_told(text: str) -> None:
    with pytest.raises(RequestError, match="this is not a number of cells") as caught:
        Settings.from_environment({"ML_PIPELINES_CELLS_PER_GROUP": text})
    assert (caught.value.where, caught.value.got) == ("ML_PIPELINES_CELLS_PER_GROUP", text)
    assert "leave it empty for 800000" in caught.value.fix


def test_a_place_is_told_apart_and_says_nothing_of_the_address(tmp_path: Path) -> None:
    here = ConnectedServices(settings(tmp_path)).server_id
    assert here == ConnectedServices(settings(tmp_path / "other")).server_id
    assert here != ConnectedServices(Settings(store=str(tmp_path), tracking_uri="http://other")).server_id
    assert len(here) == 16
    assert "secret" not in here
    changed = Settings(store=str(tmp_path), tracking_uri="http://user:changed@mlflow", tracking_ui="http://other")
    assert (
        here
        == ConnectedServices(changed).server_id
        == ConnectedServices(
            Settings(
                store=str(tmp_path), tracking_uri="http://mlflow", tracking_variables={"MLFLOW_TRACKING_TOKEN": "t"}
            )
        ).server_id
    )


def test_no_secret_is_shown(tmp_path: Path) -> None:
    shown = repr(Settings(store="s", tracking_uri="http://me:s3cret@m", tracking_variables={"T": "t0ken"}))
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_mlflow_is_told_who_asks_and_where_people_look(tmp_path: Path) -> None:
    where = Settings(
        store=str(tmp_path),
        tracking_uri="http://me:s3cret%2F@mlflow:5000/",
        tracking_ui="https://mlflow.example.com",
        tracking_variables={"MLFLOW_TRACKING_INSECURE_TLS": "true"},
    )
    services = ConnectedServices(where)
    for server in (services.tracking._server, services.registry._server):
        assert server.uri == server.where == "http://mlflow:5000/"
        assert server.page("models", "a b") == "https://mlflow.example.com/#/models/a%20b"
        assert server.variables == {
            "MLFLOW_TRACKING_USERNAME": "me",
            "MLFLOW_TRACKING_PASSWORD": "s3cret/",
            "MLFLOW_TRACKING_INSECURE_TLS": "true",
        }


@pytest.mark.parametrize(
    ("declared", "adapter"),
    [
        (FileSource(path="a.csv"), "FileDataSource"),
        (DvcSource(repo="r", path="a.csv"), "DvcDataSource"),
        (SqlSource(query="select 1", connection="crm"), "SqlDataSource"),
    ],
)
def test_each_kind_of_source_has_its_adapter(tmp_path: Path, declared: Any, adapter: str) -> None:
    assert type(ConnectedServices(settings(tmp_path)).source(declared)).__name__ == adapter


def test_bytes_of_others_are_taken_in_if_they_are_what_was_promised(tmp_path: Path) -> None:
    ref = ArtifactStore(str(tmp_path / "theirs")).put_bytes(b"model", kind="model")
    services = ConnectedServices(settings(tmp_path / "mine"))
    mine = services.copy_artifact(ref, b"model")
    assert mine.uri.startswith(f"file://{tmp_path}/mine/objects/")
    assert services.read(mine) == b"model"
    with pytest.raises(ArtifactCorrupt, match="do not have its digest") as caught:
        services.copy_artifact(ref, b"other")
    assert caught.value.expected == f"sha256 {ref.sha256}"
    assert caught.value.fix == "train the model again"


def test_an_empty_store_is_none(tmp_path: Path) -> None:
    assert settings(tmp_path).at("") == settings(tmp_path).at(None) == settings(tmp_path)
