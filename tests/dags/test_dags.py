"""The shipped DAGs: import errors, wiring, and modules that parsing imports."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

DAGS = Path(__file__).parents[2] / "dags"
HEAVY = ("pandas", "numpy", "sklearn", "mlflow", "dvc", "polars", "pandera", "skops", "matplotlib", "pyarrow")

MAIN_PATH = [
    "ingest_data",
    "check_quality",
    "preprocess_data",
    "train_model",
    "evaluate_model",
    "register_and_deploy",
    "record_decision",
]


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(dag_folder=str(DAGS))


def test_every_dag_file_imports(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == sorted(path.stem for path in DAGS.glob("*.py"))


def test_every_dag_file_has_its_declaration() -> None:
    operations = {"ml_doctor", "ml_model_rollback", "ml_registry_watch"}
    assert {path.stem for path in DAGS.glob("*.py")} - operations == {path.stem for path in DAGS.glob("*.yaml")}


def test_rollback_form_requires_model_and_reason(bag: DagBag) -> None:
    dag = bag.dags["ml_model_rollback"]
    assert list(dag.params) == ["model", "version", "reason"]
    assert dag.params["version"] == "previous"
    for missing in ({"model": "churn"}, {"reason": "complaints"}, {"model": "churn", "reason": " "}):
        with pytest.raises(ParamValidationError):
            _validated(dag, missing)
    assert _validated(dag, {"model": "churn", "reason": "complaints"})["version"] == "previous"
    with pytest.raises(ParamValidationError):
        _validated(dag, {"model": "churn", "reason": "complaints", "version": "latest"})


def _validated(dag: DAG, values: dict[str, Any]) -> dict[str, Any]:
    params = copy.deepcopy(dag.params)
    params.update(values)
    return dict(params.validate())


def test_main_path_is_a_chain(bag: DagBag) -> None:
    dag = bag.dags["ml_training_pipeline"]
    for upstream, downstream in itertools.pairwise(MAIN_PATH):
        assert downstream in dag.get_task(upstream).downstream_task_ids


def test_branches_have_the_expected_targets(bag: DagBag) -> None:
    dag = bag.dags["ml_training_pipeline"]
    downstream = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert downstream["check_quality"] == {"preprocess_data", "handle_poor_quality", "keep_champion"}
    assert downstream["evaluate_model"] == {"register_and_deploy", "request_approval", "keep_champion"}
    assert downstream["request_approval"] == {"register_and_deploy"}
    record_decision = dag.get_task("record_decision")
    assert record_decision.upstream_task_ids == {"handle_poor_quality", "keep_champion", "register_and_deploy"}
    assert all(isinstance(dag.get_task(name), BranchPythonOperator) for name in ("check_quality", "evaluate_model"))


def test_longest_path_without_approval_has_seven_tasks(bag: DagBag) -> None:
    dag = bag.dags["ml_training_pipeline"]

    def length(task_id: str) -> int:
        downstream = dag.get_task(task_id).downstream_task_ids - {"request_approval"}
        return 1 + max((length(name) for name in downstream), default=0)

    assert length("ingest_data") == len(MAIN_PATH) == 7


def test_poor_quality_does_not_lead_to_training(bag: DagBag) -> None:
    dag = bag.dags["ml_training_pipeline"]
    assert dag.get_task("handle_poor_quality").get_flat_relative_ids(upstream=False) == {"record_decision"}


def test_schedule_and_limits(bag: DagBag) -> None:
    dag = bag.dags["ml_training_pipeline"]
    assert dag.max_active_runs == 1
    assert dag.catchup is False
    assert (dag.timetable.expression, str(dag.timetable.timezone)) == ("0 2 * * 0", "UTC")
    assert {"ml", "production", "churn"} == set(dag.tags)
    assert dag.doc_md
    assert "customer-churn-model" in dag.doc_md


def test_training_form_has_titles_and_descriptions(bag: DagBag) -> None:
    dag = bag.dags["ml_training_pipeline"]
    assert list(dag.params) == ["data_revision", "candidates", "promote", "force"]
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema["title"]
        assert param.description
    assert len(DagSerialization.to_dict(dag)["dag"]["params"]) == 4


def test_scoring_maps_shards_and_collects_also_after_failures(bag: DagBag) -> None:
    dag = bag.dags["ml_batch_scoring"]
    for upstream, downstream in itertools.pairwise(["ingest_batch", "plan_shards", "score_shard", "collect_scores"]):
        assert downstream in dag.get_task(upstream).downstream_task_ids
    assert isinstance(dag.get_task("score_shard"), MappedOperator)
    assert dag.get_task("collect_scores").trigger_rule == TriggerRule.ALL_DONE
    assert [asset.uri for asset in dag.get_task("collect_scores").outlets] == ["ml-pipelines://ml_batch_scoring/scores"]
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["mlflow://models/customer-churn-model"]
    assert dag.timetable.timetable.expression == "0 5 * * 1"
    assert dag.max_active_runs == 1


def test_drift_runs_after_scoring_and_reads_earlier_requests(bag: DagBag) -> None:
    dag = bag.dags["ml_drift_monitor"]
    assert dag.get_task("measure_drift").downstream_task_ids == {"request_training"}
    assert [asset.uri for asset in dag.get_task("request_training").inlets] == [
        "ml-pipelines://customer-churn-model/drift"
    ]
    scheduled_on = [asset.uri for asset in dag.timetable.asset_condition.objects]
    assert scheduled_on == [asset.uri for asset in bag.dags["ml_batch_scoring"].get_task("collect_scores").outlets]
    assert dag.max_active_runs == 1


def test_scoring_form_has_titles_and_limits(bag: DagBag) -> None:
    dag = bag.dags["ml_batch_scoring"]
    assert dict(dag.params) == {"data_revision": None, "model_version": None, "shard_rows": None, "force": False}
    assert all(dag.params.get_param(name).schema["title"] for name in dag.params)
    assert _validated(dag, {"shard_rows": 10, "model_version": "previous"})["shard_rows"] == 10
    with pytest.raises(ParamValidationError):
        _validated(dag, {"shard_rows": 0})


def test_mistake_in_the_yaml_is_an_import_error_with_its_line(tmp_path: Path) -> None:
    for suffix in (".py", ".yaml"):
        (tmp_path / f"broken{suffix}").write_text((DAGS / f"ml_training_pipeline{suffix}").read_text())
    declaration = tmp_path / "broken.yaml"
    declaration.write_text(declaration.read_text().replace("metric: average_precision", "metric: average_precison"))
    bag = DagBag(dag_folder=str(tmp_path))
    (message,) = bag.import_errors.values()
    assert "broken.yaml:" in message
    assert "average_precision" in message


def test_parsing_imports_no_heavy_package() -> None:
    code = f"""
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
import airflow.providers.standard.operators.python
before = set(sys.modules)
bag = DagBag(dag_folder={str(DAGS)!r})
assert not bag.import_errors, bag.import_errors
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    added = json.loads(process.stdout.splitlines()[-1])
    assert [name for name in added if name in HEAVY] == []
