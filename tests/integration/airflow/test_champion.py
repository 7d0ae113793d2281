"""A promotion starts the scoring, whose scores start the watch over drift, and a branch may go another way when it is
cleared: under a scheduler that runs.
"""

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

FORKED = '''"""An Airflow DAG with a branch that goes where a file says."""

import os
from pathlib import Path

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow.operators.branch import TransitiveBranchPythonOperator


def choose():
    return Path(os.environ["WAY"]).read_text()


def work(**kwargs):
    return 1


with DAG("forked"):
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
    data = {"file": {"path": "${SMALL_DATA}/customers.csv"}, "key": "customer_id"}
    airflow.add_scoring(
        "scores",
        model=MODEL,
        data=data,
        shards={"count": SHARDS},
        schedule={"on_champion": True},
        default_args=ONCE,
    )
    airflow.add_drift("watching", model=MODEL, watch="scores", schedule={"on_scores": True}, default_args=ONCE)
    (airflow.root / "dags" / "forked.py").write_text(FORKED)
    environment = {
        "AIRFLOW__CORE__EXECUTOR": "ml_pipelines_airflow.execution.executors.WarmLocalExecutor",
        "WAY": str(airflow.root / "way"),
    }
    dags = ("training", "scores", "watching", "forked")
    with standalone(airflow, *dags, **environment) as running:
        running.unpause(*dags)
        yield running


@pytest.fixture(scope="module")
def training(server: Server) -> str:
    """A run that has promoted the first version."""
    run = server.trigger("training", conf={"candidates": ["linear"]})
    assert server.end_of(run) == "success"
    assert server.champion() == 1
    return run


def the_run(server: Server, dag: str) -> str:
    """The path of the one run of a DAG, once it is there."""
    runs = server.until(f"run of {dag}", lambda: server.call("GET", f"/dags/{dag}/dagRuns")["dag_runs"])
    (run,) = runs
    return f"/dags/{dag}/dagRuns/{run['dag_run_id']}"


def started_by(server: Server, run: str) -> dict[str, Any]:
    """The event that has started a run, which is its only one."""
    assert server.call("GET", run)["run_type"] == "asset_triggered"
    (event,) = server.call("GET", f"{run}/upstreamAssetEvents")["asset_events"]
    return dict(event)


def result(server: Server, run: str, task: str) -> StepResult:
    value = server.call("GET", f"{run}/taskInstances/{task}/xcomEntries/result?deserialize=true")["value"]
    return StepResult.model_validate(value)


def ended_at(server: Server, run: str) -> dict[str, tuple[str, str]]:
    """State and end of each task instance."""
    rows = server.call("GET", f"{run}/taskInstances")["task_instances"]
    return {f"{row['task_id']}{row['map_index']}": (row["state"], row["end_date"]) for row in rows}


def test_a_promotion_starts_the_scoring_of_all_rows_by_that_version(server: Server, training: str) -> None:
    run = the_run(server, "scores")
    assert server.end_of(run) == "success"
    event = started_by(server, run)
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


def test_scores_start_the_watch_over_drift(server: Server, training: str) -> None:
    run = the_run(server, "watching")
    assert server.end_of(run) == "success"
    assert started_by(server, run)["source_run_id"] == run_id_of(the_run(server, "scores"))
    assert result(server, run, "measure_drift").values["rows"] == ROWS


def test_nothing_new_skips_all_at_once_and_scores_nothing(server: Server, training: str) -> None:
    run = server.trigger("training", conf={"candidates": ["linear"]})
    assert server.end_of(run) == "success"
    assert server.entry(run)["decision"]["outcome"] == "no_change"
    ended = ended_at(server, run).values()
    assert len({end for state, end in ended if state == "skipped"}) == 1
    assert sum(state == "skipped" for state, _ in ended) == 11
    assert the_run(server, "scores")


def test_a_branch_that_is_cleared_may_go_the_other_way(server: Server) -> None:
    way = Path(server.environment["WAY"])
    skipped = {"short": {"long-1", "mapped0", "mapped1", "end-1"}, "long": {"short-1"}}
    way.write_text("short")
    run = server.trigger("forked")
    for chosen in ("short", "long"):
        if way.read_text() != chosen:
            way.write_text(chosen)
            told = {"dag_run_id": run_id_of(run), "task_ids": ["branch"], "include_downstream": True}
            server.call("POST", "/dags/forked/clearTaskInstances", told | {"dry_run": False, "only_failed": False})
        assert server.end_of(run) == "success"
        ended = ended_at(server, run)
        assert {name for name, (state, _) in ended.items() if state == "skipped"} == skipped[chosen]
        assert {state for name, (state, _) in ended.items() if name not in skipped[chosen]} == {"success"}
        assert len({end for state, end in ended.values() if state == "skipped"}) == 1
