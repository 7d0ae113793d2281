"""Messages within Slack's limits, with all texts from outside escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines_airflow.notifications.events import Headline, LateTask, LateTasksEvent, RunReference, TaskEvent
from ml_pipelines_airflow.notifications.run_state import RunState, apply_event
from ml_pipelines_airflow.notifications.slack_blocks import escape, message, replies

RUN = RunReference(dag_id="churn", run_id="r1", url="http://airflow/dags/churn/runs/r1")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
# The links of the messages: the only valid use of < and >.
LINKS = re.compile(r"<http://airflow[^<>|]*\|[^<>|]+>")


def failed(task: str, error: str, detail: str = "") -> TaskEvent:
    return TaskEvent(
        run=RUN, task=task, state="failed", owner="ann", log_url="http://airflow/log", error=error, detail=detail
    )


def state_after(*events: Any) -> RunState:
    state: RunState | None = None
    for event in events:
        state = apply_event(state, event)
    assert state is not None
    return state


def texts(state: RunState) -> list[str]:
    text, blocks = message(state)
    shown = [block["text"]["text"] for block in blocks if block["type"] == "section"]
    context = [element["text"] for block in blocks if block["type"] == "context" for element in block["elements"]]
    return [text, *shown, *context, *replies(state).values()]


@given(st.text(max_size=60), st.text(max_size=400), st.text(max_size=4000), st.text(max_size=60))
def test_message_escapes_all_texts_from_outside(task: str, error: str, detail: str, subject: str) -> None:
    waiting = TaskEvent(run=RUN, task="ask", state="awaiting_input", detail=subject, url="http://airflow/ask")
    late = LateTask(task=task, state=subject, due=NOON, seen=NOON, sla_seconds=60, cause=error)
    headline = TaskEvent(run=RUN, task="x", state="succeeded", headline=Headline(text=subject, detail=detail))
    state = state_after(failed(task, error, detail), waiting, LateTasksEvent(run=RUN, late=(late,)), headline)
    for text in texts(state):
        assert not re.search(r"[<>]", LINKS.sub("", text))
        assert not re.search(r"&(?!amp;|lt;|gt;)", text)
        assert 0 < len(text) <= 3000
    assert len(message(state)[1]) <= 50


@given(st.text(alphabet="`ab\n&<", max_size=5000))
def test_replies_keep_an_error_within_its_code_block(error: str) -> None:
    state = state_after(failed("train", error.replace("\n", " ")[:300], error))
    (reply,) = replies(state).values()
    assert reply.count("```") == 2
    line = next(text for text in texts(state) if text.startswith("*train*"))
    assert line.count("`") in (0, 2)


def test_message_and_replies_limit_the_number_of_failures() -> None:
    state = state_after(*(failed(f"train[{number}]", "boom") for number in range(200)))
    text, blocks = message(state)
    assert text.startswith("🔴 churn has failures and is still running: *train[0]* failed")
    assert len(blocks) == 13
    assert blocks[-2]["text"]["text"] == "and 190 more"
    thread = replies(state)
    assert len(thread) == 21
    assert thread["more"] == "More details are in <http://airflow/dags/churn/runs/r1|Airflow>."


def test_message_clips_a_long_name() -> None:
    run = RunReference(dag_id="d" * 250, run_id="r1", url="http://airflow")
    (header, *_) = message(RunState(run=run))[1]
    assert len(header["text"]["text"]) == 150


def test_replies_do_not_clip_within_an_escape() -> None:
    (reply,) = replies(state_after(failed("train", "boom", "&" * 2500))).values()
    assert reply.endswith("&amp; ...\n```")


def test_escape_replaces_control_characters() -> None:
    assert escape("<a> & b") == "&lt;a&gt; &amp; b"
