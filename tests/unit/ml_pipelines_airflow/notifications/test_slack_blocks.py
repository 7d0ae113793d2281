"""Messages within Slack's limits, with all texts from outside escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines_airflow.notifications.events import Headline, LateTask, LateTasksEvent, RunReference, TaskEvent
from ml_pipelines_airflow.notifications.run_state import RunState, apply_event
from ml_pipelines_airflow.notifications.slack_blocks import message, replies

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


LEAK = "hold: refund: leakage. Possible target leakage. Remedy: data: {ignore: [refund]}"


def test_replies_list_the_findings_and_their_number_if_they_do_not_fit() -> None:
    def thread(*findings: str) -> dict[str, str]:
        headline = Headline(findings=findings)
        return replies(state_after(TaskEvent(run=RUN, task="evaluate_model", state="succeeded", headline=headline)))

    assert thread() == {}
    assert thread(LEAK, "warn: x")["findings evaluate_model 1"].splitlines() == ["*Findings*", f"• {LEAK}", "• warn: x"]
    (many,) = thread(*(f"{number} {'x' * 590}" for number in range(12))).values()
    assert len(many) <= 3000
    assert many.splitlines()[-1].startswith("and 8 more")


def test_findings_alone_add_no_paragraph_to_the_message() -> None:
    event = TaskEvent(run=RUN, task="evaluate_model", state="succeeded", headline=Headline(findings=(LEAK,)))
    assert len(message(state_after(event))[1]) == len(message(RunState(run=RUN))[1])


def test_message_shows_invisible_characters_and_no_markup_of_data() -> None:
    headline = Headline(text="held: *a* \u202e", detail="`x`\x1b[31m _y_ ~z~ :tada:", findings=("<!here> \u2066 *b*",))
    state = state_after(TaskEvent(run=RUN, task="x", state="succeeded", headline=headline), failed("t", "*\u202e`"))
    shown = "\n".join(texts(state))
    assert "\\u202e" in shown
    assert "\\x1b[31m" in shown
    assert not re.search("[\u202e\u2066\x1b]|<!here>|\\*[ab]\\*|_y_|~z~|:tada:", shown)


def test_message_lets_slack_make_no_links() -> None:
    _, blocks = message(state_after(failed("train", "http://evil")))
    objects = [block["text"] for block in blocks if block["type"] == "section"] + blocks[-1]["elements"]
    assert all(entry["verbatim"] is True for entry in objects)
