"""A running Airflow: new data starts a run, a new champion starts another DAG, and tasks link to MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow.server import Server, standalone

pytestmark = [
    pytest.mark.xdist_group("airflow-standalone"),
    pytest.mark.timeout(900),
    # pygtrie, a dependency of DVC, uses its own deprecated API.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

PLUGINS = Path(__file__).parents[3] / "plugins"
DATA = "data/customers.csv"
UI = "https://mlflow.example.com/team"

# DAGs without a declaration: one waits for the champion and promotes it again, the other runs for each new champion.
CUSTOM_DAGS = '''"""Airflow DAGs without a declaration."""

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from ml_pipelines_airflow import ModelAliasSensor, ModelAliasTrigger, PromoteModelOperator, model_asset


def work():
    return 1


with DAG("custom"):
    wait = ModelAliasSensor(task_id="wait", model="small-model", poke_interval=1)
    promote = PromoteModelOperator(
        task_id="promote",
        model="small-model",
        version="{{ ti.xcom_pull(task_ids='wait')['version'] }}",
        outlets=[model_asset("small-model")],
    )
    wait >> promote >> PythonOperator(task_id="work", python_callable=work)

trigger = ModelAliasTrigger(model="small-model", alias="champion", poll_seconds=1)
champion = Asset(name="champion", uri="x-champion://small", watchers=[AssetWatcher(name="champion", trigger=trigger)])

with DAG("on_champion", schedule=[champion]):
    PythonOperator(task_id="score", python_callable=work)
'''


@pytest.fixture(scope="module")
def repo(make_dvc_repo: Callable[..., Any]) -> Any:
    return make_dvc_repo()


@pytest.fixture(scope="module")
def server(repo: Any, make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    rows = (airflow.root / "data" / "customers.csv").read_bytes().splitlines(keepends=True)
    repo.commit({DATA: b"".join(rows[:400])})
    airflow.add_pipeline(
        "watched",
        data={
            "dvc": {"repo": "${ML_DATA_REPO}", "path": DATA, "rev": "main"},
            "key": "customer_id",
            "target": "label",
        },
        schedule={"on_new_data": "1s"},
    )
    (airflow.root / "dags" / "custom.py").write_text(CUSTOM_DAGS)
    mlflow = {"conn_type": "mlflow", "host": airflow.environment["MLFLOW_TRACKING_URI"], "extra": {"ui_url": UI}}
    environment = {
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps(mlflow),
        "ML_DATA_REPO": str(repo.folder),
        "GIT_TRACE": str(airflow.root / "git.trace"),
    }
    with standalone(airflow, "watched", "on_champion", "custom", **environment) as running:
        running.unpause("watched", "on_champion")
        for dag in ("watched", "on_champion"):
            running.parse(dag)  # Airflow starts the watchers of a DAG after its second parse
        yield running


def runs_of(server: Server, dag: str) -> list[dict[str, Any]]:
    return list(server.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"])


def ended_run(server: Server, dag: str) -> dict[str, Any]:
    """Wait for the end of the only run of a DAG and return it."""

    def ended_runs() -> Any:
        return [run for run in runs_of(server, dag) if run["state"] in ("success", "failed")]

    (run,) = server.until(f"end of a run of {dag}", ended_runs)
    return dict(run)


def get(server: Server, run: dict[str, Any], task: str, path: str) -> Any:
    """Get a resource of a task instance."""
    return server.call("GET", f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{task}/{path}")


def links(server: Server, run: dict[str, Any], task: str, map_index: int = -1) -> Any:
    return get(server, run, task, f"links?map_index={map_index}")["extra_links"]


def xcom(server: Server, run: dict[str, Any], task: str, key: str = "return_value") -> Any:
    return get(server, run, task, f"xcomEntries/{key}?deserialize=true")["value"]


def events(server: Server, name: str) -> list[dict[str, Any]]:
    rows = server.call("GET", "/assets/events?limit=100")["asset_events"]
    return [event for event in rows if event["name"] == name]


def await_poll(server: Server) -> None:
    """Wait for a poll of the repository that starts from now on."""
    trace = server.root / "git.trace"

    def polls() -> int:
        return trace.read_text().count("main^{commit}") if trace.exists() else 0

    before = polls()
    server.until("poll of the repository", lambda: polls() > before + 1)  # the first one may have started earlier


@pytest.fixture(scope="module")
def trained(server: Server, repo: Any) -> dict[str, Any]:
    """The run that new data started, after a commit without new data."""
    folder = server.root / "store" / "watches"
    kinds = ("dvc", "alias")
    server.until("first value of each watcher", lambda: all(list((folder / kind).glob("**/*.json")) for kind in kinds))
    repo.commit_git({"README.md": b"Customers.\n"})
    await_poll(server)
    await_poll(server)
    assert runs_of(server, "watched") == []
    assert events(server, "watched.revision") == []
    repo.commit({DATA: (server.root / "data" / "customers.csv").read_bytes()})
    return ended_run(server, "watched")


def test_dags_and_plugins_import(server: Server) -> None:
    assert server.call("GET", "/importErrors")["import_errors"] == []
    assert server.call("GET", "/plugins/importErrors")["import_errors"] == []
    plugins = [plugin["name"] for plugin in server.call("GET", "/plugins")["plugins"]]
    assert plugins.count("ml_pipelines") == 1


def test_only_a_commit_with_new_data_starts_a_run(server: Server, repo: Any, trained: dict[str, Any]) -> None:
    assert (trained["state"], trained["run_type"]) == ("success", "asset_triggered")
    (event,) = events(server, "watched.revision")
    payload = event["extra"]["payload"]
    assert payload == xcom(server, trained, "ingest_data", "ingest")["values"]["pin"]
    assert payload["revision"] == repo.git("rev-parse", "HEAD")
    await_poll(server)
    assert len(runs_of(server, "watched")) == 1


def test_tasks_link_to_mlflow_and_the_report(server: Server, trained: dict[str, Any]) -> None:
    runs = [links(server, trained, "train_model", index) for index in (0, 1)]
    assert [set(links) for links in runs] == [{"MLflow run"}] * 2
    urls = [links["MLflow run"] for links in runs]
    assert len(set(urls)) == 2
    assert all(url.startswith(f"{UI}/#/experiments/1/runs/") for url in urls)
    report = links(server, trained, "evaluate_model")
    assert set(report) == {"Report"}
    assert report["Report"].startswith(f"{server.url}/dags/watched/runs/")
    assert report["Report"].endswith("/plugin/ml-report")
    assert links(server, trained, "record_decision") == report
    version = {"Model version": f"{UI}/#/models/small-model/versions/1"}
    assert links(server, trained, "register_and_deploy") == version
    assert links(server, trained, "preprocess_data") == {}


def test_new_champion_starts_a_dag(server: Server, trained: dict[str, Any]) -> None:
    run = ended_run(server, "on_champion")
    assert (run["state"], run["run_type"]) == ("success", "asset_triggered")
    (event,) = events(server, "champion")
    assert event["extra"]["payload"] == {"model": "small-model", "alias": "champion", "version": "1"}


def test_custom_dag_waits_for_the_champion_and_promotes_it(server: Server, trained: dict[str, Any]) -> None:
    server.unpause("custom")
    server.trigger("custom")
    run = ended_run(server, "custom")
    assert run["state"] == "success"
    assert xcom(server, run, "wait") == {"model": "small-model", "alias": "champion", "version": "1"}
    values = {"model": "small-model", "version": "1", "previous_version": None}
    assert xcom(server, run, "promote") == values
    extras = [event["extra"] for event in events(server, "small-model") if event["source_dag_id"] == "custom"]
    assert extras == [values | {"reason": ""}]
    assert links(server, run, "promote") == {"Model version": f"{UI}/#/models/small-model/versions/1"}
    assert links(server, run, "work") == {}
