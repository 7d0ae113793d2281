from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest

from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE, PICKLE_VARIABLE, allowed_packages, may_pickle
from ml_pipelines_airflow.config import CONFIG, export_allow_lists, option


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CONFIG["ml_pipelines"]["options"]:
        monkeypatch.delenv(f"AIRFLOW__ML_PIPELINES__{name.upper()}", raising=False)


def test_options_match_the_schema_of_airflow() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate({"name": "x", "description": "x", "config": CONFIG}, schema)


@pytest.mark.parametrize(("name", "default"), [("store", ""), ("mlflow_conn_id", "mlflow_default")])
def test_option_without_a_value_is_the_default(name: str, default: str) -> None:
    assert option(name) == default


def test_option_is_read_on_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", "s3://one/store")
    assert option("store") == "s3://one/store"
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", "s3://two/store")
    assert option("store") == "s3://two/store"


def test_unknown_option_raises() -> None:
    with pytest.raises(KeyError, match="stores"):
        option("stores")


def test_export_allow_lists_sets_the_variable_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACKAGES_VARIABLE, "xgboost")
    export_allow_lists()
    assert "xgboost" in allowed_packages()
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__CODE_PACKAGES", "catboost, ngboost")
    export_allow_lists()
    assert {"catboost", "ngboost"} <= set(allowed_packages())
    monkeypatch.setenv(PICKLE_VARIABLE, "allow")
    assert may_pickle()
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__CODE_PICKLE", "forbid")
    export_allow_lists()
    assert not may_pickle()
