"""What a branch skips at once. That runs end as they should is seen in tests/integration/airflow/test_dag_runs.py."""

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

TRAINING = {"preprocess_data", "split_data", "train_model", "evaluate_model", "decide"}
SHIPPING = {"request_approval", "register_model", "deploy_model"}


@pytest.fixture(scope="module")
def dag() -> DAG:
    spec = {
        "name": "small",
        "model": {"name": "small-model", "task": "classification"},
        "data": {"file": {"path": "x.csv"}, "target": "y"},
        "gate": {"metric": "roc_auc"},
    }
    return build_training_dag(PipelineSpec.model_validate(spec))


def forked(rule: TriggerRule | None = None, *, joined: bool = False) -> DAG:
    """A branch to `a` or `b`, `a >> after`, and with `joined` also `b >> after`."""
    with DAG("forked", schedule=None) as dag:
        branch = TransitiveBranchPythonOperator(task_id="branch", python_callable=lambda: "b")
        a, b = (PythonOperator(task_id=name, python_callable=print) for name in "ab")
        after = PythonOperator(task_id="after", python_callable=print, **{"trigger_rule": rule} if rule else {})
        branch >> [a, b]
        ([a, b] if joined else a) >> after
    return dag


def run(dag: DAG, task_id: str, **counts: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """What a branch has Airflow skip, and what it pushes; there are so many instances of each mapped task."""
    pushed: dict[str, Any] = {}
    task = dag.get_task(task_id)
    ti = SimpleNamespace(
        dag_id=dag.dag_id,
        run_id="today",
        task=task,
        map_index=-1,
        xcom_push=lambda key, value: pushed.update({key: value}),
        get_ti_count=lambda **asked: counts[asked["task_ids"][0]],
    )
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        task.execute({"ti": ti, "dag": dag})
    return skipped.value.tasks, pushed


@pytest.mark.parametrize(
    ("direct", "skipped"),
    [
        # compare_with_champion, nothing has changed
        ({"check_quality"}, {"check_quality", "handle_poor_quality"} | TRAINING | SHIPPING),
        # check_quality: poor; keep_champion looks itself, and passes
        ({"preprocess_data"}, TRAINING | SHIPPING),
        ({"handle_poor_quality"}, {"handle_poor_quality"}),
        # decide: rejected, promoted, held
        ({"register_model", "request_approval"}, SHIPPING),
        ({"request_approval", "keep_champion"}, {"request_approval", "keep_champion"}),
        ({"keep_champion"}, {"keep_champion"}),
    ],
)
def test_all_that_only_the_ways_not_taken_lead_to_is_skipped(dag: DAG, direct: set[str], skipped: set[str]) -> None:
    assert set(transitively_skipped(dag, sorted(direct))) == skipped


@pytest.mark.parametrize(
    ("rule", "skipped"),
    [(rule, rule in (TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)) for rule in TriggerRule],
)
def test_what_may_run_after_skipped_tasks_is_left_to_the_scheduler(rule: TriggerRule, *, skipped: bool) -> None:
    assert transitively_skipped(forked(rule), ["a"]) == (["a", "after"] if skipped else ["a"])


@pytest.mark.parametrize("rule", [TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS])
def test_where_the_ways_meet_again_is_left_to_the_scheduler(rule: TriggerRule) -> None:
    dag = forked(rule, joined=True)
    assert transitively_skipped(dag, ["a"]) == ["a"]
    assert transitively_skipped(dag, ["a", "b"]) == ["a", "b", "after"]


def test_a_branch_skips_and_remembers_only_what_it_followed() -> None:
    skipped, pushed = run(forked(), "branch")
    assert skipped == [("a", -1), ("after", -1)]
    # By this Airflow skips again what directly follows, when that is cleared and the branch is not.
    assert pushed == {"skipmixin_key": {"followed": ["b"]}}


def test_every_instance_of_a_mapped_task_is_skipped(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = dag.get_task("compare_with_champion")
    assert isinstance(branch, TransitiveBranchPythonOperator)
    monkeypatch.setattr(branch, "python_callable", lambda: "keep_champion")
    monkeypatch.setattr(branch, "op_kwargs", {})
    skipped, _ = run(dag, "compare_with_champion", train_model=2)
    assert [index for task_id, index in skipped if task_id == "train_model"] == [-1, 0, 1]
    others = {task_id for task_id, index in skipped if task_id != "train_model"}
    assert len(skipped) == len(others) + 3


def test_a_branch_that_follows_all_skips_nothing() -> None:
    dag = forked()
    branch = dag.get_task("branch")
    assert isinstance(branch, TransitiveBranchPythonOperator)
    branch.python_callable = lambda: ["a", "b"]
    ti = SimpleNamespace(task=branch, map_index=-1, xcom_push=lambda key, value: None)
    assert branch.execute({"ti": ti, "dag": dag}) == ["a", "b"]
