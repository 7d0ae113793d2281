"""What a story looks like: within Slack's limits, and with nothing in it that Slack would take for markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines_airflow.notifications.events import Headline, LateTask, LateTasksEvent, RunReference, TaskEvent
from ml_pipelines_airflow.notifications.run_state import RunState, after
from ml_pipelines_airflow.notifications.slack_blocks import escaped, message, replies

RUN = RunReference(dag_id="churn", run_id="r1", url="http://airflow/dags/churn/runs/r1")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
# What Slack may read between < and >: our own links.
OURS = re.compile(r"<http://airflow[^<>|]*\|[^<>|]+>")


def failed(task: str, error: str, detail: str = "") -> TaskEvent:
    return TaskEvent(
        run=RUN, task=task, state="failed", owner="ann", log_url="http://airflow/log", error=error, detail=detail
    )


def told(*news: Any) -> RunState:
    story: RunState | None = None
    for each in news:
        story = after(story, each)
    assert story is not None
    return story


def texts(story: RunState) -> list[str]:
    text, blocks = message(story)
    shown = [block["text"]["text"] for block in blocks if block["type"] == "section"]
    context = [element["text"] for block in blocks if block["type"] == "context" for element in block["elements"]]
    return [text, *shown, *context, *replies(story).values()]


@given(st.text(max_size=60), st.text(max_size=400), st.text(max_size=4000), st.text(max_size=60))
def test_no_text_of_others_is_markup(task: str, error: str, detail: str, subject: str) -> None:
    held = TaskEvent(run=RUN, task="ask", state="held", detail=subject, url="http://airflow/ask")
    late = LateTask(task=task, state=subject, due=NOON, seen=NOON, sla_seconds=60, blame=error)
    headline = TaskEvent(run=RUN, task="x", state="succeeded", headline=Headline(text=subject, detail=detail))
    story = told(failed(task, error, detail), held, LateTasksEvent(run=RUN, late=(late,)), headline)
    for text in texts(story):
        assert not re.search(r"[<>]", OURS.sub("", text))
        assert not re.search(r"&(?!amp;|lt;|gt;)", text)
        assert 0 < len(text) <= 3000
    assert len(message(story)[1]) <= 50


@given(st.text(alphabet="`ab\n&<", max_size=5000))
def test_an_error_does_not_break_out_of_its_code(error: str) -> None:
    story = told(failed("train", error.replace("\n", " ")[:300], error))
    (reply,) = replies(story).values()
    assert reply.count("```") == 2
    line = next(text for text in texts(story) if text.startswith("*train*"))
    assert line.count("`") in (0, 2)


def test_many_troubles_are_counted() -> None:
    story = told(*(failed(f"train[{number}]", "boom") for number in range(200)))
    text, blocks = message(story)
    assert text.startswith("🔴 churn has failures and is still running: *train[0]* failed")
    assert len(blocks) == 13
    assert blocks[-2]["text"]["text"] == "and 190 more"
    thread = replies(story)
    assert len(thread) == 21
    assert thread["more"] == "There is more in <http://airflow/dags/churn/runs/r1|Airflow>."


def test_a_long_name_fits_into_the_header() -> None:
    run = RunReference(dag_id="d" * 250, run_id="r1", url="http://airflow")
    (header, *_) = message(RunState(run=run))[1]
    assert len(header["text"]["text"]) == 150


def test_a_cut_does_not_show_half_an_escape() -> None:
    (reply,) = replies(told(failed("train", "boom", "&" * 2500))).values()
    assert reply.endswith("&amp; ...\n```")


def test_three_characters_have_a_meaning() -> None:
    assert escaped("<a> & b") == "&lt;a&gt; &amp; b"
