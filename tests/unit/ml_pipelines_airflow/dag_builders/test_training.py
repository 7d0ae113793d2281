"""DAGs of declarations. The shipped DAGs are tested in tests/dags."""

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
from ml_pipelines.spec.task_steps import TRAINING_TASKS
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.dag_builders import training as built
from ml_pipelines_airflow.dag_builders.common import RETRY_POLICY
from ml_pipelines_airflow.dag_builders.training import build_training_dag, training_dag

DECLARED: dict[str, Any] = {
    "name": "small",
    "description": "Predicts churn.",
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


def make_dag(**sections: Any) -> DAG:
    return build_training_dag(PipelineSpec.model_validate(DECLARED | sections))


@pytest.fixture(scope="module")
def dag() -> DAG:
    return make_dag()


def serialized(dag: DAG) -> dict[str, Any]:
    """Return the DAG as the scheduler reads it, after JSON."""
    return dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))["dag"])


def serialized_task(dag: DAG, task_id: str) -> dict[str, Any]:
    (task,) = [row["__var"] for row in serialized(dag)["tasks"] if row["__var"]["task_id"] == task_id]
    return dict(task)


def test_tasks_are_wired_by_the_task_table(dag: DAG) -> None:
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "ingest_data": {"check_quality"},
        "check_quality": {"preprocess_data", "handle_poor_quality", "keep_champion"},
        "handle_poor_quality": {"record_decision"},
        "preprocess_data": {"train_model"},
        "train_model": {"evaluate_model"},
        "evaluate_model": {"register_and_deploy", "request_approval", "keep_champion"},
        "request_approval": {"register_and_deploy"},
        "keep_champion": {"record_decision"},
        "register_and_deploy": {"record_decision"},
        "record_decision": set(),
    }


@pytest.mark.parametrize(
    ("task_id", "rule"),
    [
        ("preprocess_data", "all_success"),
        ("evaluate_model", "none_failed_min_one_success"),
        ("register_and_deploy", "none_failed_min_one_success"),
        ("record_decision", "none_failed"),
        ("keep_champion", "none_failed_min_one_success"),
    ],
)
def test_trigger_rules_allow_for_skipped_branches(dag: DAG, task_id: str, rule: str) -> None:
    assert dag.get_task(task_id).trigger_rule == rule


def test_train_model_has_a_mapped_instance_per_candidate(dag: DAG) -> None:
    mapped = dag.get_task("train_model")
    instances = mapped.expand_input.value["op_kwargs"]
    names = [arguments["parameters"].value["train"]["candidate"]["name"] for arguments in instances]
    assert names == ["linear", "forest"]
    assert {arguments["seed"] for arguments in instances} == {7}


def test_tasks_have_the_parameters_of_their_steps(dag: DAG) -> None:
    for task_id, steps in TRAINING_TASKS.items():
        if task_id != "train_model":
            assert tuple(dag.get_task(task_id).op_kwargs["parameters"].value) == steps


def test_form_lists_the_default_candidates() -> None:
    params = make_dag(candidates=[]).params
    assert params["candidates"] == ["linear", "boosted_trees"]


def test_arguments_of_tasks_are_json(dag: DAG) -> None:
    for task in dag.tasks:
        arguments = task.render_template(getattr(task, "op_kwargs", {}), {})
        assert json.loads(json.dumps(arguments)) == arguments, task.task_id


def test_declared_text_is_not_a_template() -> None:
    code = {"type": "string", "pattern": "^{{ seed }}$"}
    task = make_dag(data={**DECLARED["data"], "columns": {"code": code}}).get_task("check_quality")
    arguments = task.render_template(task.op_kwargs, {"seed": 7})
    assert arguments["parameters"]["check_quality"]["columns"]["code"]["pattern"] == code["pattern"]


def test_default_args_have_the_types_of_airflow(dag: DAG) -> None:
    assert {name: value for name, value in dag.default_args.items() if name != "retry_policy"} == {
        "owner": "science",
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=2),
    }
    task = dag.get_task("preprocess_data")
    assert (task.owner, task.retries, task.retry_delay) == ("science", 3, timedelta(minutes=5))
    assert task.execution_timeout == timedelta(hours=2)


