from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from ml_pipelines_airflow.links import REPORT_ROUTE
from ml_pipelines_airflow.plugin import MLPipelinesPlugin

PLUGINS = Path(__file__).parents[3] / "plugins"
# What a component does at its start, with the checkout's folder as its plugins folder.
LOAD = """
import json, logging, sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
ours = [name for name in sys.modules if name.rpartition(".")[2] in ("dag", "tasks", "demo") and "ml_pipelines" in name]
heavy = {"dvc", "fastapi", "mlflow", "numpy", "pandas", "polars", "slack_sdk", "sklearn"}
print(json.dumps([[str(plugin.name) for plugin in plugins], errors, sorted(heavy & set(sys.modules)), ours,
                  [name for name in sys.modules if name in ("dag", "tasks", "plugin", "settings", "links")]]))
"""


def test_it_comes_by_its_entry_point() -> None:
    (entry,) = [each for each in entry_points(group="airflow.plugins") if each.name == "ml_pipelines"]
    assert entry.load() is MLPipelinesPlugin


def test_its_links_attach_to_nobody_by_themselves() -> None:
    assert [link.name for link in MLPipelinesPlugin.operator_extra_links] == ["MLflow run", "Model version", "Report"]
    assert [link.operators for link in MLPipelinesPlugin.operator_extra_links] == [[]] * 3
    assert MLPipelinesPlugin.global_operator_extra_links == []


def test_its_pages_are_in_the_navigation_on_a_dag_and_on_a_run() -> None:
    views = MLPipelinesPlugin().external_views
    assert {each["destination"]: each["href"] for each in views} == {
        "nav": "/ml-models/",
        "dag": "/ml-models/dag?dag_id={DAG_ID}",
        "dag_run": "/ml-models/run?dag_id={DAG_ID}&run_id={RUN_ID}",
    }
    assert len({each["url_route"] for each in views}) == len(views)
    assert {each["url_route"]: each["destination"] for each in views}[REPORT_ROUTE] == "dag_run"


def test_behind_a_proxys_path_its_pages_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")
    assert [each["href"][:19] for each in MLPipelinesPlugin().external_views] == ["/airflow/ml-models/"] * 3


def test_the_api_server_is_given_the_web_application() -> None:
    from ml_pipelines_airflow.ui.app import app

    assert MLPipelinesPlugin().fastapi_apps == [{"app": app, "url_prefix": "/ml-models", "name": "ML models"}]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_plugins_folder_that_holds_the_package_loads_it_once(loaded: list[list[str]]) -> None:
    names, errors, _, _, by_file_name = loaded
    assert names.count("ml_pipelines") == 1
    assert not errors
    assert by_file_name == []


def test_it_brings_nothing_that_a_component_does_not_need(loaded: list[list[str]]) -> None:
    assert loaded[2:4] == [[], []]
