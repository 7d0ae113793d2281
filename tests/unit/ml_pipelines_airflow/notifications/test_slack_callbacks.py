"""Messages of runs in a Slack channel, and the behaviour under errors of Slack."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator

from ml_pipelines_airflow.fake_slack import Answer, SlackServer
from ml_pipelines_airflow.notifications import slack_delivery
from ml_pipelines_airflow.notifications.events import Destination, Headline, LateTask
from ml_pipelines_airflow.notifications.slack_callbacks import dag_callbacks, notify_late_tasks, task_callbacks

TWELVE = [f"step_{number}" for number in range(12)]
DESTINATION = Destination("slack_api_default", "#ml")

pytestmark = pytest.mark.timeout(120)


def test_notifier_posts_one_message_per_run_and_edits_it_at_the_end(slack: SlackServer, run: Any) -> None:
    for task in TWELVE:
        run.start(task)
        run.succeed(task)
    assert [message.shown.splitlines()[0] for message in slack.messages] == ["🔵 churn is running"]
    run.end()
    (message,) = slack.messages
    assert message.channel == "CML"
    assert message.shown == (
        "🟢 churn succeeded\n"
        "<http://airflow/dags/churn/runs/manual__1|manual__1> · owner data-science · succeeded in 3 min 12 s"
    )
    assert message.text == "🟢 churn succeeded"
    assert (message.edits, message.replies) == (1, [])
    assert [call.method for call in slack.calls] == ["chat.postMessage", "chat.update"]


def test_notifier_shows_retries_and_the_recovery(slack: SlackServer, run: Any) -> None:
    run.start("train")
    run.retry("train", error=ConnectionError("no route"))
    (message,) = slack.messages
    assert message.shown.splitlines()[:3] == [
        "🟡 churn is retrying",
        "*train* retrying, 2 of 3 · owner data-science · <http://airflow/log/train/1|log>",
        "`ConnectionError: no route`",
    ]
    run.start("train", try_number=2)
    run.retry("train", try_number=2)
    assert "*train* retrying, 3 of 3" in message.shown
    run.start("train", try_number=3)
    assert "*train* is on try 3" in message.shown
    run.succeed("train", try_number=3)
    assert message.shown.splitlines()[:2] == [
        "🔵 churn is running",
        "*train* recovered on try 3 · <http://airflow/log/train/3|log>",
    ]
    run.end()
    assert message.shown.startswith("🟢 churn succeeded\n*train* recovered on try 3")
    assert slack.messages == [message]
    assert [reply.text for reply in message.replies] == [
        "*train* failed on try 1 of 3, retry scheduled · owner data-science · "
        "<http://airflow/log/train/1|log>\n```\nConnectionError: no route\n```",
        "*train* failed on try 2 of 3, retry scheduled · owner data-science · "
        "<http://airflow/log/train/2|log>\n```\nRuntimeError: try again\n```",
    ]


def test_notifier_shows_a_failure_with_error_log_and_owner(slack: SlackServer, run: Any) -> None:
    run.start("train")
    run.fail("train", error=ValueError("first line\nthe last <line> & `tick`"))
    (message,) = slack.messages
    assert message.shown.splitlines()[:3] == [
        "🔴 churn has failures and is still running",
        "*train* failed on try 3 of 3 · owner data-science · <http://airflow/log/train/3|log>",
        "`ValueError: the last &lt;line&gt; &amp; 'tick'`",
    ]
    run.end("failed", seconds=61)
    assert message.shown.splitlines()[0] == "🔴 churn failed"
    assert message.shown.splitlines()[-1].endswith("failed after 1 min 1 s")
    assert "first line\nthe last" in message.replies[0].text
    assert len(message.replies) == 1


def test_notifier_distinguishes_mapped_tasks(slack: SlackServer, run: Any) -> None:
    run.fail("train[0]", error=ValueError("zero"))
    run.retry("train[2]", error=ValueError("two"))
    (message,) = slack.messages
    assert "*train[0]* failed" in message.shown
    assert "*train[2]* retrying, 2 of 3" in message.shown
    assert [reply.text.split(" failed")[0] for reply in message.replies] == ["*train[0]*", "*train[2]*"]


def test_notifier_reports_a_killed_task_without_state_and_exception(slack: SlackServer, run: Any) -> None:
    run.report("train", None, try_number=1)
    assert "retrying, 2 of 3" in slack.messages[0].shown
    run.report("train", None, try_number=3)
    assert "no exception was reported; its process may have been killed" in slack.messages[0].shown
    assert slack.messages[0].shown.startswith("🔴")


def test_notifier_adds_a_late_failure_to_an_ended_run(slack: SlackServer, run: Any) -> None:
    run.start("train")
    run.end("failed")
    run.fail("train")
    (message,) = slack.messages
    assert message.shown.startswith("🔴 churn failed\n*train* failed on try 3 of 3")


def test_notifier_continues_the_message_of_a_cleared_run(slack: SlackServer, run: Any) -> None:
    run.start("train")
    run.fail("train")
    run.end("failed")
    run.clear()
    run.start("train", try_number=4)
    (message,) = slack.messages
    assert message.shown.startswith("🔵 churn is running\n*train* is on try 4")
    run.succeed("train", try_number=4)
    run.end()
    assert message.shown.startswith("🟢 churn succeeded\n*train* recovered on try 4")
    assert slack.messages == [message]


def test_notifier_sends_a_repeated_event_once(slack: SlackServer, run: Any) -> None:
    run.retry("train")
    run.retry("train")
    run.fail("train")
    run.fail("train")
    run.end("failed")
    calls = len(slack.calls)
    run.end("failed")
    assert len(slack.calls) == calls
    assert len(slack.messages[0].replies) == 2


def approval() -> ApprovalOperator:
    return ApprovalOperator(task_id="ask", subject="Ship the new <model>?", owner="data-science")


def test_notifier_links_to_the_question_of_an_approval(slack: SlackServer, run: Any) -> None:
    run.start("ask", operator=approval())
    (message,) = slack.messages
    assert message.shown.splitlines()[:2] == [
        "🟡 churn is waiting for approval",
        "*ask* waits for an answer: Ship the new &lt;model&gt;? · "
        "<http://airflow/dags/churn/runs/manual__1/tasks/ask/required_actions|answer>",
    ]
    run.start("ask", operator=approval())  # Airflow starts the task again for the answer
    answer = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ann"}}
    run.succeed("ask", operator=approval(), xcom_pull=lambda **_: answer)
    assert message.shown.splitlines()[:2] == ["🔵 churn is running", "*ask*: Approve by ann"]
    assert message.edits == 1


def test_notifier_shows_the_headline_of_a_success(slack: SlackServer, make_run: Callable[..., Any]) -> None:
    def decided(context: Any) -> Headline | None:
        if context["ti"].task_id != "record":
            return None
        return Headline(text="promoted v18 of churn-model", detail="all rules passed", facts="roc_auc 0.91", good=True)

    run = make_run(headline=decided)
    run.start("train")
    run.succeed("train")
    run.succeed("record")
    run.end()
    (message,) = slack.messages
    assert message.shown.splitlines()[:3] == ["🟢 churn succeeded", "*promoted v18 of churn-model*", "roc_auc 0.91"]
    assert message.text == "🟢 churn succeeded: *promoted v18 of churn-model*"
    assert [reply.text for reply in message.replies] == ["*promoted v18 of churn-model*\nall rules passed"]


def test_notifier_ignores_an_error_of_the_headline_function(
    slack: SlackServer, make_run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(context: Any) -> Headline | None:
        raise KeyError("no such XCom")

    run = make_run(headline=broken)
    run.retry("train")
    run.succeed("train", try_number=2)
    assert "*train* recovered on try 2" in slack.messages[0].shown
    assert "the headline function failed" in caplog.text


def late(run: Any, *tasks: str) -> list[LateTask]:
    due = run.dag_run.start_date + timedelta(minutes=5)
    return [
        LateTask(task=task, state="running", due=due, seen=due, sla_seconds=300, cause="ingest took 4 min")
        for task in tasks
    ]


def test_notify_late_tasks_edits_the_message_of_the_run(slack: SlackServer, run: Any) -> None:
    run.start("train")
    dag_run = {"dag_id": "churn", "dag_run_id": "manual__1", "state": "running"}
    notify_late_tasks(DESTINATION, run=dag_run, late=late(run, "train", "deploy"))
    (message,) = slack.messages
    assert message.shown.splitlines()[:3] == [
        "🟡 churn is running, late",
        "*deploy* late (running), due 2026-11-22 10:05 UTC, SLA 5 min: ingest took 4 min",
        "*train* late (running), due 2026-11-22 10:05 UTC, SLA 5 min: ingest took 4 min",
    ]
    run.end(seconds=1800)
    assert message.shown.startswith("🟢 churn succeeded")
    assert "finished 25 min after its SLA" in message.shown
    notify_late_tasks(DESTINATION, run=dag_run, late=[])
    assert len(slack.calls) == 2 + 1


def test_webhook_posts_the_first_failure_and_the_end(slack: SlackServer, make_run: Callable[..., Any]) -> None:
    run = make_run(slack_conn_id="slack_hook", channel="")
    run.start("train")
    run.retry("train")
    assert slack.messages == []
    run.fail("train", error=ValueError("boom"))
    run.fail("deploy", error=ValueError("bang"))
    run.end("failed")
    run.end("failed")
    first, last = slack.messages
    assert first.shown.startswith("🔴 churn has failures and is still running")
    assert "```\nValueError: boom\n```" in first.shown
    assert last.shown.startswith("🔴 churn failed")
    assert "*deploy* failed" in last.shown


def test_webhook_posts_late_tasks_and_a_later_failure(slack: SlackServer, make_run: Callable[..., Any]) -> None:
    run = make_run(slack_conn_id="slack_hook")
    dag_run = {"dag_id": "churn", "dag_run_id": "manual__1"}
    notify_late_tasks(run.notifier.destination, run=dag_run, late=late(run, "train"))
    run.fail("train")
    run.fail("deploy")
    assert [message.text.split(":")[0] for message in slack.messages] == [
        "🟡 churn is running, late",
        "🔴 churn has failures and is still running, late",
    ]


def test_webhook_posts_a_success(slack: SlackServer, make_run: Callable[..., Any]) -> None:
    run = make_run(slack_conn_id="slack_hook")
    for task in TWELVE:
        run.start(task)
        run.succeed(task)
    run.end()
    assert [message.text for message in slack.messages] == ["🟢 churn succeeded"]


def test_notifier_logs_one_warning_without_a_connection(
    slack: SlackServer, make_run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(slack_conn_id="nowhere")
    for task in TWELVE:
        run.start(task)
        run.fail(task)
    run.end("failed")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'nowhere'" in record.message
    assert "create it in Airflow (type Slack API, the bot's token as its password)" in record.message


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("invalid_auth", "put a valid bot token (xoxb-...) into its password"),
        ("channel_not_found", "correct the channel"),
        ("not_in_channel", "/invite the bot to the channel"),
        ("missing_scope", "give the Slack app the scope chat:write"),
        ("msg_blocked", "msg_blocked"),
    ],
)
def test_notifier_logs_a_refusal_once_with_its_fix(
    slack: SlackServer, run: Any, caplog: pytest.LogCaptureFixture, error: str, advice: str
) -> None:
    slack.always = Answer(error=error)
    for task in TWELVE:
        run.start(task)
    run.end()
    (record,) = caplog.records
    assert advice in record.message
    assert "'slack_api_default'" in record.message
    assert "'#ml'" in record.message
    assert slack.token not in caplog.text
    # The start, and the end.
    assert len(slack.calls) == 2
    slack.always = None
    run.end(seconds=300)
    assert slack.messages[0].text == "🟢 churn succeeded"


def test_server_refuses_an_unknown_channel_and_a_wrong_token(
    slack: SlackServer, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    slack.channels = {"#other"}
    run.start("train")
    assert "(channel_not_found)" in caplog.text
    slack.token = "xoxb-another"
    run.end()
    assert [call.error for call in slack.calls] == ["channel_not_found", "invalid_auth"]


def test_notifier_replaces_a_deleted_message(slack: SlackServer, run: Any) -> None:
    run.start("train")
    slack.delete(slack.messages[0])
    run.end()
    assert [message.text for message in slack.messages] == ["🟢 churn succeeded"]
    assert [call.error for call in slack.calls] == ["", "message_not_found", ""]


def test_notifier_waits_for_a_rate_limit_at_the_end_of_a_run(slack: SlackServer, run: Any) -> None:
    run.start("train")
    slack.next.extend([Answer(status=429, retry_after=1)])
    run.end()
    assert slack.messages[0].text == "🟢 churn succeeded"
    assert [call.status for call in slack.calls] == [200, 429, 200]


def test_notifier_delivers_a_rate_limited_edit_with_the_next_event(slack: SlackServer, run: Any) -> None:
    run.start("train")
    slack.next.extend([Answer(status=429, retry_after=20)])
    run.retry("train")
    assert "retrying" not in slack.messages[0].shown
    run.start("other")  # no change
    run.retry("other")
    assert "*train* retrying" in slack.messages[0].shown
    assert "*other* retrying" in slack.messages[0].shown


def test_notifier_retries_after_server_errors(slack: SlackServer, run: Any) -> None:
    slack.next.extend([Answer(status=503)])
    run.start("train")
    slack.next.extend([Answer(status=500), Answer(status=503)])
    run.end()
    assert slack.messages[0].text == "🟢 churn succeeded"
    assert [call.status for call in slack.calls] == [503, 200, 500, 503, 200]


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api/"


def refused() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/api/"


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the seconds of every wait for a connection, an answer or a pause."""
    waited: list[float] = []

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **options: Any) -> Any:
            started = time.monotonic()
            try:
                return call(*arguments, **options)
            finally:
                waited.append(time.monotonic() - started)

        return measured

    for owner, name in ((socket.socket, "connect"), (socket.socket, "recv_into"), (time, "sleep")):
        monkeypatch.setattr(owner, name, timed(getattr(owner, name)))
    return waited


