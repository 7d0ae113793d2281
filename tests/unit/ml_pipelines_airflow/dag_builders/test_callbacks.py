from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.contracts import Decision, StepResult
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.dag_builders.callbacks import callbacks, decision_headline
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.notifications.slack_callbacks import SlackRunNotifier

KEY = "0" * 64


def make_spec(**sections: Any) -> PipelineSpec:
    declaration = {
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
    return PipelineSpec.model_validate(declaration | sections)


def test_callbacks_without_alerts_are_empty() -> None:
    assert callbacks(make_spec()) == ({}, {})


def test_callbacks_combine_slack_and_mail() -> None:
    for_tasks, for_dag = callbacks(
        make_spec(
            alerts={"slack": {"connection": "team", "channel": "#ml"}},
            default_args={"email": ["a@example.com"], "email_on_failure": False, "email_on_retry": True},
        )
    )
    (notifier,) = for_tasks["on_failure_callback"]
    assert isinstance(notifier, SlackRunNotifier)
    assert (notifier.destination.connection, notifier.destination.channel) == ("team", "#ml")
    assert for_tasks["on_retry_callback"][0] is notifier
    assert len(for_tasks["on_retry_callback"]) == 2
    assert for_dag == {"on_success_callback": [notifier], "on_failure_callback": [notifier]}


def make_context(
    decision: Decision | None,
    record: dict[str, Any] | None,
    task_id: str = "record_decision",
    checked: dict[str, Any] | None = None,
) -> dict[str, Any]:
    xcoms: dict[tuple[str, str], Any] = {}
    if decision is not None:
        xcoms["evaluate_model", "decide"] = make_result("decide", {"decision": decision.model_dump(mode="json")})
    if record is not None:
        xcoms["record_decision", "record_decision"] = make_result("record_decision", record)

    if checked is not None:
        xcoms["check_quality", "check_quality"] = make_result("check_quality", checked)

    def xcom_pull(*, task_ids: list[str], key: str) -> list[Any]:
        return [xcoms.get((task_ids[0], key))]

    task = SimpleNamespace(op_kwargs={"parameters": {"record_decision": {"model": "churn-model"}}})
    return {"ti": SimpleNamespace(task_id=task_id, xcom_pull=xcom_pull), "task": task}


def make_result(step: str, values: dict[str, Any]) -> dict[str, Any]:
    result = StepResult(step=step, key=KEY, status="computed", reason="first", values=values)
    return result.model_dump(mode="json")


def make_decision(**fields: Any) -> Decision:
    decision = {
        "outcome": "promoted",
        "model": "churn-model",
        "candidate": "linear",
        "reason": "all rules passed",
        "metric": "roc_auc",
        "metrics": {"roc_auc": 0.9123},
        "champion_metrics": {"roc_auc": 0.9},
    }
    return Decision.model_validate(decision | fields)


def make_record(outcome: str, version: str | None = None) -> dict[str, Any]:
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
def test_decision_headline_has_outcome_and_metric(outcome: str, text: str, good: bool | None) -> None:
    headline = decision_headline(make_context(make_decision(), make_record(outcome, "18")))
    facts = "linear: roc_auc 0.9123, +0.0123 against the champion"
    assert headline == Headline(text=text, detail="all rules passed", good=good, facts=facts)


def test_decision_headline_without_champion_has_no_difference() -> None:
    decision = make_decision(champion_metrics={}, metric="log_loss", metrics={"log_loss": 0.25})
    headline = decision_headline(make_context(decision, make_record("promoted", "1")))
    assert headline is not None
    assert headline.facts == "linear: log_loss 0.2500 (lower is better)"


def test_decision_headline_of_a_stopped_run_has_no_metric() -> None:
    headline = decision_headline(make_context(None, make_record("stopped")))
    assert headline is not None
    assert (headline.text, headline.facts, headline.good) == ("stopped: churn-model stays as it is", "", False)


def test_decision_headline_is_none_for_other_tasks_and_without_record() -> None:
    context = make_context(make_decision(), make_record("promoted"), task_id="preprocess_data")
    assert decision_headline(context) is None
    assert decision_headline(make_context(None, None)) is None


LEAK = {"check": "leakage", "column": "refund", "severity": "hold", "detail": "predicts label", "remedy": "ignore it"}
MISSING = {"check": "missing", "column": "income", "severity": "error", "detail": "is empty", "remedy": "fill it"}


def test_decision_headline_of_an_evaluation_has_the_findings_only() -> None:
    context = make_context(make_decision(outcome="held", findings=[LEAK]), None, task_id="evaluate_model")
    line = "hold: refund: leakage. predicts label. Remedy: ignore it"
    assert decision_headline(context) == Headline(findings=(line,))
    assert decision_headline(make_context(make_decision(), None, task_id="evaluate_model")) is None
    recorded = decision_headline(make_context(make_decision(findings=[LEAK]), make_record("held")))
    assert recorded is not None
    assert recorded.findings == ()  # the thread has them already


def test_decision_headline_of_a_stopped_run_has_the_failed_checks() -> None:
    values = {"verdict": "stopped", "rows": 9, "quarantined": 0, "failed": ["income: missing"], "warnings": []}
    context = make_context(None, make_record("stopped"), checked={**values, "findings": [MISSING]})
    headline = decision_headline(context)
    assert headline is not None
    assert headline.findings == ("stop: income: missing. is empty. Remedy: fill it",)
