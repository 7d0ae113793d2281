from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from ml_pipelines_airflow.fake_slack import Answer, SlackServer
from ml_pipelines_airflow.release.airflow_client import DagImportError
from ml_pipelines_airflow.release.rollout import RolloutResult
from ml_pipelines_airflow.release.summary import post_to_slack, slack_message, summary, workflow_run_url
from ml_pipelines_airflow.release.verify import Release, Verification

RELEASE = Release(version="2-b", dags=("churn",))
PINS, BEFORE = {"IMAGE": "r/a@sha256:new"}, {"IMAGE": "r/a@sha256:old"}
FAULT = DagImportError("churn.py", "10:00", 'Traceback\n  File "churn.py"\nKeyError: <"A"> & more\n')
BROKEN = Verification(False, "Airflow cannot import churn.py", (FAULT,))
DEPLOYED = RolloutResult("deployed", PINS, BEFORE, Verification(True, "Airflow serves version 2-b with churn"))
BACK = RolloutResult("rolled back", PINS, BEFORE, BROKEN, Verification(True, "Airflow serves version 1-a with churn"))


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


@pytest.fixture
def webhook(slack: SlackServer) -> str:
    values = json.loads(slack.webhook())
    return f"{values['host']}/{values['password']}"


def test_summary_of_a_deployment() -> None:
    assert summary(RELEASE, DEPLOYED) == (
        "## ✅ Deployed\n\n"
        "Airflow serves version 2-b with churn.\n\n"
        "| | before | released |\n|---|---|---|\n"
        "| `IMAGE` | `r/a@sha256:old` | `r/a@sha256:new` |\n"
        "| DAG bundle | | `2-b` |\n"
    )


def test_summary_of_a_rollback_contains_the_traceback() -> None:
    text = summary(RELEASE, BACK)
    assert text.startswith("## ↩️ Not deployed: rolled back to the previous release\n")
    assert "After the rollback: Airflow serves version 1-a with churn." in text
    assert '### churn.py\n\n```\nTraceback\n  File "churn.py"\nKeyError: <"A"> & more\n```\n' in text


def test_fence_is_longer_than_fences_in_the_traceback() -> None:
    verdict = Verification(False, "no", (DagImportError("a.py", "", "````\n# not a title"),))
    assert "\n`````\n````\n# not a title\n`````\n" in summary(RELEASE, RolloutResult("broken", PINS, {}, verdict))


@pytest.mark.parametrize(
    ("after", "headline"),
    [
        (None, "Not deployed: no previous release exists"),
        (BROKEN, "Not deployed: the rollback failed"),
    ],
    ids=["nothing before", "failed"],
)
def test_summary_states_why_the_rollback_failed(after: Verification | None, headline: str) -> None:
    done = RolloutResult("broken", PINS, {}, BROKEN, after)
    assert f"❌ {headline}" in summary(RELEASE, done)
    assert f"❌ *{headline}*" in slack_message(done, None)


def test_slack_message_has_the_last_line_and_the_workflow_run() -> None:
    assert slack_message(BACK, "http://ci/runs/1") == (
        "↩️ *Not deployed: rolled back to the previous release*\n"
        "Airflow cannot import churn.py\n"
        '`churn.py`: KeyError: &lt;"A"&gt; &amp; more\n'
        "<http://ci/runs/1|Workflow run>"
    )


def test_post_to_slack_sends_the_message(slack: SlackServer, webhook: str) -> None:
    assert post_to_slack(webhook, "Deployed")
    assert [message.shown for message in slack.messages] == ["Deployed"]


def test_rejected_slack_message_is_logged_without_the_webhook(
    slack: SlackServer, webhook: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    slack.always = Answer(status=500)
    assert not post_to_slack(webhook, "Deployed")
    assert caplog.messages == ["the Slack message was not sent: HTTPError, 500"]


def test_unavailable_slack_is_logged_without_the_webhook(caplog: pytest.LogCaptureFixture) -> None:
    assert not post_to_slack("http://127.0.0.1:1/services/T/B/secret", "Deployed")
    assert caplog.messages == ["the Slack message was not sent: ConnectionError, no answer"]


def test_invalid_webhook_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert not post_to_slack("secret", "Deployed")
    assert caplog.messages == ["the Slack message was not sent: MissingSchema, no answer"]


def test_workflow_run_url_of_github() -> None:
    values = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/ml", "GITHUB_RUN_ID": "7"}
    assert workflow_run_url(values) == "https://github.com/acme/ml/actions/runs/7"
    assert workflow_run_url({"GITHUB_RUN_ID": "7"}) is None
