"""From the context of an Airflow callback to news. What happened is told by the context itself."""

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
)
from ml_pipelines_airflow.notifications.events import TaskState as State

__all__ = ["event_from_context", "late_tasks_event", "masked"]

log = logging.getLogger(__name__)

_LONGEST_LINE = 300
_LONGEST_DETAIL = 2500
_STATES: Mapping[str, State] = {
    "running": "started",
    "up_for_retry": "retrying",
    "failed": "failed",
    "success": "succeeded",
    "skipped": "skipped",
}


def event_from_context(context: Any, headline: Callable[[Any], Headline | None] | None = None) -> Event:
    """What a callback's context says.

    A DAG's own callback has a `reason`. A task's has the state that the task came to; where there is none, as when
    its process was killed and Airflow calls back from elsewhere, it failed or is tried again.

    Args:
        context: of a task's or a DAG's callback.
        headline: what a task's success means for the run; called with the context.
    """
    if "reason" in context:
        return _run_news(context)
    return _task_news(context, headline)


def late_tasks_event(run: Mapping[str, Any], late: Sequence[LateTask]) -> LateTasksEvent:
    """What a deadline's callback says; `run` is the run as Airflow's REST API describes it."""
    return LateTasksEvent(run=_facts(str(run["dag_id"]), str(run["dag_run_id"])), late=tuple(late))


def _run_news(context: Any) -> RunEvent:
    run, ti = context.get("dag_run"), context.get("ti")
    dag_id = str(getattr(run, "dag_id", None) or context["dag"].dag_id)
    began, ended = getattr(run, "start_date", None), getattr(run, "end_date", None) or datetime.now(UTC)
    reason = str(context["reason"] or "")
    state = getattr(run, "state", None)
    return RunEvent(
        run=_facts(dag_id, str(getattr(run, "run_id", None) or context.get("run_id") or ti.run_id)),
        attempt=_attempt(run),
        # Where Airflow tells no state, its reason does: "success", "task_failure", "timed_out", ...
        state="success" if _text(state) == "success" or (state is None and reason == "success") else "failed",
        at=ended,
        seconds=max((ended - began).total_seconds(), 0.0) if began else None,
        reason="" if reason == "success" else reason,
    )


def _task_news(context: Any, headline: Callable[[Any], Headline | None] | None) -> TaskEvent:
    ti, task = context["ti"], context.get("task")
    news = TaskEvent(
        run=_facts(ti.dag_id, ti.run_id),
        attempt=_attempt(context.get("dag_run")),
        task=_label(ti),
        state=_state(ti),
        try_number=max(ti.try_number or 1, 1),
        tries=max((ti.max_tries or 0) + 1, ti.try_number or 1),
        owner=masked(str(getattr(task, "owner", "") or "")),
        log_url=str(ti.log_url or ""),
    )
    if news.state in ("failed", "retrying"):
        line, detail = _error(context.get("exception"))
        return news.model_copy(update={"error": line, "detail": detail})
    if news.state in ("started", "succeeded") and _asks_a_person(task):
        return _with_question(news, ti, task)
    found = _found(headline, context) if headline and news.state == "succeeded" else None
    return news.model_copy(update={"headline": found})


def _state(ti: Any) -> State:
    if known := _STATES.get(_text(getattr(ti, "state", None))):
        return known
    return "retrying" if (ti.try_number or 1) <= (ti.max_tries or 0) else "failed"


def _text(state: Any) -> str:
    return str(getattr(state, "value", state) or "")


def _attempt(run: Any) -> int:
    return int(getattr(run, "clear_number", 0) or 0)


def _label(ti: Any) -> str:
    index = -1 if ti.map_index is None else ti.map_index
    return f"{ti.task_id}[{index}]" if index >= 0 else str(ti.task_id)


def _facts(dag_id: str, run_id: str) -> RunReference:
    from airflow.providers.common.compat.sdk import conf

    base = str(conf.get("api", "base_url", fallback="") or "http://localhost:8080").rstrip("/")
    return RunReference(dag_id=dag_id, run_id=run_id, url=f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}")


def _asks_a_person(task: Any) -> bool:
    from airflow.providers.standard.operators.hitl import HITLOperator

    return isinstance(task, HITLOperator)


def _with_question(news: TaskEvent, ti: Any, task: Any) -> TaskEvent:
    if news.state == "succeeded":
        return news.model_copy(update={"state": "answered", "detail": _answer(ti)})
    index = f"?map_index={ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    url = f"{news.run.url}/tasks/{quote(ti.task_id)}/required_actions{index}"
    subject = masked(_shortened(str(task.subject or ""), _LONGEST_LINE))
    return news.model_copy(update={"state": "held", "detail": subject, "url": url})


def _answer(ti: Any) -> str:
    """What was chosen and by whom, empty if Airflow does not tell."""
    index = {} if ti.map_index is None or ti.map_index < 0 else {"map_indexes": ti.map_index}
    given = ti.xcom_pull(task_ids=ti.task_id, **index)
    if not isinstance(given, Mapping):
        return ""
    by = given.get("responded_by_user")
    name = by.get("name") if isinstance(by, Mapping) else getattr(by, "name", None)
    chosen = ", ".join(str(each) for each in given.get("chosen_options") or ())
    return masked(_shortened(f"{chosen} by {name}" if name else chosen, _LONGEST_LINE))


def _error(error: Any) -> tuple[str, str]:
    """The line that says most, and more of it."""
    if error is None:
        return "no exception was reported; its process may have been killed", ""
    text = masked(str(error).strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    # Ours begin with what is wrong, others end with it.
    line = lines[0] if isinstance(error, PipelineError) else lines[-1]
    name = type(error).__name__ if isinstance(error, BaseException) else ""
    told = ": ".join(filter(None, (name, line)))
    return _shortened(told, _LONGEST_LINE), _shortened(text, _LONGEST_DETAIL) if text != line else ""


def _found(headline: Callable[[Any], Headline | None], context: Any) -> Headline | None:
    try:
        found = headline(context)
    except Exception:
        # It is anybody's function; what else is known of the run is told all the same.
        log.exception("the headline could not be made")
        return None
    limits = {"text": _LONGEST_LINE, "detail": _LONGEST_DETAIL, "facts": _LONGEST_LINE}
    return found and found.model_copy(
        update={name: masked(_shortened(getattr(found, name), limit)) for name, limit in limits.items()}
    )


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 4].rstrip()} ..."


def masked(text: str) -> str:
    """The text without the secrets that Airflow knows of."""
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # not in its __all__

    return str(redact(text))
