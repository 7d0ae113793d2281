"""Mails, sent to a real SMTP server."""

from __future__ import annotations

import email
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from ml_pipelines_airflow.notifications.email import email_callback

pytestmark = pytest.mark.timeout(120)


class Inbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  named by aiosmtpd
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content)))
        return "250 OK"


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    handler = Inbox()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "extra": {"from_email": "airflow@example.com", "disable_ssl": True, "disable_tls": True},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    yield handler.mails
    controller.stop()


def context(task_id: str) -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id="churn",
        task_id=task_id,
        run_id="r1",
        map_index=-1,
        try_number=1,
        max_tries=2,
        state="failed",
        log_url="http://airflow/log",
        hostname="worker",
        mark_success_url="http://airflow/mark",
    )
    return {"ti": ti, "exception": ValueError("boom"), "exception_html": "boom"}


def test_email_callback_sends_a_mail_of_its_own_for_each_task(mails: list[Any]) -> None:
    send = email_callback(["a@example.com", "b@example.com"])
    send(context("train"))
    send(context("deploy"))
    assert [to for to, _ in mails] == [["a@example.com", "b@example.com"]] * 2
    texts = [f"{mail['Subject']} {mail.get_payload()[0].get_payload(decode=True).decode()}" for _, mail in mails]
    assert ["train" in texts[0], "deploy" in texts[0]] == [True, False]
    assert ["train" in texts[1], "deploy" in texts[1]] == [False, True]


def test_email_callback_logs_one_warning_without_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    email_callback(["a@example.com"])(context("train"))
    (record,) = caplog.records
    for fact in ("a@example.com", "SMTP connection is not found", "smtp_default"):
        assert fact in record.message


def test_email_callback_does_not_raise_if_the_server_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": 9, "extra": {"disable_ssl": True, "retry_limit": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    email_callback(["a@example.com"])(context("train"))
    (record,) = caplog.records
    assert "a@example.com" in record.message
