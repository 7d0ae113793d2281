"""A registered model whose folder in MLflow was changed is neither deployed nor rolled back to, nor used for scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def test_a_changed_folder_is_refused_and_the_restored_one_is_not(shop: Any, mlflow_uri: str) -> None:
    model = {"name": "changed-model", "task": "classification"}
    shop.declare(model=model, gate={"metric": "roc_auc", "lift_over_dummy": 0})
    assert (shop.run("first").code, shop.outcome("first")) == (0, "promoted")
    client = MlflowClient(mlflow_uri, mlflow_uri)
    folder = Path(client.get_model_version_download_uri(model["name"], "1").removeprefix("file://"))
    scoring = shop.folder / "scores.yaml"
    source = {"file": {"path": str(shop.csv)}, "key": "id"}
    scoring.write_text(json.dumps({"model": {"name": model["name"]}, "data": source, "shards": {"count": 1}}))
    (stored,) = (shop.folder / "store").rglob("*.skops")

    def score(run_id: str) -> Any:
        stored.unlink(missing_ok=True)  # so that the model comes from MLflow
        return shop.command("score", scoring, "--store", shop.folder / "store", "--run-id", run_id)

    original = (folder / "requirements.txt").read_bytes()
    (folder / "requirements.txt").write_bytes(original + b"evil\n")
    refused = score("changed")
    assert refused.code == 1
    assert refused.err.startswith("ArtifactCorrupt: the registry serves other files than were registered")
    assert "requirements.txt" in refused.err
    (folder / "requirements.txt").write_bytes(original)
    (folder / "code").mkdir()
    (folder / "code" / "evil.py").write_text("raise SystemExit('ran')")
    refused = score("added")
    assert refused.err.startswith("RegistryError: the folder of the model contains files that no pipeline writes")
    (folder / "code" / "evil.py").unlink()
    (folder / "code").rmdir()
    assert score("restored").code == 0
    tampered = (folder / "MLmodel").read_text().replace("loader_module: mlflow.sklearn", "loader_module: evil")
    (folder / "MLmodel").write_text(tampered)
    client.delete_registered_model_alias(model["name"], "champion")
    refused = shop.command("rollback", model["name"], "--to", "1", "--reason", "r", "--run-id", "back")
    assert refused.code == 1
    assert refused.err.startswith("RegistryError")
    assert client.get_registered_model(model["name"]).aliases == {}
