"""Which callbacks a declaration makes, and what a decision is called in a message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.contracts import Decision, StepResult
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.dag_builders.callbacks import callbacks, decision_headline
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.notifications.slack import SlackRunNotifier

KEY = "0" * 64


def a_spec(**sections: Any) -> PipelineSpec:
    declared = {
        "name": "churn",
        "model": {"name": "churn-model", "task": "classification"},
        "data": {
            "file": {"path": "customers.csv"},
            "key": "id",
            "target": "label",
            "columns": {"id": {"type": "string"}, "label": {"type": "integer"}},
        },
        "candidates": [{"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}],
        "gate": {"metric": "roc_auc"},
    }
    return PipelineSpec.model_validate(declared | sections)


def test_who_declares_nothing_gets_no_callbacks() -> None:
    assert callbacks(a_spec()) == ({}, {})


def test_slack_and_mail_stand_side_by_side() -> None:
    of_tasks, of_dag = callbacks(
        a_spec(
            alerts={"slack": {"connection": "team", "channel": "#ml"}},
            default_args={"email": ["a@example.com"], "email_on_failure": False, "email_on_retry": True},
        )
    )
    (notifier,) = of_tasks["on_failure_callback"]
    assert isinstance(notifier, SlackRunNotifier)
    assert (notifier.destination.connection, notifier.destination.channel) == ("team", "#ml")
    assert of_tasks["on_retry_callback"][0] is notifier
    assert len(of_tasks["on_retry_callback"]) == 2
    assert of_dag == {"on_success_callback": [notifier], "on_failure_callback": [notifier]}


def a_context(
    decision: Decision | None, recorded: dict[str, Any] | None, task_id: str = "record_decision"
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if decision is not None:
        results["decide"] = a_result("decide", {"decision": decision.model_dump(mode="json")})
    if recorded is not None:
        results["record_decision"] = a_result("record_decision", recorded)

    def xcom_pull(*, task_ids: list[str], key: str) -> list[Any]:
        return [results[task_ids[0]]] if task_ids[0] in results else []

    task = SimpleNamespace(op_kwargs={"parameters": {"model": "churn-model"}})
    return {"ti": SimpleNamespace(task_id=task_id, xcom_pull=xcom_pull), "task": task}


def a_result(step: str, values: dict[str, Any]) -> dict[str, Any]:
    made = StepResult(step=step, key=KEY, status="computed", reason="first", values=values)
    return made.model_dump(mode="json")


def a_decision(**fields: Any) -> Decision:
    told = {
        "outcome": "promoted",
        "model": "churn-model",
        "candidate": "linear",
        "reason": "all rules passed",
        "metric": "roc_auc",
        "metrics": {"roc_auc": 0.9123},
        "champion_metrics": {"roc_auc": 0.9},
    }
    return Decision.model_validate(told | fields)


def recorded(outcome: str, version: str | None = None) -> dict[str, Any]:
    return {"outcome": outcome, "reason": "all rules passed", "candidate": "linear", "version": version}


@pytest.mark.parametrize(
    ("outcome", "text", "good"),
    [
        ("promoted", "promoted v18 of churn-model", True),
        ("rejected", "rejected: churn-model stays as it is", False),
        ("held", "held: churn-model stays as it is", None),
        ("no_change", "no change: churn-model stays as it is", None),
    ],
)
def test_a_decision_makes_the_headline(outcome: str, text: str, good: bool | None) -> None:
    found = decision_headline(a_context(a_decision(), recorded(outcome, "18")))
    facts = "linear: roc_auc 0.9123, +0.0123 against the champion"
    assert found == Headline(text=text, detail="all rules passed", good=good, facts=facts)


def test_a_first_model_has_nobody_to_differ_from() -> None:
    decision = a_decision(champion_metrics={}, metric="log_loss", metrics={"log_loss": 0.25})
    found = decision_headline(a_context(decision, recorded("promoted", "1")))
    assert found is not None
    assert found.facts == "linear: log_loss 0.2500 (lower is better)"


def test_a_run_that_stopped_has_measured_nothing() -> None:
    found = decision_headline(a_context(None, recorded("stopped")))
    assert found is not None
    assert (found.text, found.facts, found.good) == ("stopped: churn-model stays as it is", "", False)


def test_other_tasks_are_no_headline() -> None:
    assert decision_headline(a_context(a_decision(), recorded("promoted"), task_id="split_data")) is None
    assert decision_headline(a_context(None, None)) is None
