"""Events from the contexts of Airflow's callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.notifications.events import (
    Event,
    Headline,
    LateTask,
    LateTasksEvent,
    RunEvent,
    RunReference,
    TaskEvent,
    TaskState,
)

__all__ = ["event_from_context", "late_tasks_event", "mask_secrets"]

log = logging.getLogger(__name__)

_MAX_LINE = 300
_MAX_DETAIL = 2500
_MAX_FINDING = 600
_MAX_FINDINGS = 30
_HEADLINE_LIMITS = {"text": _MAX_LINE, "detail": _MAX_DETAIL, "facts": _MAX_LINE}
_STATES: Mapping[str, TaskState] = {
    "running": "started",
    "up_for_retry": "retrying",
    "failed": "failed",
    "success": "succeeded",
    "skipped": "skipped",
}


def event_from_context(context: Any, headline: Callable[[Any], Headline | None] | None = None) -> Event:
    """Return the event that a callback reports.

    The context of a DAG's callback has a `reason`; the context of a task's callback has the new state of the task.

    Args:
        context: of a task's or a DAG's callback.
        headline: returns the result of the run from the context of a successful task.
    """
    return _run_event(context) if "reason" in context else _task_event(context, headline)


def late_tasks_event(run: Mapping[str, Any], late: Sequence[LateTask]) -> LateTasksEvent:
    """Return the event of a missed deadline; `run` is the run as Airflow's REST API describes it."""
    return LateTasksEvent(run=_reference(str(run["dag_id"]), str(run["dag_run_id"])), late=tuple(late))


def mask_secrets(text: str) -> str:
    """Return a text in which asterisks replace the secrets that Airflow has registered."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # not in its __all__

    return str(redact(text))


def _run_event(context: Any) -> RunEvent:
    run, ti = context.get("dag_run"), context.get("ti")
    dag_id = str(getattr(run, "dag_id", None) or context["dag"].dag_id)
    start, end = getattr(run, "start_date", None), getattr(run, "end_date", None) or datetime.now(UTC)
    reason = str(context["reason"] or "")
    return RunEvent(
        run=_reference(dag_id, str(getattr(run, "run_id", None) or context.get("run_id") or ti.run_id)),
        attempt=_attempt(run),
        state="success" if _has_succeeded(run, reason) else "failed",
        at=end,
        seconds=max((end - start).total_seconds(), 0.0) if start else None,
        reason="" if reason == "success" else reason,
    )


def _has_succeeded(run: Any, reason: str) -> bool:
    # Without a state, the reason decides: "success", "task_failure", "timed_out", ...
    state = getattr(run, "state", None)
    return (reason if state is None else _text(state)) == "success"


def _task_event(context: Any, headline: Callable[[Any], Headline | None] | None) -> TaskEvent:
    ti, task = context["ti"], context.get("task")
    event = TaskEvent(
        run=_reference(ti.dag_id, ti.run_id),
        attempt=_attempt(context.get("dag_run")),
        task=_task_name(ti),
        state=_task_state(ti),
        try_number=max(ti.try_number or 1, 1),
        tries=max((ti.max_tries or 0) + 1, ti.try_number or 1),
        owner=mask_secrets(str(getattr(task, "owner", "") or "")),
        log_url=str(ti.log_url or ""),
    )
    if event.state in ("failed", "retrying"):
        line, detail = _error(context.get("exception"))
        return event.model_copy(update={"error": line, "detail": detail})
    if event.state in ("started", "succeeded") and _awaits_input(task):
        return _with_question(event, ti, task)
    result = _headline(headline, context) if headline and event.state == "succeeded" else None
    return event.model_copy(update={"headline": result})


def _task_state(ti: Any) -> TaskState:
    if state := _STATES.get(_text(getattr(ti, "state", None))):
        return state
    # The callback of a killed process runs elsewhere and has no state.
    return "retrying" if (ti.try_number or 1) <= (ti.max_tries or 0) else "failed"


def _text(state: Any) -> str:
    return str(getattr(state, "value", state) or "")


def _attempt(run: Any) -> int:
    return int(getattr(run, "clear_number", 0) or 0)


def _map_index(ti: Any) -> int | None:
    return None if ti.map_index is None or ti.map_index < 0 else int(ti.map_index)


def _task_name(ti: Any) -> str:
    index = _map_index(ti)
    return str(ti.task_id) if index is None else f"{ti.task_id}[{index}]"


def _reference(dag_id: str, run_id: str) -> RunReference:
    from airflow.providers.common.compat.sdk import conf

    base = str(conf.get("api", "base_url", fallback="") or "http://localhost:8080").rstrip("/")
    return RunReference(dag_id=dag_id, run_id=run_id, url=f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}")


def _awaits_input(task: Any) -> bool:
    from airflow.providers.standard.operators.hitl import HITLOperator

    return isinstance(task, HITLOperator)


def _with_question(event: TaskEvent, ti: Any, task: Any) -> TaskEvent:
    if event.state == "succeeded":
        return event.model_copy(update={"state": "answered", "detail": _answer(ti)})
    index = _map_index(ti)
    query = "" if index is None else f"?map_index={index}"
    url = f"{event.run.url}/tasks/{quote(ti.task_id)}/required_actions{query}"
    question = mask_secrets(_shorten(str(task.subject or ""), _MAX_LINE))
    return event.model_copy(update={"state": "awaiting_input", "detail": question, "url": url})


def _answer(ti: Any) -> str:
    """Return the chosen options and the name of the person; empty if Airflow stores no answer."""
    index = _map_index(ti)
    answer = ti.xcom_pull(task_ids=ti.task_id, **({} if index is None else {"map_indexes": index}))
    if not isinstance(answer, Mapping):
        return ""
    user = answer.get("responded_by_user")
    name = user.get("name") if isinstance(user, Mapping) else getattr(user, "name", None)
    options = ", ".join(str(option) for option in answer.get("chosen_options") or ())
    return mask_secrets(_shorten(f"{options} by {name}" if name else options, _MAX_LINE))


def _error(error: Any) -> tuple[str, str]:
    """Return the most informative line of an error, and its text if that has more lines."""
    if error is None:
        return "no exception was reported; its process may have been killed", ""
    text = mask_secrets(str(error).strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    # An error of this project begins with its essence; others end with it.
    line = lines[0] if isinstance(error, PipelineError) else lines[-1]
    name = type(error).__name__ if isinstance(error, BaseException) else ""
    summary = ": ".join(filter(None, (name, line)))
    return _shorten(summary, _MAX_LINE), _shorten(text, _MAX_DETAIL) if text != line else ""


def _headline(headline: Callable[[Any], Headline | None], context: Any) -> Headline | None:
    try:
        result = headline(context)
    except Exception:
        # The function belongs to the user; its error must not suppress the event.
        log.exception("the headline function failed")
        return None
    if result is None:
        return None
    texts = {name: mask_secrets(_shorten(getattr(result, name), limit)) for name, limit in _HEADLINE_LIMITS.items()}
    findings = tuple(mask_secrets(_shorten(text, _MAX_FINDING)) for text in result.findings[:_MAX_FINDINGS])
    return result.model_copy(update={**texts, "findings": findings})


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."
