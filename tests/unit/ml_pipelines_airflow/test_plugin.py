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
# Loads the plugins as a component of Airflow at its start, with the folder of the checkout as its plugins folder.
LOAD = """
import json, logging, sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
own = [name for name in sys.modules if name.rpartition(".")[2] in ("dag", "tasks", "demo") and "ml_pipelines" in name]
heavy = {"dvc", "fastapi", "mlflow", "numpy", "pandas", "polars", "slack_sdk", "sklearn"}
print(json.dumps([[str(plugin.name) for plugin in plugins], errors, sorted(heavy & set(sys.modules)), own,
                  [name for name in sys.modules if name in ("dag", "tasks", "plugin", "settings", "links")]]))
"""


def test_plugin_has_an_entry_point() -> None:
    (entry,) = [point for point in entry_points(group="airflow.plugins") if point.name == "ml_pipelines"]
    assert entry.load() is MLPipelinesPlugin


def test_links_belong_to_no_operator_class() -> None:
    assert [link.name for link in MLPipelinesPlugin.operator_extra_links] == ["MLflow run", "Model version", "Report"]
    assert [link.operators for link in MLPipelinesPlugin.operator_extra_links] == [[]] * 3
    assert MLPipelinesPlugin.global_operator_extra_links == []


def test_pages_are_in_the_navigation_on_a_dag_and_on_a_run() -> None:
    views = MLPipelinesPlugin().external_views
    assert {view["destination"]: view["href"] for view in views} == {
        "nav": "/ml-models/",
        "dag": "/ml-models/dag?dag_id={DAG_ID}",
        "dag_run": "/ml-models/run?dag_id={DAG_ID}&run_id={RUN_ID}",
    }
    assert len({view["url_route"] for view in views}) == len(views)
    assert {view["url_route"]: view["destination"] for view in views}[REPORT_ROUTE] == "dag_run"


def test_pages_have_the_path_of_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")
    assert [view["href"][:19] for view in MLPipelinesPlugin().external_views] == ["/airflow/ml-models/"] * 3


def test_web_application_is_registered() -> None:
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
    process = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    return list(json.loads(process.stdout.splitlines()[-1]))


def test_plugins_folder_with_the_package_loads_it_once(loaded: list[list[str]]) -> None:
    names, errors, _, _, by_file_name = loaded
    assert names.count("ml_pipelines") == 1
    assert not errors
    assert by_file_name == []


def test_plugin_imports_no_heavy_package(loaded: list[list[str]]) -> None:
    assert loaded[2:4] == [[], []]