@pytest.mark.parametrize("kind", ["refused", "black hole"])
@pytest.mark.parametrize("state", ["success", "failed"])
def test_notifier_waits_at_most_five_seconds_per_run_without_slack(
    kind: str, state: str, run: Any, black_hole: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = refused() if kind == "refused" else black_hole
    monkeypatch.setenv(
        "AIRFLOW_CONN_SLACK_API_DEFAULT",
        f'{{"conn_type": "slack", "password": "xoxb-nowhere", "extra": {{"base_url": "{url}"}}}}',
    )
    importlib.import_module("airflow.providers.slack.hooks.slack")  # is not what is measured
    waited = waits(monkeypatch)
    for task in TWELVE:
        run.start(task)
        run.retry(task)
        run.start(task, try_number=2)
        run.fail(task) if state == "failed" else run.succeed(task, try_number=2)
    run.end(state)
    assert 0 < sum(waited) < 5
    (record,) = caplog.records
    assert record.message.startswith("Slack can't be reached by connection 'slack_api_default'")


def test_notifier_does_not_wait_for_another_sending_process(slack: SlackServer, make_run: Callable[..., Any]) -> None:
    run = make_run()
    run.start("train")
    slack.next.extend([Answer(status=429, retry_after=4)])
    sending = threading.Thread(target=run.fail, args=("train",))
    sending.start()
    while len(slack.calls) < 2:
        time.sleep(0.01)
    make_run().fail("deploy")
    assert sending.is_alive()
    sending.join()
    assert "*train* failed" in slack.messages[0].shown
    assert "*deploy* failed" in slack.messages[0].shown
    assert len(slack.messages) == 1


def some_runs(make_run: Callable[..., Any], numbers: range) -> None:
    runs = {number: make_run(f"run_{number}") for number in numbers}
    for run in runs.values():
        run.start("train")
    for number, run in runs.items():
        run.end("failed" if number % 2 else "success")


def test_notifier_delivers_all_ends_of_a_hundred_runs_under_a_rate_limit(
    slack: SlackServer, make_run: Callable[..., Any], store: Path
) -> None:
    slack.limit_per_second = 10
    # Forked: processes that import Airflow would measure that.
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=some_runs, args=(make_run, range(item, 100, 20))) for item in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 20
    assert any(call.status == 429 for call in slack.calls)
    ends = ("🟢 churn succeeded", "🔴 churn failed")
    # On a busy machine a start that Slack answers too late is posted twice; an end is posted once in any case.
    sent = [message for message in slack.messages if message.text in ends]
    shown = sorted((message.shown.split("|")[1].split(">")[0], message.text) for message in sent)
    assert shown == sorted((f"run_{number}", ends[number % 2]) for number in range(100))
    assert not list((store / "pending").rglob("*.json"))