def test_mail_uses_callbacks_instead_of_the_deprecated_arguments() -> None:
    arguments = make_dag(default_args={"email": ["a@example.com"], "email_on_retry": True}).default_args
    assert [name for name in arguments if name.startswith("email")] == []
    assert [len(arguments[slot]) for slot in ("on_failure_callback", "on_retry_callback")] == [1, 1]


def test_slack_notifier_is_in_every_slot_of_tasks_and_dag() -> None:
    dag = make_dag(alerts={"slack": {"channel": "#ml"}})
    (notifier,) = dag.on_failure_callback
    assert dag.on_success_callback == [notifier]
    slots = ("on_execute", "on_retry", "on_failure", "on_success", "on_skipped")
    assert [dag.default_args[f"{slot}_callback"] for slot in slots] == [[notifier]] * 5
    assert (notifier.destination.connection, notifier.destination.channel) == ("slack_api_default", "#ml")


@pytest.mark.filterwarnings("error")
def test_sla_stays_in_default_args_for_the_policy() -> None:
    dag = make_dag(default_args={"sla": "4h"})
    assert dag.default_args["sla"] == timedelta(hours=4)


def test_approval_has_its_own_timeout(dag: DAG) -> None:
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
def test_retry_policy_retries_transient_and_unknown_errors(error: Exception, action: RetryAction) -> None:
    deserialized = ExceptionRetryPolicy.deserialize(json.loads(json.dumps(RETRY_POLICY.serialize())))
    for policy in (RETRY_POLICY, deserialized):
        assert policy.evaluate(error, try_number=1, max_tries=3).action is action


def test_retry_policy_covers_every_pipeline_error() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
    ]
    for kind in kinds:
        action = RETRY_POLICY.evaluate(kind("x"), try_number=1, max_tries=3).action
        assert (action is RetryAction.FAIL) != issubclass(kind, errors.TransientError), kind


def test_dag_survives_serialization(dag: DAG) -> None:
    document = serialized(dag)
    assert document["dag_id"] == "small"
    assert len(document["tasks"]) == 10
    assert [name for name, _ in document["params"]] == ["data_revision", "candidates", "promote", "force"]
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict.keys() == dag.task_dict.keys()
    assert serialized_task(dag, "preprocess_data")["retry_delay"] == 300.0


def test_equal_declarations_give_equal_dags() -> None:
    assert serialized(make_dag()) == serialized(make_dag())


