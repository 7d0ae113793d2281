"""Rollback and external changes by `airflow dags test`, after two trainings by the command line."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.ledgers import entries_of

from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.ports.ledger_entry import LedgerEntry

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

DAGS = Path(__file__).parents[3] / "dags"
MODEL = "small-model"


@dataclass(frozen=True)
class Deployment:
    """An Airflow with two versions of a model; the second is the champion."""

    airflow: Any

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        bin = Path(sys.executable).parent
        return subprocess.run(
            [str(bin / command[0]), *command[1:]],
            env=self.airflow.environment | {"COLUMNS": "200"},
            cwd=self.airflow.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def dag(self, name: str, **conf: str) -> str:
        return self.call("airflow", "dags", "test", name, "--conf", json.dumps(conf)).stdout

    @property
    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.airflow.environment["MLFLOW_TRACKING_URI"])

    @property
    def aliases(self) -> dict[str, str]:
        versions = {name: self.registry.by_alias(MODEL, name) for name in ("champion", "previous")}
        return {name: version.version for name, version in versions.items() if version}

    @property
    def entries(self) -> list[LedgerEntry]:
        return entries_of(self.airflow.environment["ML_PIPELINES_LEDGER"])

    def events(self) -> list[dict[str, Any]]:
        query = (
            "select asset.uri, asset_event.source_dag_id, asset_event.extra from asset_event"
            " join asset on asset.id = asset_event.asset_id order by asset_event.id"
        )
        with closing(sqlite3.connect(self.airflow.root / "home" / "airflow.db")) as connection:
            rows = connection.execute(query).fetchall()
        return [{"uri": uri, "dag": dag, **json.loads(extra)} for uri, dag, extra in rows]


@pytest.fixture(scope="module")
def deployment(make_airflow: Callable[[], Any]) -> Deployment:
    airflow = make_airflow()
    for file in DAGS.glob("ml_*_*.py"):
        if not file.with_suffix(".yaml").exists():
            shutil.copy(file, airflow.root / "dags")
    airflow.add_pipeline("small", gate={"metric": "roc_auc", "improvement": -1, "lift_over_dummy": 0})
    deployment = Deployment(airflow)
    for candidate in ("linear", "tree"):
        process = deployment.call(
            *("ml-pipelines", "run", "dags/small.yaml", "--run-id", candidate, "--candidate", candidate),
            *("--store", "store", "--approve", "--require-promotion"),
        )
        assert process.returncode == 0, process.stdout
    assert deployment.aliases == {"champion": "2", "previous": "1"}
    return deployment


def test_rollback_dag_deploys_the_earlier_version(deployment: Deployment) -> None:
    output = deployment.dag("ml_model_rollback", model=MODEL, version="9", reason="complaints")
    assert "there is no version 9" in output
    assert deployment.aliases == {"champion": "2", "previous": "1"}
    output = deployment.dag("ml_model_rollback", model=MODEL, reason="complaints")
    assert deployment.aliases == {"champion": "1", "previous": "2"}, output
    entry = deployment.entries[0]
    assert (entry.decision.outcome, entry.decision.reason, entry.pipeline) == (
        "rolled_back",
        "complaints",
        "ml_model_rollback",
    )
    assert (entry.details.version, entry.details.previous_version) == ("1", "2")
    assert len(deployment.entries) == 3
    (event,) = deployment.events()
    assert event == {
        "uri": f"mlflow://models/{MODEL}",
        "dag": "ml_model_rollback",
        "model": MODEL,
        "version": "1",
        "previous_version": "2",
        "reason": "complaints",
    }


def test_registry_watch_dag_records_an_external_change_once(deployment: Deployment) -> None:
    assert len(deployment.entries) == 3
    deployment.registry.set_alias(MODEL, "2", "champion")
    sentence = "the alias champion was changed externally, from version 1 to version 2"
    for command in (("why", MODEL), ("history", MODEL)):
        assert sentence in deployment.call("ml-pipelines", *command).stdout
    verification = deployment.call("ml-pipelines", "ledger", "verify")
    assert verification.returncode == 1
    assert sentence in verification.stdout
    for _ in range(2):
        deployment.dag("ml_registry_watch")
    assert [entry.decision.outcome for entry in deployment.entries] == [
        "external_change",
        "rolled_back",
        *["promoted"] * 2,
    ]
    assert [event["reason"] for event in deployment.events()] == ["complaints", sentence]
    assert deployment.call("ml-pipelines", "ledger", "verify").returncode == 0
