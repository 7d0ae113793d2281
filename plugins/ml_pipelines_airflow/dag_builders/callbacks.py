"""Build the callbacks of a declaration's tasks and DAG from its `alerts` and `email`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ml_pipelines.contracts import Decision, Finding
from ml_pipelines.pipeline.facts import DecideFacts, QualityFacts, RecordFacts
from ml_pipelines.spec.metric_table import get_metric
from ml_pipelines.spec.task_steps import task_of
from ml_pipelines_airflow.dag_builders.common import Spec
from ml_pipelines_airflow.notifications.email import email_callback
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.notifications.slack_callbacks import SlackRunNotifier, dag_callbacks, task_callbacks
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
    """Return the findings of a run after its evaluation, and its result once that is recorded; None for other tasks.

    A person who is asked for approval reads the findings of the evaluation.
    """
    ti = context["ti"]
    if ti.task_id == task_of("decide"):
        decided = step_result(ti, "decide")
        findings = _findings(DecideFacts.of(decided).decision.findings) if decided else ()
        return Headline(findings=findings) if findings else None
    if ti.task_id != task_of("record_decision") or (recorded := step_result(ti, "record_decision")) is None:
        return None
    facts = RecordFacts.of(recorded)
    model = context["task"].op_kwargs["parameters"]["record_decision"]["model"]
    decided, checked = step_result(ti, "decide"), step_result(ti, "check_quality")
    return Headline(
        text=_text(facts.outcome, model, facts.version),
        detail=facts.reason,
        good=_GOOD.get(facts.outcome),
        facts=_metric_line(DecideFacts.of(decided).decision) if decided else "",
        findings=_findings(QualityFacts.of(checked).findings) if checked and not decided else (),
    )


def _findings(findings: Sequence[Finding]) -> tuple[str, ...]:
    from ml_pipelines.reporting.findings import SEVERITIES, finding_text

    return tuple(f"{SEVERITIES[finding.severity].label}: {finding_text(finding)}" for finding in findings)


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
