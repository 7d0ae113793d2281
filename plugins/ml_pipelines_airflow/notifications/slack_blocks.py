"""From a story to what Slack shows: a message in Block Kit with its fallback text, and the replies in its thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_pipelines_airflow.notifications.events import Headline, LateTask, TaskEvent
from ml_pipelines_airflow.notifications.formatting import format_duration
from ml_pipelines_airflow.notifications.run_state import RunState, Status, TaskRunState, lateness, recovered, status

__all__ = ["escaped", "message", "replies", "section"]

Block = dict[str, Any]

LONGEST_SECTION = 3000
LONGEST_HEADER = 150
MOST_LINES = 10
MOST_REPLIES = 20

_WORDS: dict[Status, tuple[str, str]] = {
    "running": ("🔵", "is running"),
    "retrying": ("🟡", "is retrying"),
    "held": ("🟡", "is waiting for approval"),
    "failing": ("🔴", "has failures and is still running"),
    "failed": ("🔴", "failed"),
    "success": ("🟢", "succeeded"),
}


def message(story: RunState) -> tuple[str, list[Block]]:
    """The fallback text and the blocks of a run's message."""
    title = _title(story)
    paragraphs = [*_headlines(story), *_tasks(story), *_late(story)]
    blocks: list[Block] = [{"type": "header", "text": {"type": "plain_text", "text": _cut(title, LONGEST_HEADER)}}]
    blocks += [section(each) for each in paragraphs]
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(_facts(story), LONGEST_SECTION)}]})
    text = ": ".join([escaped(title), *(each.splitlines()[0] for each in paragraphs[:1])])
    return _cut(text, LONGEST_SECTION), blocks


def replies(story: RunState) -> dict[str, str]:
    """What the message's thread says, by a key for each reply; no more than `MOST_REPLIES` and one that counts on."""
    every = dict(_replies(story))
    told = dict(list(every.items())[:MOST_REPLIES])
    if len(every) > MOST_REPLIES:
        told["more"] = f"There is more in <{_url(story.run.url)}|Airflow>."
    return told


def escaped(text: str) -> str:
    """Text that Slack shows as it is: without the three characters that its markup gives a meaning."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _title(story: RunState) -> str:
    dot, words = _WORDS[status(story)]
    if story.late and not story.over:
        dot, words = ("🔴" if status(story) == "failing" else "🟡"), f"{words}, late"
    if story.over and story.over.state == "failed" and story.over.reason == "timed_out":
        words = "failed: it took too long"
    return f"{dot} {story.run.dag_id} {words}"


def _facts(story: RunState) -> str:
    facts = [f"<{_url(story.run.url)}|{escaped(story.run.run_id)}>"]
    if story.owners:
        facts.append(f"owner {escaped(', '.join(story.owners))}")
    if over := story.over:
        if over.seconds is not None:
            facts.append(
                f"{'succeeded in' if over.state == 'success' else 'failed after'} {format_duration(over.seconds)}"
            )
        if delay := lateness(story):
            facts.append(f"finished {format_duration(delay.total_seconds())} after its SLA")
    elif story.attempt:
        facts.append("started again")
    return " · ".join(facts)


def _headlines(story: RunState) -> Iterator[str]:
    for _, headline in story.headlines.values():
        facts = f"\n{escaped(headline.facts)}" if headline.facts else ""
        yield f"*{_bold(headline.text)}*{facts}"


def _tasks(story: RunState) -> list[str]:
    lines = [line for name, task in story.tasks.items() if (line := _task_line(name, task, story))]
    # What needs somebody comes first.
    lines.sort(key=lambda line: line[0])
    return _bounded([text for _, text in lines])


def _task_line(name: str, task: TaskRunState, story: RunState) -> tuple[int, str] | None:
    latest, bold = task.latest, f"*{_bold(name)}*"
    if latest.state == "failed":
        return 0, f"{bold} failed{_of_tries(latest)}{_asked(latest)} · {_log(latest)}{_code(latest.error)}"
    if latest.state == "held":
        return 1, f"{bold} waits for a person: {escaped(latest.detail)} · <{_url(latest.url)}|answer>"
    if latest.state == "retrying" and not story.over:
        again = f"retrying, {latest.try_number + 1} of {max(latest.tries, latest.try_number + 1)}"
        return 2, f"{bold} {again}{_asked(latest)} · {_log(latest)}{_code(latest.error)}"
    if latest.state == "answered":
        return 3, f"{bold}: {escaped(latest.detail or 'answered')}"
    if recovered(task):
        return 4, f"{bold} recovered on try {latest.try_number} · {_log(latest)}"
    if latest.state == "started" and task.troubles:
        return 2, f"{bold} is on try {latest.try_number} · {_log(latest)}"
    return None


def _late(story: RunState) -> list[str]:
    return _bounded([_late_line(each) for each in story.late.values()])


def _late_line(late: LateTask) -> str:
    due = f"{late.due:%Y-%m-%d %H:%M} UTC"
    blame = f": {escaped(late.blame)}" if late.blame else ""
    state = escaped(late.state or "not begun")
    return f"*{_bold(late.task)}* late ({state}), due {due}, SLA {format_duration(late.sla_seconds)}{blame}"


def _replies(story: RunState) -> Iterator[tuple[str, str]]:
    for name, task in story.tasks.items():
        for number, trouble in task.troubles.items():
            again = ", it is tried again" if trouble.state == "retrying" else ""
            head = f"*{_bold(name)}* failed on try {number} of {max(trouble.tries, number)}{again}{_asked(trouble)}"
            block = _code_block(trouble.detail or trouble.error)
            yield f"failed {name} {number}", f"{head} · {_log(trouble)}\n{block}"
    for name, (number, headline) in story.headlines.items():
        if headline.detail:
            yield f"headline {name} {number}", _headline_reply(headline)


def _headline_reply(headline: Headline) -> str:
    return _cut(f"*{_bold(headline.text)}*\n{escaped(headline.detail)}", LONGEST_SECTION)


def _of_tries(news: TaskEvent) -> str:
    return f" on try {news.try_number} of {max(news.tries, news.try_number)}" if news.try_number > 1 else ""


def _asked(news: TaskEvent) -> str:
    return f" · owner {escaped(news.owner)}" if news.owner else ""


def _log(news: TaskEvent) -> str:
    return f"<{_url(news.log_url)}|log>"


def _code(line: str) -> str:
    # An error must not end the code that it is shown as.
    return f"\n`{escaped(line.replace('`', chr(39)))}`" if line else ""


def _code_block(text: str) -> str:
    return f"```\n{_cut(escaped(text.replace('```', chr(39) * 3)), LONGEST_SECTION - 500)}\n```"


def _bold(text: str) -> str:
    return escaped(text.replace("*", "∗").replace("\n", " "))  # noqa: RUF001  looks the same and ends no bold text


def _url(url: str) -> str:
    return escaped(url).replace("|", "%7C").replace("\n", "")


def _bounded(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return lines[:MOST_LINES] + more


def section(text: str) -> Block:
    """A paragraph in Slack's markup."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, LONGEST_SECTION)}}


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = text[: longest - 4]
    # Not within `&amp;`, which would be shown in pieces.
    return f"{head[: head.rfind('&')] if '&' in head[-5:] else head} ..."