def test_form_defaults_are_valid(dag: DAG) -> None:
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
def test_form_rejects_invalid_values(dag: DAG, name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_assets_are_the_dataset_and_the_model(dag: DAG) -> None:
    assert dag.get_task("ingest_data").outlets == [
        Asset(name="small.data", uri="ml-pipelines://small/data", group="dataset")
    ]
    assert dag.get_task("register_and_deploy").outlets == [
        Asset(name="small-model", uri="mlflow://models/small-model", group="model")
    ]
    assert [task.task_id for task in dag.tasks if task.outlets] == ["ingest_data", "register_and_deploy"]


def test_documentation_names_model_metric_and_candidates(dag: DAG) -> None:
    assert dag.description == "Predicts churn."
    assert "**small-model** (classification)" in dag.doc_md
    assert "**roc_auc**" in dag.doc_md
    assert "| forest | `sklearn.ensemble.RandomForestClassifier` |" in dag.doc_md
    assert dag.tags == {"ml"}


def test_schedule_is_the_declared_cron(dag: DAG) -> None:
    assert (dag.timetable.expression, str(dag.timetable.timezone)) == ("0 2 * * 0", "Europe/Zurich")
    assert (dag.catchup, dag.max_active_runs, dag.start_date) == (False, 1, datetime(2026, 1, 1, tzinfo=UTC))


DVC = {"dvc": {"repo": "${ML_DATA_REPO}", "path": "data/a b.csv", "rev": "main"}, "target": "y"}


@pytest.mark.parametrize("cron", [None, "0 2 * * 0"])
def test_new_data_schedules_runs_alone_or_beside_cron(cron: str | None) -> None:
    dag = make_dag(data=DVC, schedule={"cron": cron, "on_new_data": "5m"})
    (asset,) = dag.timetable.asset_condition.objects
    assert (asset.name, asset.uri, asset.group) == ("small.revision", "dvc://small/data/a%20b.csv", "dataset")
    (watcher,) = asset.watchers
    assert watcher.name == "small.revision"
    assert watcher.trigger.serialize() == (
        "ml_pipelines_airflow.triggers.DvcRevisionTrigger",
        {
            "path": "data/a b.csv",
            "repo": "${ML_DATA_REPO}",
            "connection": None,
            "rev": "main",
            "poll_seconds": 300.0,
            "name": "small.revision",
        },
    )
    timetable = getattr(dag.timetable, "timetable", None)
    assert (timetable.expression if timetable else None) == cron
    assert serialized(dag) == serialized(make_dag(data=DVC, schedule={"cron": cron, "on_new_data": "5m"}))


@pytest.mark.parametrize("cron", [None, "0 2 * * 0"])
def test_drift_schedules_runs_alone_or_beside_cron_and_new_data(cron: str | None) -> None:
    dag = make_dag(schedule={"cron": cron, "on_drift": True})
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["ml-pipelines://small-model/drift"]
    assert getattr(dag.timetable, "timetable", None) is None or dag.timetable.timetable.expression == cron
    both = make_dag(data=DVC, schedule={"on_new_data": "5m", "on_drift": True}).timetable.asset_condition
    assert isinstance(both, AssetAny)
    assert sorted(asset.name for asset in both.objects) == ["small-model.drift", "small.revision"]


def test_on_new_data_needs_data_in_dvc() -> None:
    with pytest.raises(errors.RequestError) as caught:
        make_dag(schedule={"on_new_data": "5m"})
    assert caught.value.where == "pipeline small"
    assert "data.dvc" in caught.value.expected


def test_tasks_have_the_links_of_their_steps(dag: DAG) -> None:
    assert {
        task.task_id: [(link.name, link.xcom_key) for link in task.operator_extra_links]
        for task in dag.tasks
        if task.operator_extra_links
    } == {
        "train_model": [("MLflow run", "mlflow_run_url")],
        "evaluate_model": [("Report", "report_url")],
        "register_and_deploy": [("Model version", "model_version_url")],
        "record_decision": [("Report", "report_url")],
    }
    assert serialized_task(dag, "train_model")["_operator_extra_links"] == {"MLflow run": "mlflow_run_url"}


def test_dag_without_a_schedule_is_started_by_hand() -> None:
    assert make_dag(schedule=None).schedule is None


def test_training_dag_reads_the_declaration_beside_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths: list[Path] = []
    monkeypatch.setattr(built, "load_spec", lambda path: paths.append(path) or PipelineSpec.model_validate(DECLARED))
    assert training_dag(str(tmp_path / "small.py")).dag_id == "small"
    assert paths == [tmp_path / "small.yaml"]


def test_training_dag_names_a_missing_declaration(tmp_path: Path) -> None:
    with pytest.raises(errors.SpecError) as caught:
        training_dag(str(tmp_path / "small.py"))
    assert str(tmp_path / "small.yaml") in str(caught.value)


def test_runtime_places_tasks() -> None:
    placement = {"docker": {"memory": "4g", "cpus": 2}, "queue": "training", "pool": "trainings"}
    dag = make_dag(
        runtime={
            "train_model": placement,
            "ingest_data": {"queue": "data"},
            "evaluate_model": {"docker": {"image": "a:1"}},
        }
    )
    trains = serialized_task(dag, "train_model")
    assert (trains["partial_kwargs"]["queue"], trains["partial_kwargs"]["pool"]) == ("training", "trainings")
    docker = {"image": None, "memory": "4g", "cpus": 2.0}
    mapped = dag.get_task("train_model").expand_input.value["op_kwargs"]
    assert [arguments["docker"] for arguments in mapped] == [docker, docker]
    assert dag.get_task("ingest_data").queue == "data"
    assert dag.get_task("evaluate_model").op_kwargs["docker"] == {"image": "a:1", "memory": "2g", "cpus": 1.0}
    others = [task for task in dag.tasks if task.task_id not in ("train_model", "ingest_data", "evaluate_model")]
    assert all("docker" not in getattr(task, "op_kwargs", {}) and task.queue == "default" for task in others)
