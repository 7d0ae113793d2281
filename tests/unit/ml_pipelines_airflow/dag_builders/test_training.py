"""Declaration to DAG. The shipped DAGs are looked at in tests/dags."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAny, RetryAction
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy
from airflow.serialization.serialized_objects import DagSerialization

from ml_pipelines import errors
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.dag_builders import training as built
from ml_pipelines_airflow.dag_builders.common import RETRY_POLICY
from ml_pipelines_airflow.dag_builders.training import build_training_dag, training_dag

DECLARED: dict[str, Any] = {
    "name": "small",
    "description": "Tells who leaves.",
    "model": {"name": "small-model", "task": "classification"},
    "data": {"file": {"path": "x.csv"}, "target": "y"},
    "candidates": [
        {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"},
        {"name": "forest", "estimator": "sklearn.ensemble.RandomForestClassifier"},
    ],
    "gate": {"metric": "roc_auc"},
    "schedule": {"cron": "0 2 * * 0", "timezone": "Europe/Zurich"},
    "default_args": {"owner": "science", "retries": 3, "retry_delay": "5m", "execution_timeout": "2h"},
    "tags": ["ml"],
    "seed": 7,
}


def a_dag(**sections: Any) -> DAG:
    return build_training_dag(PipelineSpec.model_validate(DECLARED | sections))


@pytest.fixture(scope="module")
def dag() -> DAG:
    return a_dag()


def serialized(dag: DAG) -> dict[str, Any]:
    """What the scheduler gets, after JSON."""
    return dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))["dag"])


def task_of(dag: DAG, task_id: str) -> dict[str, Any]:
    (task,) = [each["__var"] for each in serialized(dag)["tasks"] if each["__var"]["task_id"] == task_id]
    return dict(task)


def test_the_tasks_are_wired_like_the_pipeline(dag: DAG) -> None:
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "ingest_data": {"compare_with_champion"},
        "compare_with_champion": {"check_quality", "keep_champion"},
        "check_quality": {"preprocess_data", "handle_poor_quality"},
        "handle_poor_quality": {"record_decision"},
        "preprocess_data": {"split_data"},
        "split_data": {"train_model"},
        "train_model": {"evaluate_model"},
        "evaluate_model": {"decide"},
        "decide": {"register_model", "request_approval", "keep_champion"},
        "request_approval": {"register_model"},
        "keep_champion": {"record_decision"},
        "register_model": {"deploy_model"},
        "deploy_model": {"record_decision"},
        "record_decision": set(),
    }


@pytest.mark.parametrize(
    ("task_id", "rule"),
    [
        ("evaluate_model", "none_failed_min_one_success"),
        ("register_model", "none_failed_min_one_success"),
        ("record_decision", "none_failed"),
        ("deploy_model", "all_success"),
        ("keep_champion", "none_failed_min_one_success"),
    ],
)
def test_what_follows_a_skipped_task(dag: DAG, task_id: str, rule: str) -> None:
    assert dag.get_task(task_id).trigger_rule == rule


def test_one_task_a_candidate(dag: DAG) -> None:
    mapped = dag.get_task("train_model")
    given = mapped.expand_input.value["op_kwargs"]
    assert [each["parameters"].value["candidate"]["name"] for each in given] == ["linear", "forest"]
    assert {each["step"] for each in given} == {"train"}
    assert {each["seed"] for each in given} == {7}


def test_candidates_that_are_not_declared_are_the_defaults() -> None:
    params = a_dag(candidates=[]).params
    assert params["candidates"] == ["linear", "boosted_trees"]


def test_what_tasks_are_given_is_json(dag: DAG) -> None:
    for task in dag.tasks:
        given = task.render_template(getattr(task, "op_kwargs", {}), {})
        assert json.loads(json.dumps(given)) == given, task.task_id


def test_what_is_declared_is_no_template() -> None:
    code = {"type": "string", "pattern": "^{{ seed }}$"}
    task = a_dag(data={**DECLARED["data"], "columns": {"code": code}}).get_task("check_quality")
    given = task.render_template(task.op_kwargs, {"seed": 7})
    assert given["parameters"]["columns"]["code"]["pattern"] == code["pattern"]


def test_default_args_have_the_types_that_airflow_wants(dag: DAG) -> None:
    assert {name: value for name, value in dag.default_args.items() if name != "retry_policy"} == {
        "owner": "science",
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=2),
    }
    task = dag.get_task("split_data")
    assert (task.owner, task.retries, task.retry_delay) == ("science", 3, timedelta(minutes=5))
    assert task.execution_timeout == timedelta(hours=2)


def test_mail_is_sent_by_callbacks_and_not_by_the_deprecated_arguments() -> None:
    given = a_dag(default_args={"email": ["a@example.com"], "email_on_retry": True}).default_args
    assert [name for name in given if name.startswith("email")] == []
    assert [len(given[slot]) for slot in ("on_failure_callback", "on_retry_callback")] == [1, 1]


def test_slack_is_told_by_one_object_in_every_slot_of_tasks_and_dag() -> None:
    dag = a_dag(alerts={"slack": {"channel": "#ml"}})
    (notifier,) = dag.on_failure_callback
    assert dag.on_success_callback == [notifier]
    slots = ("on_execute", "on_retry", "on_failure", "on_success", "on_skipped")
    assert [dag.default_args[f"{slot}_callback"] for slot in slots] == [[notifier]] * 5
    assert (notifier.destination.connection, notifier.destination.channel) == ("slack_api_default", "#ml")


@pytest.mark.filterwarnings("error")
def test_an_sla_is_passed_on_to_the_policy_that_watches_over_it() -> None:
    dag = a_dag(default_args={"sla": "4h"})
    assert dag.default_args["sla"] == timedelta(hours=4)


def test_approval_has_its_own_limit_of_time(dag: DAG) -> None:
    approval = dag.get_task("request_approval")
    assert approval.response_timeout == timedelta(days=3)
    assert approval.execution_timeout is None
    assert approval.defaults == ["Reject"]


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.ServiceUnavailable("down"), RetryAction.DEFAULT),
        (errors.StoreUnavailable("full"), RetryAction.DEFAULT),
        (errors.SourceNotFound("no file"), RetryAction.FAIL),
        (errors.ArtifactCorrupt("altered"), RetryAction.FAIL),
        (errors.SpecError("wrong"), RetryAction.FAIL),
        (RuntimeError("unknown"), RetryAction.DEFAULT),
        (MemoryError(), RetryAction.DEFAULT),
    ],
)
def test_only_what_may_go_well_is_tried_again(error: Exception, action: RetryAction) -> None:
    there_and_back = ExceptionRetryPolicy.deserialize(json.loads(json.dumps(RETRY_POLICY.serialize())))
    for policy in (RETRY_POLICY, there_and_back):
        assert policy.evaluate(error, try_number=1, max_tries=3).action is action


def test_every_error_of_ours_has_a_verdict() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
    ]
    for kind in kinds:
        verdict = RETRY_POLICY.evaluate(kind("x"), try_number=1, max_tries=3).action
        assert (verdict is RetryAction.FAIL) != issubclass(kind, errors.TransientError), kind


def test_the_scheduler_gets_the_whole_dag(dag: DAG) -> None:
    found = serialized(dag)
    assert found["dag_id"] == "small"
    assert len(found["tasks"]) == 14
    assert [name for name, _ in found["params"]] == ["data_revision", "candidates", "promote", "force"]
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict.keys() == dag.task_dict.keys()
    assert task_of(dag, "split_data")["retry_delay"] == 300.0


def test_the_same_declaration_gives_the_same_dag() -> None:
    assert serialized(a_dag()) == serialized(a_dag())


def test_the_form_has_values_that_a_run_may_have(dag: DAG) -> None:
    dag.params.validate()
    assert dag.params.dump() == {
        "data_revision": None,
        "candidates": ["linear", "forest"],
        "promote": "auto",
        "force": False,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("candidates", []),
        ("candidates", ["tree"]),
        ("candidates", "linear"),
        ("promote", "yes"),
        ("force", "no"),
        ("data_revision", 7),
    ],
)
def test_the_form_refuses_other_values(dag: DAG, name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_two_assets_tell_the_data_and_the_model(dag: DAG) -> None:
    assert dag.get_task("ingest_data").outlets == [
        Asset(name="small.data", uri="ml-pipelines://small/data", group="dataset")
    ]
    assert dag.get_task("deploy_model").outlets == [
        Asset(name="small-model", uri="mlflow://models/small-model", group="model")
    ]
    assert [task.task_id for task in dag.tasks if task.outlets] == ["ingest_data", "deploy_model"]


def test_the_page_tells_what_the_dag_does(dag: DAG) -> None:
    assert dag.description == "Tells who leaves."
    assert "Model **small-model** (classification), judged by **roc_auc**." in dag.doc_md
    assert "| forest | `sklearn.ensemble.RandomForestClassifier` |" in dag.doc_md
    assert dag.tags == {"ml"}


def test_the_schedule_is_the_declared_one(dag: DAG) -> None:
    assert (dag.timetable.expression, str(dag.timetable.timezone)) == ("0 2 * * 0", "Europe/Zurich")
    assert (dag.catchup, dag.max_active_runs, dag.start_date) == (False, 1, datetime(2026, 1, 1, tzinfo=UTC))


DVC = {"dvc": {"repo": "${REPO}", "path": "data/a b.csv", "rev": "main"}, "target": "y"}


@pytest.mark.parametrize("cron", [None, "0 2 * * 0"])
def test_new_data_starts_it_alone_or_beside_the_clock(cron: str | None) -> None:
    dag = a_dag(data=DVC, schedule={"cron": cron, "on_new_data": "5m"})
    (asset,) = dag.timetable.asset_condition.objects
    assert (asset.name, asset.uri, asset.group) == ("small.revision", "dvc://small/data/a%20b.csv", "dataset")
    (watcher,) = asset.watchers
    assert watcher.name == "small.revision"
    assert watcher.trigger.serialize() == (
        "ml_pipelines_airflow.triggers.DvcRevisionTrigger",
        {
            "path": "data/a b.csv",
            "repo": "${REPO}",
            "connection": None,
            "rev": "main",
            "poll_seconds": 300.0,
            "name": "small.revision",
        },
    )
    clock = getattr(dag.timetable, "timetable", None)
    assert (clock.expression if clock else None) == cron
    assert serialized(dag) == serialized(a_dag(data=DVC, schedule={"cron": cron, "on_new_data": "5m"}))


@pytest.mark.parametrize("cron", [None, "0 2 * * 0"])
def test_drift_starts_a_training_that_listens_beside_new_data(cron: str | None) -> None:
    dag = a_dag(schedule={"cron": cron, "on_drift": True})
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["ml-pipelines://small-model/drift"]
    assert getattr(dag.timetable, "timetable", None) is None or dag.timetable.timetable.expression == cron
    both = a_dag(data=DVC, schedule={"on_new_data": "5m", "on_drift": True}).timetable.asset_condition
    assert isinstance(both, AssetAny)
    assert sorted(asset.name for asset in both.objects) == ["small-model.drift", "small.revision"]


def test_only_data_in_dvc_is_watched() -> None:
    with pytest.raises(errors.RequestError) as caught:
        a_dag(schedule={"on_new_data": "5m"})
    assert str(caught.value) == (
        "only the revision of data in DVC can be watched\n"
        "  where: pipeline small\n"
        "  expected: data.dvc, since schedule.on_new_data is given\n"
        "  got: FileSource\n"
        "  fix: declare the data under data.dvc, or give schedule.cron instead"
    )


def test_tasks_that_have_something_to_show_link_to_it(dag: DAG) -> None:
    assert {
        task.task_id: [(link.name, link.xcom_key) for link in task.operator_extra_links]
        for task in dag.tasks
        if task.operator_extra_links
    } == {
        "train_model": [("MLflow run", "mlflow_run_url")],
        "evaluate_model": [("Report", "report_url")],
        "decide": [("Report", "report_url")],
        "register_model": [("Model version", "model_version_url")],
        "deploy_model": [("Model version", "model_version_url")],
        "record_decision": [("Report", "report_url")],
    }
    assert task_of(dag, "train_model")["_operator_extra_links"] == {"MLflow run": "mlflow_run_url"}


def test_without_a_schedule_it_waits_to_be_started() -> None:
    assert a_dag(schedule=None).schedule is None


def test_a_dag_file_finds_its_declaration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(built, "load_spec", lambda path: asked.append(path) or PipelineSpec.model_validate(DECLARED))
    assert training_dag(str(tmp_path / "small.py")).dag_id == "small"
    assert asked == [str(tmp_path / "small.yaml")]


def test_a_declaration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.SpecError) as caught:
        training_dag(str(tmp_path / "small.py"))
    assert str(tmp_path / "small.yaml") in str(caught.value)


def test_steps_run_where_they_are_placed() -> None:
    placed = {"docker": {"memory": "4g", "cpus": 2}, "queue": "training", "pool": "trainings"}
    dag = a_dag(
        runtime={
            "train_model": placed,
            "ingest_data": {"queue": "data"},
            "evaluate_model": {"docker": {"image": "a:1"}},
        }
    )
    trains = task_of(dag, "train_model")
    assert (trains["partial_kwargs"]["queue"], trains["partial_kwargs"]["pool"]) == ("training", "trainings")
    docker = {"image": None, "memory": "4g", "cpus": 2.0}
    mapped = dag.get_task("train_model").expand_input.value["op_kwargs"]
    assert [each["docker"] for each in mapped] == [docker, docker]
    assert dag.get_task("ingest_data").queue == "data"
    assert dag.get_task("decide").op_kwargs["docker"] == {"image": "a:1", "memory": "2g", "cpus": 1.0}
    elsewhere = [
        task for task in dag.tasks if task.task_id not in ("train_model", "ingest_data", "evaluate_model", "decide")
    ]
    assert all("docker" not in getattr(task, "op_kwargs", {}) and task.queue == "default" for task in elsewhere)
