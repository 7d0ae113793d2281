from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from ml_pipelines_airflow.release.airflow_client import DagImportError
from ml_pipelines_airflow.release.rollout import RolloutResult
from ml_pipelines_airflow.release.summary import post_to_slack, slack_message, summary, workflow_run_url
from ml_pipelines_airflow.release.verify import Release, Verification
from ml_pipelines_airflow.testing import Answer, SlackServer

RELEASE = Release(version="2-b", dags=("churn",))
PINS, BEFORE = {"IMAGE": "r/a@sha256:new"}, {"IMAGE": "r/a@sha256:old"}
FAULT = DagImportError("churn.py", "10:00", 'Traceback\n  File "churn.py"\nKeyError: <"A"> & more\n')
BROKEN = Verification(False, "Airflow can't import churn.py", (FAULT,))
DEPLOYED = RolloutResult("deployed", PINS, BEFORE, Verification(True, "Airflow serves version 2-b with churn"))
BACK = RolloutResult("rolled back", PINS, BEFORE, BROKEN, Verification(True, "Airflow serves version 1-a with churn"))


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


@pytest.fixture
def webhook(slack: SlackServer) -> str:
    given = json.loads(slack.webhook())
    return f"{given['host']}/{given['password']}"


def test_the_summary_of_a_deployment() -> None:
    assert summary(RELEASE, DEPLOYED) == (
        "## ✅ Deployed\n\n"
        "Airflow serves version 2-b with churn.\n\n"
        "| | before | released |\n|---|---|---|\n"
        "| `IMAGE` | `r/a@sha256:old` | `r/a@sha256:new` |\n"
        "| DAG bundle | | `2-b` |\n"
    )


def test_the_summary_of_a_rollback_shows_what_python_said() -> None:
    text = summary(RELEASE, BACK)
    assert text.startswith("## ↩️ Not deployed: rolled back, and what was there before is served again\n")
    assert "After the rollback: Airflow serves version 1-a with churn." in text
    assert '### churn.py\n\n```\nTraceback\n  File "churn.py"\nKeyError: <"A"> & more\n```\n' in text


def test_a_fence_is_longer_than_what_is_in_it() -> None:
    verdict = Verification(False, "no", (DagImportError("a.py", "", "````\n# not a title"),))
    assert "\n`````\n````\n# not a title\n`````\n" in summary(RELEASE, RolloutResult("broken", PINS, {}, verdict))


@pytest.mark.parametrize(
    ("after", "headline"),
    [
        (None, "Not deployed, and there was nothing to roll back to"),
        (BROKEN, "Not deployed, and the rollback has failed too"),
    ],
    ids=["nothing before", "failed"],
)
def test_what_stays_broken_says_why(after: Verification | None, headline: str) -> None:
    done = RolloutResult("broken", PINS, {}, BROKEN, after)
    assert f"❌ {headline}" in summary(RELEASE, done)
    assert f"❌ *{headline}*" in slack_message(done, None)


def test_slack_is_told_the_last_line_and_where_to_read_on() -> None:
    assert slack_message(BACK, "http://ci/runs/1") == (
        "↩️ *Not deployed: rolled back, and what was there before is served again*\n"
        "Airflow can't import churn.py\n"
        '`churn.py`: KeyError: &lt;"A"&gt; &amp; more\n'
        "<http://ci/runs/1|How it went>"
    )


def test_slack_takes_the_message(slack: SlackServer, webhook: str) -> None:
    assert post_to_slack(webhook, "Deployed")
    assert [message.shown for message in slack.messages] == ["Deployed"]


def test_slack_that_does_not_take_it_is_logged_without_its_address(
    slack: SlackServer, webhook: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    slack.always = Answer(status=500)
    assert not post_to_slack(webhook, "Deployed")
    assert caplog.messages == ["Slack was not told: HTTPError, 500"]


def test_slack_that_is_away_is_logged_without_its_address(caplog: pytest.LogCaptureFixture) -> None:
    assert not post_to_slack("http://127.0.0.1:1/services/T/B/secret", "Deployed")
    assert caplog.messages == ["Slack was not told: ConnectionError, no answer"]


def test_a_webhook_that_is_no_address_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert not post_to_slack("secret", "Deployed")
    assert caplog.messages == ["Slack was not told: MissingSchema, no answer"]


def test_where_github_shows_the_run() -> None:
    given = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/ml", "GITHUB_RUN_ID": "7"}
    assert workflow_run_url(given) == "https://github.com/acme/ml/actions/runs/7"
    assert workflow_run_url({"GITHUB_RUN_ID": "7"}) is None
