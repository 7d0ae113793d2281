"""The fake Slack server applies the rules of Slack's API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from ml_pipelines_airflow.fake_slack import Answer, SlackServer

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "hi"}}


def post(url: str, body: dict[str, Any], token: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310  the loopback address
        url,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  as above
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def call(slack: SlackServer, method: str, **body: Any) -> dict[str, Any]:
    _, answer = post(f"{slack.url}{method}", body, slack.token)
    return dict(json.loads(answer))


def test_slack_server_stores_posts_edits_and_replies() -> None:
    with SlackServer() as slack:
        posted = call(slack, "chat.postMessage", channel="#ml", text="one")
        assert (posted["ok"], posted["channel"]) == (True, "CML")
        call(slack, "chat.update", channel="CML", ts=posted["ts"], text="two", blocks=[SECTION])
        call(slack, "chat.postMessage", channel="CML", thread_ts=posted["ts"], text="reply")
        (message,) = slack.messages
        assert (message.text, message.shown, message.edits) == ("two", "hi", 1)
        assert [reply.text for reply in message.replies] == ["reply"]
        assert [len(slack.sent(method)) for method in ("chat.postMessage", "chat.update")] == [2, 1]


@pytest.mark.parametrize(
    ("method", "body", "error"),
    [
        ("chat.postMessage", {"channel": "#ml"}, "no_text"),
        ("chat.postMessage", {"channel": "#ml", "text": "x", "blocks": [SECTION] * 51}, "invalid_blocks"),
        (
            "chat.postMessage",
            {"channel": "#ml", "text": "x", "blocks": [{"type": "section", "text": {"text": "x" * 3001}}]},
            "invalid_blocks",
        ),
        ("chat.postMessage", {"channel": "#ml", "text": "x" * 40_001}, "msg_too_long"),
        ("chat.postMessage", {"channel": "#other", "text": "x"}, "channel_not_found"),
        ("chat.update", {"channel": "#ml", "ts": "1.1", "text": "x"}, "channel_not_found"),
        ("chat.update", {"channel": "CML", "ts": "1.1", "text": "x"}, "message_not_found"),
        ("chat.shout", {}, "unknown_method"),
    ],
)
def test_slack_server_refuses_invalid_requests(method: str, body: dict[str, Any], error: str) -> None:
    with SlackServer() as slack:
        slack.channels = {"#ml", "CML"}
        assert call(slack, method, **body) == {"ok": False, "error": error}
        assert slack.messages == []


def test_slack_server_checks_token_and_webhook() -> None:
    with SlackServer() as slack:
        _, answer = post(f"{slack.url}chat.postMessage", {"channel": "#ml", "text": "x"}, "another")
        assert json.loads(answer)["error"] == "invalid_auth"
        connection = json.loads(slack.webhook())
        assert post(f"{connection['host']}/{connection['password']}", {"text": "x"}) == (200, "ok")
        assert post(f"{connection['host']}/wrong", {"text": "x"})[0] == 403
        assert [message.channel for message in slack.messages] == ["webhook"]


def test_slack_server_simulates_errors_and_rate_limits() -> None:
    with SlackServer(limit_per_second=1) as slack:
        slack.next.append(Answer(status=503))
        url, body = f"{slack.url}chat.postMessage", {"channel": "#ml", "text": "x"}
        assert post(url, body, slack.token)[0] == 503
        assert post(url, body, slack.token)[0] == 200
        status, headers = post(url, body, slack.token)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert [call.status for call in slack.calls] == [503, 200, 429]
