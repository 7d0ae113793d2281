"""Slack messages of a run's state: a Block Kit message with its fallback text, and the replies in its thread."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from ml_pipelines.escaping import escape_slack, visible
from ml_pipelines_airflow.notifications.durations import format_duration
from ml_pipelines_airflow.notifications.events import Headline, LateTask, RunEvent, TaskEvent
from ml_pipelines_airflow.notifications.run_state import RunState, Status, TaskRunState, delay, has_recovered, status

__all__ = ["message", "replies", "section"]

Block = dict[str, Any]

MAX_SECTION = 3000
MAX_HEADER = 150
MAX_LINES = 10
MAX_REPLIES = 20

_STATUS_TEXT: dict[Status, tuple[str, str]] = {
    "running": ("🔵", "is running"),
    "retrying": ("🟡", "is retrying"),
    "awaiting_input": ("🟡", "is waiting for approval"),
    "failing": ("🔴", "has failures and is still running"),
    "failed": ("🔴", "failed"),
    "success": ("🟢", "succeeded"),
}


def message(state: RunState) -> tuple[str, list[Block]]:
    """Return the fallback text and the blocks of a run's message."""
    title = _title(state)
    paragraphs = [*_headlines(state), *_tasks(state), *_late_tasks(state)]
    blocks: list[Block] = [{"type": "header", "text": {"type": "plain_text", "text": _clip(title, MAX_HEADER)}}]
    blocks += [section(paragraph) for paragraph in paragraphs]
    blocks.append({"type": "context", "elements": [_mrkdwn(_facts(state))]})
    text = ": ".join([escape_slack(title), *(paragraph.splitlines()[0] for paragraph in paragraphs[:1])])
    return _clip(text, MAX_SECTION), blocks


def replies(state: RunState) -> dict[str, str]:
    """Return the replies in the message's thread by key: at most `MAX_REPLIES`, and one that links to the rest."""
    entries = dict(_replies(state))
    first = dict(list(entries.items())[:MAX_REPLIES])
    if len(entries) > MAX_REPLIES:
        first["more"] = f"More details are in <{_url(state.run.url)}|Airflow>."
    return first


def section(text: str) -> Block:
    """Return a paragraph in Slack's markup."""
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    # Verbatim: Slack makes no links of addresses, channels and names in the text.
    return {"type": "mrkdwn", "text": _clip(text, MAX_SECTION), "verbatim": True}


def _title(state: RunState) -> str:
    icon, text = _STATUS_TEXT[status(state)]
    if state.late and not state.end:
        icon, text = ("🔴" if status(state) == "failing" else "🟡"), f"{text}, late"
    if state.end and state.end.state == "failed" and state.end.reason == "timed_out":
        text = "failed: timeout"
    return f"{icon} {visible(state.run.dag_id)} {text}"


def _facts(state: RunState) -> str:
    facts = [f"<{_url(state.run.url)}|{escape_slack(state.run.run_id)}>"]
    if state.owners:
        facts.append(f"owner {escape_slack(', '.join(state.owners))}")
    if state.end:
        facts += _end_facts(state, state.end)
    elif state.attempt:
        facts.append("cleared and restarted")
    return " · ".join(facts)


def _end_facts(state: RunState, end: RunEvent) -> Iterator[str]:
    if end.seconds is not None:
        yield f"{'succeeded in' if end.state == 'success' else 'failed after'} {format_duration(end.seconds)}"
    if late_by := delay(state):
        yield f"finished {format_duration(late_by.total_seconds())} after its SLA"


def _headlines(state: RunState) -> Iterator[str]:
    for _, headline in state.headlines.values():
        if not headline.text:
            continue
        facts = f"\n{escape_slack(headline.facts)}" if headline.facts else ""
        yield f"*{_bold(headline.text)}*{facts}"


def _tasks(state: RunState) -> list[str]:
    lines = [line for name, task in state.tasks.items() if (line := _task_line(name, task, state))]
    lines.sort(key=lambda line: line[0])
    return _first_lines([text for _, text in lines])