def test_notifier_posts_one_message_for_parallel_processes(
    slack: SlackServer, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine answers too late for the usual limit, and a late reply is sent again.
    monkeypatch.setattr(slack_delivery, "REPLY_POLICY", replace(slack_delivery.REPLY_POLICY, unanswered=30.0))
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=make_run().fail, args=(f"train[{number}]",)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    (message,) = slack.messages
    assert [f"*train[{number}]* failed" in message.shown for number in range(8)] == [True] * 8
    assert len(message.replies) == 8


def test_notifier_delivers_pending_ends_of_other_runs(slack: SlackServer, make_run: Callable[..., Any]) -> None:
    slack.always = Answer(error="invalid_auth")
    for number in range(3):
        make_run(f"lost_{number}").end("failed")
    assert slack.messages == []
    slack.always = None
    make_run("next").start("train")
    assert sorted(message.text for message in slack.messages) == ["🔴 churn failed"] * 3 + ["🔵 churn is running"]
    calls = len(slack.calls)
    make_run("next").fail("train")
    assert len(slack.calls) == calls + 2  # the edit and its reply: nothing is told twice


def test_notifier_posts_failures_and_ends_without_a_store(
    slack: SlackServer,
    make_run: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", f"file://{tmp_path}/file/store")
    run = make_run("no-store")
    run.start("train")
    run.fail("train")
    run.end("failed")
    assert [message.text.split(":")[0] for message in slack.messages] == [
        "🔴 churn has failures and is still running",
        "🔴 churn failed",
    ]
    (record,) = caplog.records
    assert "the store can't be used" in record.message


def test_notifier_masks_secrets(slack: SlackServer, run: Any) -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("hunter2-and-more")
    run.fail("train", error=ValueError("login with hunter2-and-more failed"))
    sent = str([call.body for call in slack.calls])
    assert "login with *** failed" in sent
    assert "hunter2" not in sent


def test_notifier_does_not_raise(slack: SlackServer, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    run.notifier({"ti": SimpleNamespace()})
    assert "the Slack notification failed" in caplog.text


def test_task_callbacks_and_dag_callbacks_use_one_notifier(run: Any) -> None:
    assert task_callbacks(run.notifier) == {
        "on_execute_callback": run.notifier,
        "on_retry_callback": run.notifier,
        "on_failure_callback": run.notifier,
        "on_success_callback": run.notifier,
        "on_skipped_callback": run.notifier,
    }
    assert dag_callbacks(run.notifier) == {"on_success_callback": run.notifier, "on_failure_callback": run.notifier}
