from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest

from ml_pipelines_airflow.config import CONFIG, option


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CONFIG["ml_pipelines"]["options"]:
        monkeypatch.delenv(f"AIRFLOW__ML_PIPELINES__{name.upper()}", raising=False)


def test_the_options_are_declared_as_airflow_asks() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate({"name": "x", "description": "x", "config": CONFIG}, schema)


@pytest.mark.parametrize(("name", "default"), [("store", ""), ("mlflow_conn_id", "mlflow_default")])
def test_an_option_has_a_default(name: str, default: str) -> None:
    assert option(name) == default


def test_an_option_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", "s3://one/store")
    assert option("store") == "s3://one/store"
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", "s3://two/store")
    assert option("store") == "s3://two/store"


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(KeyError, match="stores"):
        option("stores")
