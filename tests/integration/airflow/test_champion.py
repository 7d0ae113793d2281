"""A running scheduler: a promotion starts a scoring, its scores start a drift measurement, and a branch is cleared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.integration.airflow.server import Server, run_id_of, standalone

from ml_pipelines.contracts import StepResult

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(900)]

ROWS = 556
SHARDS = 2
MODEL = {"name": "small-model"}
ONCE = {"owner": "tests", "retries": 0, "retry_delay": "0s"}

BRANCH_DAG = '''"""An Airflow DAG with a branch whose target is in a file."""

import os
from pathlib import Path

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow.operators.branch import TransitiveBranchPythonOperator


def choose():
    return Path(os.environ["TARGET_FILE"]).read_text()


def work(**kwargs):
    return 1


with DAG("branches"):
    branch = TransitiveBranchPythonOperator(task_id="branch", python_callable=choose)
    short, long, end = (PythonOperator(task_id=name, python_callable=work) for name in ("short", "long", "end"))
    join = PythonOperator(task_id="join", python_callable=work, trigger_rule="none_failed_min_one_success")
    mapped = PythonOperator.partial(task_id="mapped", python_callable=work).expand(op_kwargs=[{"a": 1}, {"a": 2}])
    branch >> [short, long]
    long >> mapped >> end >> join
    short >> join
'''


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    airflow.add_pipeline("training", default_args=ONCE)
    data = {"file": {"path": "${ML_DATA_SMALL}/customers.csv"}, "key": "customer_id"}
    airflow.add_scoring(
        "scores",
        model=MODEL,
        data=data,
        shards={"count": SHARDS},
        schedule={"on_champion": True},
        default_args=ONCE,
    )
    airflow.add_drift("watching", model=MODEL, watch="scores", schedule={"on_scores": True}, default_args=ONCE)
    (airflow.root / "dags" / "branches.py").write_text(BRANCH_DAG)
    environment = {
        "AIRFLOW__CORE__EXECUTOR": "ml_pipelines_airflow.execution.warm_local_executor.WarmLocalExecutor",
        "TARGET_FILE": str(airflow.root / "target"),
    }
    dags = ("training", "scores", "watching", "branches")
    with standalone(airflow, *dags, **environment) as running:
        running.unpause(*dags)
        yield running


@pytest.fixture(scope="module")
def training(server: Server) -> str:
    """A run that promoted the first version."""
    run = server.trigger("training", conf={"candidates": ["linear"]})
    assert server.end_of(run) == "success"
    assert server.champion() == 1
    return run


def only_run(server: Server, dag: str) -> str:
    """Wait for the only run of a DAG and return its path."""
    runs = server.until(f"run of {dag}", lambda: server.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"])
    (run,) = runs
    return f"/dags/{dag}/dagRuns/{run['dag_run_id']}"


def start_event(server: Server, run: str) -> dict[str, Any]:
    """Return the only asset event that started a run."""
    assert server.call("GET", run)["run_type"] == "asset_triggered"
    (event,) = server.call("GET", f"{run}/upstreamAssetEvents")["asset_events"]
    return dict(event)


def result(server: Server, run: str, task: str) -> StepResult:
    value = server.call("GET", f"{run}/taskInstances/{task}/xcomEntries/{task}?deserialize=true")["value"]
    return StepResult.model_validate(value)


def ends(server: Server, run: str) -> dict[str, tuple[str, str]]:
    """Return state and end time of each task instance."""
    rows = server.call("GET", f"{run}/taskInstances")["task_instances"]
    return {f"{row['task_id']}{row['map_index']}": (row["state"], row["end_date"]) for row in rows}


def test_promotion_starts_a_scoring_with_the_new_version(server: Server, training: str) -> None:
    run = only_run(server, "scores")
    assert server.end_of(run) == "success"
    event = start_event(server, run)
    assert (event["name"], event["source_run_id"]) == ("small-model", run_id_of(training))
    assert event["extra"]["version"] == "1"
    shards = [f"score_shard[{index}]" for index in range(SHARDS)]
    assert server.states(run) == dict.fromkeys(["ingest_batch", "plan_shards", *shards, "collect_scores"], "success")
    collected = result(server, run, "collect_scores")
    assert (collected.values["outcome"], collected.values["scored"]) == ("complete", ROWS)
    scores = pl.read_parquet(collected.outputs["scores"].uri.removeprefix("file://"))
    customers = pl.read_csv(server.root / "data" / "customers.csv")
    assert scores["customer_id"].to_list() == customers["customer_id"].to_list()
    assert scores.select("model", "model_version").unique().rows() == [("small-model", "1")]


def test_scores_start_a_drift_measurement(server: Server, training: str) -> None:
    run = only_run(server, "watching")
    assert server.end_of(run) == "success"
    assert start_event(server, run)["source_run_id"] == run_id_of(only_run(server, "scores"))
    assert result(server, run, "measure_drift").values["rows"] == ROWS


def test_unchanged_run_skips_all_tasks_at_once(server: Server, training: str) -> None:
    run = server.trigger("training", conf={"candidates": ["linear"]})
    assert server.end_of(run) == "success"
    assert server.entry(run)["decision"]["outcome"] == "no_change"
    instances = ends(server, run)
    assert len({end for state, end in instances.values() if state == "skipped"}) == 1
    assert {name for name, (state, _) in instances.items() if state == "skipped"} == {
        "handle_poor_quality-1",
        "preprocess_data-1",
        "train_model0",
        "train_model1",
        "evaluate_model-1",
        "request_approval-1",
        "register_and_deploy-1",
    }
    assert only_run(server, "scores")


def test_cleared_branch_can_take_another_target(server: Server) -> None:
    target = Path(server.environment["TARGET_FILE"])
    skipped = {"short": {"long-1", "mapped0", "mapped1", "end-1"}, "long": {"short-1"}}
    target.write_text("short")
    run = server.trigger("branches")
    for task in ("short", "long"):
        if target.read_text() != task:
            target.write_text(task)
            tasks = {"dag_run_id": run_id_of(run), "task_ids": ["branch"], "include_downstream": True}
            server.call("POST", "/dags/branches/clearTaskInstances", tasks | {"dry_run": False, "only_failed": False})
        assert server.end_of(run) == "success"
        instances = ends(server, run)
        assert {name for name, (state, _) in instances.items() if state == "skipped"} == skipped[task]
        assert {state for name, (state, _) in instances.items() if name not in skipped[task]} == {"success"}
        assert len({end for state, end in instances.values() if state == "skipped"}) == 1
