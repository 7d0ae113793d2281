from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.settings import get_dagbag_import_timeout

from ml_pipelines_airflow import policies

DAGS = Path(__file__).parents[3] / "dags"
DAG_FILE = '''
"""An Airflow DAG."""
from datetime import timedelta
import warnings
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG("churn", schedule=None, default_args={{"sla": {sla}}}) as dag:
    EmptyOperator(task_id="a")
{more}
'''


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__ML_PIPELINES__SLA_DEADLINES", raising=False)


def make_bag(folder: Path, sla: str = "timedelta(hours=4)", more: str = "") -> DagBag:
    folder.mkdir(exist_ok=True)
    (folder / "churn.py").write_text(DAG_FILE.format(sla=sla, more=more))
    return DagBag(str(folder))


def test_policies_have_an_entry_point() -> None:
    (entry,) = entry_points(group="airflow.policy")
    assert entry.load() is policies


@pytest.mark.filterwarnings("error")
def test_dag_with_an_sla_gets_a_deadline_without_a_warning(tmp_path: Path) -> None:
    bag = make_bag(tmp_path)
    assert (bag.import_errors, bag.captured_warnings) == ({}, {})
    assert [deadline.interval for deadline in bag.dags["churn"].deadline] == [timedelta(hours=4)]


@pytest.mark.filterwarnings("error:The SLA feature:UserWarning")
def test_declared_sla_becomes_a_deadline() -> None:
    (deadline,) = DagBag(str(DAGS)).dags["ml_training_pipeline"].deadline
    assert deadline.interval == timedelta(hours=4)
    assert deadline.callback.kwargs["upstream"]["request_approval"] == ["evaluate_model"]
    assert set(deadline.callback.kwargs["slas"].values()) == {14400.0}


@pytest.mark.filterwarnings("ignore:another:UserWarning")
def test_other_warnings_of_a_dag_file_are_kept(tmp_path: Path) -> None:
    # Two folders: Python reuses the bytecode of a file of equal size and time.
    bag = make_bag(tmp_path / "1", more='warnings.warn("another", stacklevel=1)\nwarnings.filterwarnings("default")')
    assert bag.captured_warnings == {}
    bag = make_bag(tmp_path / "2", more='warnings.filterwarnings("default")\nwarnings.warn("another", stacklevel=1)')
    ((warning,),) = bag.captured_warnings.values()
    assert warning.endswith("UserWarning: another")


@pytest.mark.filterwarnings("default:The SLA feature:UserWarning")
def test_disabled_policy_leaves_the_warning_of_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_DEADLINES", "False")
    with pytest.warns(UserWarning, match="The SLA feature is removed"):
        bag = make_bag(tmp_path)
    assert bag.dags["churn"].deadline is None


def test_invalid_sla_is_an_import_error(tmp_path: Path) -> None:
    bag = make_bag(tmp_path, "4")
    assert bag.dags == {}
    (error,) = bag.import_errors.values()
    assert error.startswith(
        "AirflowClusterPolicyViolation: the sla of task 'a' in DAG 'churn' is not a valid duration\n"
    )


def test_import_timeout_is_the_default() -> None:
    assert get_dagbag_import_timeout(dag_file_path="any.py") == 30.0


def imported(code: str) -> set[str]:
    process = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(process.stdout.splitlines())


def test_airflow_imports_the_policies_without_their_dependencies() -> None:
    loaded = imported("import airflow")
    assert "ml_pipelines_airflow.policies" in loaded
    assert not {"ml_pipelines", "ml_pipelines_airflow.sla.deadlines", "ml_pipelines_airflow.sla.lateness"} & loaded


def test_dag_file_without_an_sla_imports_little() -> None:
    loaded = imported("import airflow.settings; airflow.settings.get_dagbag_import_timeout('any.py')")
    assert "ml_pipelines_airflow.sla.declared_sla" in loaded
    assert not {"ml_pipelines", "ml_pipelines_airflow.sla.deadlines", "ml_pipelines_airflow.sla.lateness"} & loaded


def test_dag_file_with_an_sla_imports_no_heavy_package(tmp_path: Path) -> None:
    (tmp_path / "churn.py").write_text(DAG_FILE.format(sla="timedelta(hours=4)", more=""))
    code = f"from airflow.dag_processing.dagbag import DagBag; assert DagBag({str(tmp_path)!r}).dags"
    before, loaded = imported("from airflow.dag_processing.dagbag import DagBag; DagBag('/nowhere')"), imported(code)
    heavy = {"pandas", "numpy", "sklearn", "mlflow", "dvc", "polars", "slack_sdk", "fastapi"}
    assert "ml_pipelines_airflow.sla.deadlines" in loaded
    assert not {name for name in loaded - before if name.split(".")[0] in heavy}
