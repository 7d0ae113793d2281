"""A separate Airflow for these tests: a home with a migrated database, and small pipelines."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.airflow.server import Server

AIRFLOW = str(Path(sys.executable).with_name("airflow"))
NUMBERS = ("total_day_minutes", "total_eve_minutes", "total_intl_calls", "number_customer_service_calls")
COLUMNS = ("customer_id", *NUMBERS, "international_plan", "label")
STRIDE = 6  # every sixth of the 3333 sample rows: 556

DECLARATION: dict[str, Any] = {
    "description": "A small pipeline for tests.",
    "model": {"name": "small-model", "task": "classification"},
    "data": {
        "file": {"path": "${ML_DATA_SMALL}/customers.csv"},
        "key": "customer_id",
        "target": "label",
        "columns": {
            "customer_id": {"type": "string"},
            "international_plan": {"type": "string", "allowed": ["no", "yes"]},
            "label": {"type": "integer", "allowed": [0, 1]},
        },
    },
    "candidates": [
        {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}},
        {"name": "tree", "estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3}},
    ],
    "gate": {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}},
    "default_args": {"owner": "tests", "retries": 0, "retry_delay": "0s"},
    "tags": ["tests"],
}

DAG_FILE = '''"""An Airflow DAG from the YAML file with the same name."""

from ml_pipelines_airflow import training_dag

dag = training_dag(__file__)
'''


SCORING_FILE = DAG_FILE.replace("training_dag", "scoring_dag")


@dataclass(frozen=True)
class Airflow:
    """A folder with an Airflow home, DAGs, data, a store and an MLflow database."""

    root: Path
    environment: dict[str, str]

    def add_pipeline(self, name: str, **sections: Any) -> None:
        """Write the two files of a pipeline; sections replace those of the small declaration."""
        (self.root / "dags" / f"{name}.yaml").write_text(yaml.safe_dump(DECLARATION | sections, sort_keys=False))
        (self.root / "dags" / f"{name}.py").write_text(DAG_FILE)

    def add_scoring(self, name: str, **sections: Any) -> None:
        """Write the two files of a scoring pipeline."""
        (self.root / "dags" / f"{name}.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
        (self.root / "dags" / f"{name}.py").write_text(SCORING_FILE)

    def add_drift(self, name: str, **sections: Any) -> None:
        """Write the two files of a drift pipeline."""
        (self.root / "dags" / f"{name}.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
        (self.root / "dags" / f"{name}.py").write_text(DAG_FILE.replace("training_dag", "drift_dag"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of Airflow to the report of a failed test."""
    report = yield
    if report.failed:
        servers = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Server)]
        report.sections.extend(("Airflow", server.log_tails()) for server in servers)
    return report


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated Airflow database. Homes get a copy, because other files of a home contain its path."""
    home = tmp_path_factory.mktemp("airflow-home")
    subprocess.run([AIRFLOW, "db", "migrate"], env=clean_environment(home), check=True, capture_output=True)
    return home / "airflow.db"


@pytest.fixture(scope="session")
def make_airflow(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[..., Airflow]:
    """Creates an :class:`Airflow` with small data, and with a database unless `database=False`."""

    def make(*, database: bool = True) -> Airflow:
        root = tmp_path_factory.mktemp("airflow")
        for name in ("dags", "data", "home", "mlflow"):
            (root / name).mkdir()
        if database:
            migrated: Path = request.getfixturevalue("migrated")
            shutil.copyfile(migrated, root / "home" / migrated.name)
        write_data(root / "data")
        return Airflow(root, airflow_environment(root))

    return make


def clean_environment(home: Path) -> dict[str, str]:
    """Return the variables of this process without those of Airflow, MLflow and the pipelines."""
    prefixes = ("AIRFLOW", "ML_PIPELINES", "MLFLOW")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return variables | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PATH": path}


def airflow_environment(root: Path) -> dict[str, str]:
    """Return the variables of an Airflow whose files are all below a folder."""
    bundle = {
        "name": "small",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(root / "dags")},
    }
    return clean_environment(root / "home") | {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__ML_PIPELINES__STORE": f"file://{root}/store",
        "ML_PIPELINES_LEDGER": f"sqlite:///{root}/ledger.db",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow/mlflow.db",
        "ML_DATA_SMALL": str(root / "data"),
    }


def write_data(folder: Path) -> None:
    """Write every sixth sample row, and the same rows with a value that is not allowed."""
    source = Path(str(files("ml_pipelines") / "sample_data" / "customers-2026-10.csv"))
    with source.open(newline="") as file:
        rows = [{name: row[name] for name in COLUMNS} for row in list(csv.DictReader(file))[::STRIDE]]
    spoiled = [row | {"international_plan": "maybe"} for row in rows]
    for name, records in {"customers": rows, "spoiled": spoiled}.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(records)