def _task_line(name: str, task: TaskRunState, state: RunState) -> tuple[int, str] | None:
    """Return the line of a task and its rank, the most urgent first; None if there is nothing to report."""
    latest, bold = task.latest, f"*{_bold(name)}*"
    if latest.state == "failed":
        return 0, f"{bold} failed{_try(latest)}{_owner(latest)} · {_log(latest)}{_code(latest.error)}"
    if latest.state == "awaiting_input":
        return 1, f"{bold} waits for an answer: {escape_slack(latest.detail)} · <{_url(latest.url)}|answer>"
    if latest.state == "retrying" and not state.end:
        return 2, f"{bold} {_next_try(latest)}{_owner(latest)} · {_log(latest)}{_code(latest.error)}"
    if latest.state == "answered":
        return 3, f"{bold}: {escape_slack(latest.detail or 'answered')}"
    if has_recovered(task):
        return 4, f"{bold} recovered on try {latest.try_number} · {_log(latest)}"
    if latest.state == "started" and task.failures:
        return 2, f"{bold} is on try {latest.try_number} · {_log(latest)}"
    return None


def _next_try(event: TaskEvent) -> str:
    return f"retrying, {event.try_number + 1} of {max(event.tries, event.try_number + 1)}"


def _late_tasks(state: RunState) -> list[str]:
    return _first_lines([_late_line(late) for late in state.late.values()])


def _late_line(late: LateTask) -> str:
    due = f"{late.due:%Y-%m-%d %H:%M} UTC"
    cause = f": {escape_slack(late.cause)}" if late.cause else ""
    task_state = escape_slack(late.state or "not started")
    return f"*{_bold(late.task)}* late ({task_state}), due {due}, SLA {format_duration(late.sla_seconds)}{cause}"


def _replies(state: RunState) -> Iterator[tuple[str, str]]:
    for name, task in state.tasks.items():
        for number, failure in task.failures.items():
            yield f"failed {name} {number}", _failure_reply(name, number, failure)
    for name, (number, headline) in state.headlines.items():
        if headline.detail:
            yield f"headline {name} {number}", _headline_reply(headline)
        if headline.findings:
            yield f"findings {name} {number}", _findings_reply(headline.findings)


def _failure_reply(name: str, number: int, failure: TaskEvent) -> str:
    retry = ", retry scheduled" if failure.state == "retrying" else ""
    head = f"*{_bold(name)}* failed on try {number} of {max(failure.tries, number)}{retry}{_owner(failure)}"
    return f"{head} · {_log(failure)}\n{_code_block(failure.detail or failure.error)}"


def _headline_reply(headline: Headline) -> str:
    return _clip(f"*{_bold(headline.text)}*\n{escape_slack(headline.detail, lines=True)}", MAX_SECTION)


def _findings_reply(findings: tuple[str, ...]) -> str:
    """Return the findings as a list that fits into one message."""
    lines = [f"• {escape_slack(text)}" for text in findings]
    space = MAX_SECTION - 100
    ends = list(accumulate(len(line) + 1 for line in lines))
    shown = lines[: sum(end <= space for end in ends)]
    more = [f"and {len(lines) - len(shown)} more; the report of the run lists them"] if len(shown) < len(lines) else []
    return "\n".join(["*Findings*", *shown, *more])


def _try(event: TaskEvent) -> str:
    return f" on try {event.try_number} of {max(event.tries, event.try_number)}" if event.try_number > 1 else ""


def _owner(event: TaskEvent) -> str:
    return f" · owner {escape_slack(event.owner)}" if event.owner else ""


def _log(event: TaskEvent) -> str:
    return f"<{_url(event.log_url)}|log>"


def _code(line: str) -> str:
    # A backtick in the error would end the code markup.
    return f"\n`{_code_text(line)}`" if line else ""


def _code_block(text: str) -> str:
    return f"```\n{_clip(_code_text(text, lines=True), MAX_SECTION - 500)}\n```"


def _code_text(text: str, *, lines: bool = False) -> str:
    # Within code, Slack formats nothing but a backtick, and its three control characters.
    return _entities(visible(text, lines=lines).replace("`", "'"))


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _bold(text: str) -> str:
    return escape_slack(text.replace("\n", " "))


def _url(url: str) -> str:
    return _entities(visible(url)).replace("|", "%7C")


def _first_lines(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    return lines[:MAX_LINES] + more


def _clip(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = text[: limit - 4]
    # A cut within `&amp;` would show a part of the escape.
    return f"{head[: head.rfind('&')] if '&' in head[-5:] else head} ..."
