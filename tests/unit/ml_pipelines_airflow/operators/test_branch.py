"""Tasks that a branch skips. The states of whole runs are tested in tests/integration/airflow/test_dag_runs.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import DownstreamTasksSkipped

from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.dag_builders.training import build_training_dag
from ml_pipelines_airflow.operators.branch import TransitiveBranchPythonOperator, transitively_skipped

TRAINING = {"preprocess_data", "train_model", "evaluate_model"}
DEPLOYMENT = {"request_approval", "register_and_deploy"}


@pytest.fixture(scope="module")
def dag() -> DAG:
    spec = {
        "name": "small",
        "model": {"name": "small-model", "task": "classification"},
        "data": {"file": {"path": "x.csv"}, "target": "y"},
        "gate": {"metric": "roc_auc"},
    }
    return build_training_dag(PipelineSpec.model_validate(spec))


def make_branch_dag(rule: TriggerRule | None = None, *, joined: bool = False) -> DAG:
    """A branch to `a` or `b`, `a >> after`, and with `joined` also `b >> after`."""
    with DAG("branches", schedule=None) as dag:
        branch = TransitiveBranchPythonOperator(task_id="branch", python_callable=lambda: "b")
        a, b = (PythonOperator(task_id=name, python_callable=print) for name in "ab")
        after = PythonOperator(task_id="after", python_callable=print, **{"trigger_rule": rule} if rule else {})
        branch >> [a, b]
        ([a, b] if joined else a) >> after
    return dag


def run(dag: DAG, task_id: str, **counts: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the instances that a branch skips, and its XComs; `counts` has the number of mapped instances by task."""
    pushed: dict[str, Any] = {}
    task = dag.get_task(task_id)
    ti = SimpleNamespace(
        dag_id=dag.dag_id,
        run_id="today",
        task=task,
        map_index=-1,
        xcom_push=lambda key, value: pushed.update({key: value}),
        get_ti_count=lambda **query: counts[query["task_ids"][0]],
    )
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        task.execute({"ti": ti, "dag": dag})
    return skipped.value.tasks, pushed


@pytest.mark.parametrize(
    ("direct", "skipped"),
    [
        # check_quality: no change, poor quality, passed
        ({"preprocess_data", "handle_poor_quality"}, {"handle_poor_quality"} | TRAINING | DEPLOYMENT),
        ({"preprocess_data", "keep_champion"}, {"keep_champion"} | TRAINING | DEPLOYMENT),
        ({"handle_poor_quality"}, {"handle_poor_quality"}),
        # evaluate_model: rejected, promoted, held
        (DEPLOYMENT, DEPLOYMENT),
        ({"request_approval", "keep_champion"}, {"request_approval", "keep_champion"}),
        ({"keep_champion"}, {"keep_champion"}),
    ],
)
def test_transitively_skipped_are_the_tasks_of_no_taken_branch(dag: DAG, direct: set[str], skipped: set[str]) -> None:
    assert set(transitively_skipped(dag, sorted(direct))) == skipped


@pytest.mark.parametrize(
    ("rule", "skipped"),
    [(rule, rule in (TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)) for rule in TriggerRule],
)
def test_transitively_skipped_excludes_tasks_that_may_still_run(rule: TriggerRule, *, skipped: bool) -> None:
    assert transitively_skipped(make_branch_dag(rule), ["a"]) == (["a", "after"] if skipped else ["a"])


@pytest.mark.parametrize("rule", [TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS])
def test_transitively_skipped_excludes_the_join_of_branches(rule: TriggerRule) -> None:
    dag = make_branch_dag(rule, joined=True)
    assert transitively_skipped(dag, ["a"]) == ["a"]
    assert transitively_skipped(dag, ["a", "b"]) == ["a", "b", "after"]


def test_branch_skips_transitively_and_stores_the_followed_task() -> None:
    skipped, pushed = run(make_branch_dag(), "branch")
    assert skipped == [("a", -1), ("after", -1)]
    # Airflow reads this XCom to skip direct downstream tasks that are cleared without the branch.
    assert pushed == {"skipmixin_key": {"followed": ["b"]}}


def test_branch_skips_every_instance_of_a_mapped_task(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = dag.get_task("check_quality")
    assert isinstance(branch, TransitiveBranchPythonOperator)
    monkeypatch.setattr(branch, "python_callable", lambda: "keep_champion")
    monkeypatch.setattr(branch, "op_kwargs", {})
    skipped, _ = run(dag, "check_quality", train_model=2)
    assert [index for task_id, index in skipped if task_id == "train_model"] == [-1, 0, 1]
    others = {task_id for task_id, index in skipped if task_id != "train_model"}
    assert len(skipped) == len(others) + 3


def test_branch_that_follows_all_tasks_skips_nothing() -> None:
    dag = make_branch_dag()
    branch = dag.get_task("branch")
    assert isinstance(branch, TransitiveBranchPythonOperator)
    branch.python_callable = lambda: ["a", "b"]
    ti = SimpleNamespace(task=branch, map_index=-1, xcom_push=lambda key, value: None)
    assert branch.execute({"ti": ti, "dag": dag}) == ["a", "b"]
