"""Login, trigger form and approval over the REST API of `airflow standalone`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.integration.airflow.server import Server, standalone

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(900)]

FORM = ["data_revision", "candidates", "promote", "force"]


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    limits = {"owner": "tests", "retries": 0, "retry_delay": "0s", "execution_timeout": "10m"}
    gate = {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}, "improvement": -1.0}
    airflow.add_pipeline("approved", gate=gate, default_args=limits)
    airflow.add_pipeline("weekly", schedule={"cron": "0 2 * * 0"}, default_args=limits)
    approval = {"when": "always", "timeout": "5s"}
    airflow.add_pipeline(
        "unanswered",
        model={"name": "unanswered-model", "task": "classification"},
        gate=gate | {"approval": approval},
        default_args=limits,
    )
    shutil.copy(Path(__file__).parent / "celery" / "dags" / "warm.py", airflow.root / "dags")
    airflow.environment["AIRFLOW__CORE__EXECUTOR"] = (
        "ml_pipelines_airflow.execution.warm_local_executor.WarmLocalExecutor"
    )
    with standalone(airflow, "approved", "unanswered", "warm", "weekly") as running:
        running.unpause("approved", "unanswered", "warm")
        yield running


def trigger(server: Server, **form: Any) -> str:
    conf = {"data_revision": None, "candidates": ["linear", "tree"], "promote": "auto", "force": False} | form
    return server.trigger("approved", conf=conf)


def test_api_requires_a_login(server: Server) -> None:
    assert requests.get(f"{server.url}/api/v2/dags", timeout=60).status_code == 401


def test_dag_files_import_without_warnings(server: Server) -> None:
    assert server.call("GET", "/importErrors")["import_errors"] == []
    logs = {path.stem: path.read_text() for path in (server.root / "home" / "logs").rglob("*.py.log")}
    assert {name.removesuffix(".py") for name in logs} >= {"approved", "unanswered", "weekly"}
    assert not [line for text in logs.values() for line in text.splitlines() if "arning" in line]


def test_trigger_form_has_the_parameters(server: Server) -> None:
    params = server.call("GET", "/dags/approved/details")["params"]
    assert list(params) == FORM
    assert params["candidates"]["value"] == ["linear", "tree"]
    assert params["candidates"]["schema"]["items"]["enum"] == ["linear", "tree"]
    assert params["promote"]["schema"]["enum"] == ["auto", "hold", "never"]
    assert all(param["description"] for param in params.values())


def test_trigger_form_rejects_invalid_values(server: Server) -> None:
    body = {"logical_date": None, "conf": {"candidates": ["forest"]}}
    answer = server.session.post(f"{server.url}/api/v2/dags/approved/dagRuns", json=body, timeout=60)
    assert answer.status_code == 400
    assert "candidates" in answer.text


def test_next_run_follows_the_cron_schedule(server: Server) -> None:
    at = datetime.fromisoformat(server.call("GET", "/dags/weekly")["next_dagrun_run_after"])
    assert (at.strftime("%A %H:%M"), at.utcoffset()) == ("Sunday 02:00", timedelta())


def test_task_has_the_modules_of_its_worker(server: Server) -> None:
    run = server.trigger("warm")
    assert server.end_of(run) == "success"
    assert server.returned(run, "look") == ["mlflow.sklearn", "pandas", "sklearn.ensemble"]


def test_approval_deploys_and_rejection_keeps_the_champion(server: Server) -> None:
    run = trigger(server, candidates=["linear"], promote="hold")
    request = server.await_question(run, "request_approval")
    assert request["subject"] == "Deploy the new version of small-model?"
    assert request["body"].startswith("all rules passed")
    assert "| threshold roc_auc |" in request["body"]
    assert "| **roc_auc** |" in request["body"]
    assert (request["options"], request["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert server.champion() is None
    server.answer(run, "request_approval", "Approve")
    assert server.end_of(run) == "success"
    states = server.states(run)
    assert {name for name, state in states.items() if state == "skipped"} == {
        "handle_poor_quality",
        "keep_champion",
        "train_model[1]",
    }
    decision = server.entry(run)["decision"]
    assert (decision["outcome"], decision["candidate"]) == ("promoted", "linear")
    assert decision["reason"].startswith("a person approved. all rules passed")
    assert server.entry(run)["details"]["approver"] == "admin"
    assert server.champion() == 1
    assert server.entry(run)["run_url"].startswith(f"{server.url}/dags/approved/runs/")

    run = trigger(server, candidates=["tree"], promote="hold")
    server.await_question(run, "request_approval")
    server.answer(run, "request_approval", "Reject")
    assert server.end_of(run) == "success"
    states = server.states(run)
    assert {states[name] for name in ("register_and_deploy", "keep_champion")} == {"skipped"}
    assert states["record_decision"] == "success"
    decision = server.entry(run)["decision"]
    assert (decision["outcome"], decision["candidate"]) == ("held", "tree")
    assert decision["reason"].startswith("no person approved. all rules passed")
    assert server.champion() == 1


def test_timeout_of_the_approval_keeps_the_champion(server: Server) -> None:
    run = server.trigger("unanswered")
    assert server.end_of(run) == "success"
    states = server.states(run)
    assert (states["request_approval"], states["register_and_deploy"]) == ("success", "skipped")
    entry = server.entry(run)
    assert entry["decision"]["outcome"] == "held"
    assert entry["decision"]["reason"].startswith("no person approved")
    assert "approver" not in entry["details"]
