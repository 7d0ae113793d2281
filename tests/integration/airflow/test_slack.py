"""Slack messages of runs in `airflow standalone`, and of `dag.test()`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from tests.integration.airflow.server import Server, message_in, run_id_of, standalone

from ml_pipelines_airflow.fake_slack import SlackServer

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(900)]

DAGS = '''"""Airflow DAGs without a declaration."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow import SlackRunNotifier, dag_callbacks, task_callbacks


def succeed():
    print("done")


def fail_until(times, ti):
    if ti.try_number <= times:
        raise ConnectionError(f"try {ti.try_number} found\\nno route to <host>")


def reject_odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")


def make_dag(name, **options):
    notifier = SlackRunNotifier(channel=f"#{name}")
    arguments = {"owner": "tests", "retry_delay": timedelta(seconds=1), **task_callbacks(notifier)}
    return DAG(name, schedule=None, default_args=arguments, **dag_callbacks(notifier), **options)


with make_dag("calm") as calm:
    for number in range(12):
        PythonOperator(task_id=f"step_{number}", python_callable=succeed)

with make_dag("stubborn") as stubborn:
    PythonOperator(task_id="train", python_callable=fail_until, op_kwargs={"times": 2}, retries=2)

with make_dag("mapped") as mapped:
    PythonOperator.partial(task_id="train", python_callable=reject_odd, retries=0).expand(
        op_kwargs=[{"number": number} for number in range(3)]
    )

with make_dag("asking") as asking:
    ApprovalOperator(task_id="ask", subject="Ship it?") >> PythonOperator(task_id="ship", python_callable=succeed)

if __name__ == "__main__":
    for dag in (calm, stubborn, mapped):
        dag.test()
'''
NAMES = ("calm", "stubborn", "mapped", "asking")


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    (airflow.root / "dags" / "custom.py").write_text(DAGS)
    with SlackServer() as slack, standalone(airflow, *NAMES, slack=slack, AIRFLOW__CORE__PARALLELISM="4") as running:
        running.unpause(*NAMES)
        yield running


def test_successful_run_has_one_message(server: Server) -> None:
    run = run_id_of(server.trigger("calm"))
    message = server.message("calm", "^🟢 calm succeeded")
    link, facts = message.shown.splitlines()[1].split(" · ", 1)
    assert link.startswith(f"<{server.url}/dags/calm/runs/{run[:10]}")
    assert re.fullmatch(r"owner tests · succeeded in (\d+ min( \d+ s)?|\d+(\.\d)? s)", facts)
    assert (message.edits, message.replies) == (1, [])


def test_recovered_task_ends_green_with_its_errors_as_replies(server: Server) -> None:
    server.trigger("stubborn")
    message = server.message("stubborn", "^🟢 stubborn succeeded")
    assert "*train* recovered on try 3" in message.shown
    first, second = [reply.text for reply in message.replies]
    assert first.startswith("*train* failed on try 1 of 3, retry scheduled · owner tests")
    assert second.startswith("*train* failed on try 2 of 3, retry scheduled · owner tests")
    assert "```\ntry 2 found\nno route to &lt;host&gt;\n```" in second


def test_failed_mapped_task_is_named_with_its_log(server: Server) -> None:
    run = server.trigger("mapped")
    message = server.message("mapped", "^🔴 mapped failed")
    server.until("error", lambda: "ValueError: 1 is odd" in message.shown)
    log = f"{server.url}/dags/mapped/runs/{quote(run_id_of(run))}/tasks/train/mapped/1?try_number=1"
    assert f"*train[1]* failed · owner tests · <{log}|log>" in message.shown
    assert "failed after" in message.shown
    assert "train[0]" not in message.shown


def test_approval_request_links_to_its_page(server: Server) -> None:
    run = server.trigger("asking")
    message = server.message("asking", "^🟡 asking is waiting for approval")
    (page,) = re.findall(r"\*ask\* waits for an answer: Ship it\? · <(\S+)\|answer>", message.shown)
    assert page == f"{server.url}/dags/asking/runs/{quote(run_id_of(run))}/tasks/ask/required_actions"
    assert requests.get(page, timeout=60).ok
    server.await_question(run, "ask")
    server.answer(run, "ask", "Approve")
    server.message("asking", "^🟢 asking succeeded")
    assert re.search(r"^\*ask\*: Approve by \S+", message.shown, re.MULTILINE)


def test_cleared_run_continues_in_its_message(server: Server) -> None:
    before = server.message("mapped")
    body = {"dry_run": False, "only_failed": True, "reset_dag_runs": True, "task_ids": ["train"]}
    server.call("POST", "/dags/mapped/clearTaskInstances", body)
    server.until("another try", lambda: "on try 2 of" in before.shown and before.shown.startswith("🔴 mapped failed\n"))
    assert len(before.replies) == 2


def test_dag_test_sends_the_same_messages(make_airflow: Callable[[], Any]) -> None:
    airflow = make_airflow()
    file = airflow.root / "dags" / "custom.py"
    file.write_text(DAGS)
    with SlackServer() as slack:
        environment = airflow.environment | {"AIRFLOW_CONN_SLACK_API_DEFAULT": slack.connection()}
        process = subprocess.run(
            [sys.executable, str(file)], env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert process.returncode == 0, process.stderr[-3000:]
        shown = {name: message.shown for name in NAMES if (message := message_in(slack.messages, name))}
        assert {name: text.splitlines()[0] for name, text in shown.items()} == {
            "calm": "🟢 calm succeeded",
            "stubborn": "🟢 stubborn succeeded",
            "mapped": "🔴 mapped failed",
        }
        assert "*train* recovered on try 3" in shown["stubborn"]
        assert "`ValueError: 1 is odd`" in shown["mapped"]
        assert "the Slack notification failed" not in process.stdout + process.stderr
