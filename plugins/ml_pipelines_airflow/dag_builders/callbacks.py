"""From a declaration's `alerts` and `email` to the callbacks of its tasks and of its DAG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_pipelines.contracts import Decision
from ml_pipelines.pipeline.facts import DecideFacts, RecordFacts
from ml_pipelines.spec.metrics import get_metric
from ml_pipelines_airflow.dag_builders.common import Spec
from ml_pipelines_airflow.notifications.email import email_callback
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.notifications.slack import SlackRunNotifier, dag_callbacks, task_callbacks
from ml_pipelines_airflow.tasks.training import TASK_IDS, step_result

__all__ = ["callbacks", "decision_headline"]


def callbacks(
    spec: Spec, headline: Callable[[Any], Headline | None] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The callbacks of a pipeline's tasks, for `default_args`, and those of its DAG.

    Args:
        spec: the declaration.
        headline: what a run has come to, by the context of a task; of a training, if not given.
    """
    headline = headline or decision_headline
    of_tasks: dict[str, list[Any]] = {}
    of_dag: dict[str, Any] = {}
    if told := spec.alerts.slack:
        notifier = SlackRunNotifier(channel=told.channel, slack_conn_id=told.connection, headline=headline)
        of_tasks = {slot: [notifier] for slot in task_callbacks(notifier)}
        of_dag = {slot: [notifier] for slot in dag_callbacks(notifier)}
    mail, slots = spec.default_args, {"on_failure_callback": "email_on_failure", "on_retry_callback": "email_on_retry"}
    for slot, wanted in slots.items():
        if mail.email and getattr(mail, wanted):
            of_tasks.setdefault(slot, []).append(email_callback(mail.email))
    return of_tasks, of_dag


def decision_headline(context: Any) -> Headline | None:
    """What a run decided, once that is on record; None for every other task."""
    ti = context["ti"]
    if ti.task_id != TASK_IDS["record_decision"]:
        return None
    recorded = step_result(ti, "record_decision")
    if recorded is None:
        return None
    facts, model = RecordFacts.of(recorded), context["task"].op_kwargs["parameters"]["model"]
    decided = step_result(ti, "decide")
    return Headline(
        text=_text(facts.outcome, model, facts.version),
        detail=facts.reason,
        good={"promoted": True, "rejected": False, "stopped": False}.get(facts.outcome),
        facts=_measured(DecideFacts.of(decided).decision) if decided else "",
    )


def _text(outcome: str, model: str, version: str | None) -> str:
    if outcome == "promoted":
        return f"promoted v{version} of {model}"
    if outcome == "no_change":
        return f"no change: {model} stays as it is"
    return f"{outcome}: {model} stays as it is"


def _measured(decision: Decision) -> str:
    """Return the primary metric and its difference from the champion's."""
    if decision.metric is None or (value := decision.metrics.get(decision.metric)) is None:
        return ""
    old = decision.champion_metrics.get(decision.metric)
    compared = f", {value - old:+.4f} against the champion" if old is not None else ""
    better = "" if get_metric(decision.metric).greater_is_better else " (lower is better)"
    return f"{decision.candidate}: {decision.metric} {value:.4f}{compared}{better}"
