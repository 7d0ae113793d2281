from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Asset, AssetWatcher

from ml_pipelines_airflow import assets
from ml_pipelines_airflow.assets import dataset_asset, model_asset, revision_asset
from ml_pipelines_airflow.triggers import DvcRevisionTrigger

WATCHER = AssetWatcher(name="w", trigger=DvcRevisionTrigger(path="a.csv", repo="r"))


@pytest.mark.parametrize(
    ("asset", "name", "uri", "group"),
    [
        (model_asset("churn-model"), "churn-model", "mlflow://models/churn-model", "model"),
        (dataset_asset("churn"), "churn.data", "ml-pipelines://churn/data", "dataset"),
        (revision_asset("churn", "data/a b.csv", WATCHER), "churn.revision", "dvc://churn/data/a%20b.csv", "dataset"),
    ],
)
def test_assets_have_the_expected_names_and_uris(asset: Asset, name: str, uri: str, group: str) -> None:
    assert (asset.name, asset.uri, asset.group) == (name, uri, group)


def test_revision_asset_has_its_watcher() -> None:
    assert revision_asset("churn", "a.csv", WATCHER).watchers == [WATCHER]


@pytest.mark.parametrize("name", ["Churn_Model", "a.b", "a-b_c.9"])
def test_uris_keep_the_names_of_declarations(name: str) -> None:
    assert model_asset(name).uri == f"mlflow://models/{name}"
    assert dataset_asset(name).uri == f"ml-pipelines://{name}/data"
    assert revision_asset(name, "x/y.csv", WATCHER).uri == f"dvc://{name}/x/y.csv"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "mlflow://churn",
            ("mlflow://models/NAME", "mlflow://churn/", "ml_pipelines_airflow.model_asset"),
        ),
        (
            "mlflow://models/churn/3",
            ("mlflow://models/NAME", "mlflow://models/churn/3", "ml_pipelines_airflow.model_asset"),
        ),
        (
            "ml-pipelines://churn",
            ("ml-pipelines://PIPELINE/data, /scores or /drift", "ml-pipelines://churn/", "dataset_asset"),
        ),
        ("dvc://churn", ("dvc://PIPELINE/PATH", "dvc://churn/")),
        ("dvc:///a.csv", ("dvc://PIPELINE/PATH", "dvc:/a.csv")),
    ],
)
def test_airflow_rejects_other_uris(uri: str, expected: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected an asset URI") as caught:
        Asset(name="a", uri=uri)
    assert all(text in str(caught.value) for text in expected)


@pytest.mark.parametrize("uri", ["mlflow:models", "mlflow://models", "mlflow://models/"])
def test_uri_of_a_model_needs_a_name(uri: str) -> None:
    with pytest.raises(ValueError, match="expected an asset URI like mlflow://models/NAME"):
        assets.sanitize_mlflow(urlsplit(uri))


def test_airflow_uses_the_handlers_of_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    handlers: Any = ProvidersManagerTaskRuntime().asset_uri_handlers
    assert {scheme: handlers[scheme] for scheme in ("mlflow", "dvc", "ml-pipelines")} == {
        "mlflow": assets.sanitize_mlflow,
        "dvc": assets.sanitize_dvc,
        "ml-pipelines": assets.sanitize_ml_pipelines,
    }
