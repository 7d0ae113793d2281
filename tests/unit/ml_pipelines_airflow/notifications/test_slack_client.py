"""Requests to the fake Slack server, with retries and time limits."""

from __future__ import annotations

import pytest

from ml_pipelines_airflow.fake_slack import Answer, SlackServer
from ml_pipelines_airflow.notifications.events import Destination
from ml_pipelines_airflow.notifications.slack_client import (
    RetryPolicy,
    SlackClient,
    SlackResult,
    TimeLimit,
    connect,
    error_text,
)

DESTINATION = Destination("slack_api_default", "#ml")
POLICY = RetryPolicy(rate_limited=3.0, unanswered=2.0)
BODY = {"channel": "#ml", "text": "hello"}


@pytest.fixture
def client(slack: SlackServer) -> SlackClient:
    client = connect(DESTINATION)
    assert isinstance(client, SlackClient)
    return client


def test_call_returns_slacks_answer(slack: SlackServer, client: SlackClient) -> None:
    result = client.call("chat.postMessage", BODY, POLICY)
    assert result.ok
    assert result.data["channel"] == "CML"


@pytest.mark.parametrize("status", [500, 503])
def test_call_retries_after_a_server_error(slack: SlackServer, client: SlackClient, status: int) -> None:
    slack.next.extend([Answer(status=status)])
    assert client.call("chat.postMessage", BODY, POLICY).ok
    assert [call.status for call in slack.calls] == [status, 200]


def test_call_retries_after_a_rate_limit_within_the_policy(slack: SlackServer, client: SlackClient) -> None:
    slack.next.extend([Answer(status=429, retry_after=1)])
    assert client.call("chat.postMessage", BODY, POLICY).ok
    assert [call.status for call in slack.calls] == [429, 200]


def test_call_does_not_wait_for_a_rate_limit_above_the_policy(slack: SlackServer, client: SlackClient) -> None:
    slack.next.extend([Answer(status=429, retry_after=3)])
    result = client.call("chat.postMessage", BODY, POLICY)
    assert (result.ok, result.rate_limited) == (False, True)
    assert len(slack.calls) == 1


def test_call_stops_at_the_time_limit(slack: SlackServer, client: SlackClient) -> None:
    slack.always = Answer(status=503)
    result = client.call("chat.postMessage", BODY, RetryPolicy(rate_limited=0.0, unanswered=1.2))
    assert result.unanswered
    assert 1 < len(slack.calls) <= 3


def test_call_does_not_retry_a_refusal(slack: SlackServer, client: SlackClient) -> None:
    slack.always = Answer(error="invalid_auth")
    assert client.call("chat.postMessage", BODY, POLICY).error == "invalid_auth"
    assert len(slack.calls) == 1


def test_time_limit_sets_timeout_and_handlers(slack: SlackServer, client: SlackClient) -> None:
    limit = TimeLimit(client.client, RetryPolicy(rate_limited=2.0, unanswered=1.0))
    assert client.client.timeout == 1.0
    assert len(client.client.retry_handlers) == 3
    assert limit.allows_retry(0.1)
    assert not limit.allows_retry(1.0)
    assert limit.allows_rate_limit_pause(1.5)
    assert not limit.allows_rate_limit_pause(1.5)


def test_connect_returns_a_webhook_client_that_cannot_edit(slack: SlackServer) -> None:
    client = connect(Destination("slack_hook", ""))
    assert isinstance(client, SlackClient)
    assert not client.can_edit


def test_connect_requires_a_channel_for_a_bot(slack: SlackServer) -> None:
    assert "channel" in str(connect(Destination("slack_api_default", "")))


@pytest.mark.parametrize(
    ("result", "fact"),
    [
        (SlackResult(429, "ratelimited"), "no more messages"),
        (SlackResult(0, "URLError: refused"), "URLError: refused"),
        (SlackResult(502), "status 502"),
        (SlackResult(200, "not_in_channel"), "/invite the bot"),
        (SlackResult(200, "msg_blocked"), "msg_blocked"),
    ],
)
def test_error_text_names_connection_and_cause(result: SlackResult, fact: str) -> None:
    text = error_text(result, DESTINATION)
    assert fact in text
    assert "slack_api_default" in text
