from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.services import diagnostics as doctor
from ml_pipelines.services.diagnostics import Diagnostic, run_diagnostics
from ml_pipelines.services.settings import Settings


def findings(folder: Path, monkeypatch: pytest.MonkeyPatch, *, store: str = "") -> dict[str, Diagnostic]:
    # MLflow is asked by the tests of its adapter; here a port where nobody listens would only take time.
    monkeypatch.setattr(doctor, "_mlflow", lambda settings: "answers")
    settings = Settings(
        store=store or f"file://{folder}/store", tracking_uri="", ledger=f"sqlite:///{folder}/ledger.db"
    )
    return {finding.what: finding for finding in run_diagnostics(settings)}


def test_a_machine_that_can_do_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actual = findings(tmp_path, monkeypatch)
    assert list(actual) == ["packages", "git", "artifact store", "ledger", "MLflow"]
    assert all(finding.ok for finding in actual.values())
    assert "scikit-learn 1." in actual["packages"].detail
    assert actual["git"].detail.endswith("git")
    assert actual["artifact store"].detail.startswith(f"wrote and read file://{tmp_path}/store/objects/")


def test_a_ledger_that_was_tampered_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    assert findings(tmp_path, monkeypatch)["ledger"].detail == "answers; 0 models, every chain is intact"
    decision = Decision(outcome="held", model="m", reason="so")
    ledger.record(Identity(pipeline="p", run_id="r", task_id="t"), decision, RunDetails())
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("DROP TRIGGER ml_ledger_heads_delete")
        connection.execute("DELETE FROM ml_ledger_heads")
    actual = findings(tmp_path, monkeypatch)["ledger"]
    assert (actual.ok, actual.detail) == (
        False,
        "the chain of m is broken\n  fix: run `ml-pipelines ledger verify`, which lists the errors",
    )


def test_each_thing_that_is_wrong_is_told_and_the_rest_is_still_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in ("dvc", "skops"):
            raise PackageNotFoundError(name)
        return "1.0"

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "version", version)
    actual = findings(tmp_path, monkeypatch, store=f"file://{tmp_path}/file/store")
    assert {what: finding.ok for what, finding in actual.items()} == {
        "packages": False,
        "git": False,
        "artifact store": False,
        "ledger": True,
        "MLflow": True,
    }
    packages = 'not installed: skops, dvc\n  fix: pip install "airflow-provider-ml-pipelines[ml]"'
    assert actual["packages"].detail == packages
    assert actual["git"].detail.startswith("git is not on the PATH\n  fix: install git")
    assert "the store can't be used" in actual["artifact store"].detail
    assert "fix: check that it exists" in actual["artifact store"].detail
