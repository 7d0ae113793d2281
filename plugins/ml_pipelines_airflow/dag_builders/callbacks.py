"""Build the callbacks of a declaration's tasks and DAG from its `alerts` and `email`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_pipelines.contracts import Decision
from ml_pipelines.pipeline.facts import DecideFacts, RecordFacts
from ml_pipelines.spec.metrics import get_metric
from ml_pipelines.spec.tasks import task_of
from ml_pipelines_airflow.dag_builders.common import Spec
from ml_pipelines_airflow.notifications.email import email_callback
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.notifications.slack import SlackRunNotifier, dag_callbacks, task_callbacks
from ml_pipelines_airflow.tasks.training import step_result

__all__ = ["callbacks", "decision_headline"]

_GOOD = {"promoted": True, "rejected": False, "stopped": False}
_EMAIL_SLOTS = {"on_failure_callback": "email_on_failure", "on_retry_callback": "email_on_retry"}


def callbacks(
    spec: Spec, headline: Callable[[Any], Headline | None] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the callbacks of a pipeline's tasks, for `default_args`, and those of its DAG.

    Args:
        spec: the declaration.
        headline: returns the headline of a run from the context of a task; by default that of a training.
    """
    for_tasks: dict[str, list[Any]] = {}
    for_dag: dict[str, Any] = {}
    if slack := spec.alerts.slack:
        notifier = SlackRunNotifier(
            channel=slack.channel, slack_conn_id=slack.connection, headline=headline or decision_headline
        )
        for_tasks = {slot: [notifier] for slot in task_callbacks(notifier)}
        for_dag = {slot: [notifier] for slot in dag_callbacks(notifier)}
    mail = spec.default_args
    for slot, switch in _EMAIL_SLOTS.items():
        if mail.email and getattr(mail, switch):
            for_tasks.setdefault(slot, []).append(email_callback(mail.email))
    return for_tasks, for_dag


def decision_headline(context: Any) -> Headline | None:
    """Return the headline of a run once its decision is recorded, None for every other task."""
    ti = context["ti"]
    if ti.task_id != task_of("record_decision"):
        return None
    recorded = step_result(ti, "record_decision")
    if recorded is None:
        return None
    facts = RecordFacts.of(recorded)
    model = context["task"].op_kwargs["parameters"]["record_decision"]["model"]
    decided = step_result(ti, "decide")
    return Headline(
        text=_text(facts.outcome, model, facts.version),
        detail=facts.reason,
        good=_GOOD.get(facts.outcome),
        facts=_metric_line(DecideFacts.of(decided).decision) if decided else "",
    )


def _text(outcome: str, model: str, version: str | None) -> str:
    if outcome == "promoted":
        return f"promoted v{version} of {model}"
    if outcome == "no_change":
        return f"no change: {model} stays as it is"
    return f"{outcome}: {model} stays as it is"


def _metric_line(decision: Decision) -> str:
    """Return the value of the primary metric and its difference from the champion's, empty without a value."""
    if decision.metric is None or (value := decision.metrics.get(decision.metric)) is None:
        return ""
    champion = decision.champion_metrics.get(decision.metric)
    difference = f", {value - champion:+.4f} against the champion" if champion is not None else ""
    direction = "" if get_metric(decision.metric).greater_is_better else " (lower is better)"
    return f"{decision.candidate}: {decision.metric} {value:.4f}{difference}{direction}"
