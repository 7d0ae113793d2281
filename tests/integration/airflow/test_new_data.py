"""New data starts a run, a new champion starts another DAG, and tasks link to MLflow, in a running Airflow."""

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
    # pygtrie, below DVC, uses what it deprecates.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

PLUGINS = Path(__file__).parents[3] / "plugins"
DATA = "data/customers.csv"
UI = "https://mlflow.example.com/team"

# What a team writes by hand: a task of its own, one that waits for the champion and makes sure of it, and a DAG that
# runs when there is a new one.
BY_HAND = '''"""Airflow DAGs of somebody else."""

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from ml_pipelines_airflow.assets import model_asset
from ml_pipelines_airflow.operators.models import PromoteModelOperator
from ml_pipelines_airflow.sensors import ModelAliasSensor
from ml_pipelines_airflow.triggers import ModelAliasTrigger


def work():
    return 1


with DAG("by_hand"):
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
        "watching",
        data={
            "dvc": {"repo": "${DATA_REPO}", "path": DATA, "rev": "main"},
            "key": "customer_id",
            "target": "label",
        },
        schedule={"on_new_data": "1s"},
    )
    (airflow.root / "dags" / "by_hand.py").write_text(BY_HAND)
    mlflow = {"conn_type": "mlflow", "host": airflow.environment["MLFLOW_TRACKING_URI"], "extra": {"ui_url": UI}}
    environment = {
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps(mlflow),
        "DATA_REPO": str(repo.folder),
        "GIT_TRACE": str(airflow.root / "git.trace"),
    }
    with standalone(airflow, "watching", "on_champion", "by_hand", **environment) as running:
        running.unpause("watching", "on_champion")
        for dag in ("watching", "on_champion"):
            running.parse(dag)  # as Airflow does in a while: what a DAG watches is watched from the next time on
        yield running


def runs_of(server: Server, dag: str) -> list[dict[str, Any]]:
    return list(server.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"])


def ended(server: Server, dag: str) -> dict[str, Any]:
    """The one run of a DAG, once it has ended."""

    def found() -> Any:
        return [run for run in runs_of(server, dag) if run["state"] in ("success", "failed")]

    (run,) = server.until(f"end of a run of {dag}", found)
    return dict(run)


def get(server: Server, run: dict[str, Any], task: str, what: str) -> Any:
    """What there is of a task of a run."""
    return server.call("GET", f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{task}/{what}")


def links(server: Server, run: dict[str, Any], task: str, map_index: int = -1) -> Any:
    return get(server, run, task, f"links?map_index={map_index}")["extra_links"]


def xcom(server: Server, run: dict[str, Any], task: str, key: str = "return_value") -> Any:
    return get(server, run, task, f"xcomEntries/{key}?deserialize=true")["value"]


def events(server: Server, name: str) -> list[dict[str, Any]]:
    every = server.call("GET", "/assets/events?limit=100")["asset_events"]
    return [event for event in every if event["name"] == name]


def await_look(server: Server) -> None:
    """Wait until the repository has been looked at, from now on."""
    trace = server.root / "git.trace"

    def looks() -> int:
        return trace.read_text().count("main^{commit}") if trace.exists() else 0

    before = looks()
    server.until("look at the repository", lambda: looks() > before + 1)  # the first may have begun earlier


@pytest.fixture(scope="module")
def trained(server: Server, repo: Any) -> dict[str, Any]:
    """The run that new data has started, after a commit that left the data alone has not."""
    folder = server.root / "store" / "watches"
    kinds = ("dvc", "alias")
    server.until("first sight of each", lambda: all(list((folder / kind).glob("**/*.json")) for kind in kinds))
    repo.commit_git({"README.md": b"Customers.\n"})
    await_look(server)
    await_look(server)
    assert runs_of(server, "watching") == []
    assert events(server, "watching.revision") == []
    repo.commit({DATA: (server.root / "data" / "customers.csv").read_bytes()})
    return ended(server, "watching")


def test_nothing_fails_to_import(server: Server) -> None:
    assert server.call("GET", "/importErrors")["import_errors"] == []
    assert server.call("GET", "/plugins/importErrors")["import_errors"] == []
    plugins = [plugin["name"] for plugin in server.call("GET", "/plugins")["plugins"]]
    assert plugins.count("ml_pipelines") == 1


def test_new_data_starts_one_run_and_a_commit_that_leaves_it_alone_none(
    server: Server, repo: Any, trained: dict[str, Any]
) -> None:
    assert (trained["state"], trained["run_type"]) == ("success", "asset_triggered")
    (event,) = events(server, "watching.revision")
    payload = event["extra"]["payload"]
    assert payload == xcom(server, trained, "ingest_data", "ingest")["values"]["pin"]
    assert payload["revision"] == repo.git("rev-parse", "HEAD")
    await_look(server)
    assert len(runs_of(server, "watching")) == 1


def test_tasks_link_to_mlflow_and_the_report(server: Server, trained: dict[str, Any]) -> None:
    runs = [links(server, trained, "train_model", index) for index in (0, 1)]
    assert [set(links) for links in runs] == [{"MLflow run"}] * 2
    urls = [links["MLflow run"] for links in runs]
    assert len(set(urls)) == 2
    assert all(url.startswith(f"{UI}/#/experiments/1/runs/") for url in urls)
    report = links(server, trained, "evaluate_model")
    assert set(report) == {"Report"}
    assert report["Report"].startswith(f"{server.url}/dags/watching/runs/")
    assert report["Report"].endswith("/plugin/ml-report")
    assert links(server, trained, "record_decision") == report
    version = {"Model version": f"{UI}/#/models/small-model/versions/1"}
    assert links(server, trained, "register_and_deploy") == version
    assert links(server, trained, "preprocess_data") == {}


def test_a_new_champion_starts_a_dag(server: Server, trained: dict[str, Any]) -> None:
    run = ended(server, "on_champion")
    assert (run["state"], run["run_type"]) == ("success", "asset_triggered")
    (event,) = events(server, "champion")
    assert event["extra"]["payload"] == {"model": "small-model", "alias": "champion", "version": "1"}


def test_a_dag_of_somebody_else_waits_and_promotes(server: Server, trained: dict[str, Any]) -> None:
    server.unpause("by_hand")
    server.trigger("by_hand")
    run = ended(server, "by_hand")
    assert run["state"] == "success"
    assert xcom(server, run, "wait") == {"model": "small-model", "alias": "champion", "version": "1"}
    done = {"model": "small-model", "version": "1", "previous_version": None}
    assert xcom(server, run, "promote") == done
    told = [event["extra"] for event in events(server, "small-model") if event["source_dag_id"] == "by_hand"]
    assert told == [done | {"reason": ""}]
    assert links(server, run, "promote") == {"Model version": f"{UI}/#/models/small-model/versions/1"}
    assert links(server, run, "work") == {}
