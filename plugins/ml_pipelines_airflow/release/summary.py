"""Describe the result of a deployment: a summary in Markdown and a Slack message."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

import requests

from ml_pipelines.escaping import escape_markdown, escape_slack, visible
from ml_pipelines_airflow.release.rollout import Outcome, RolloutResult
from ml_pipelines_airflow.release.verify import Release

__all__ = ["post_to_slack", "slack_message", "summary", "workflow_run_url"]

log = logging.getLogger(__name__)

SLACK_SECONDS = 10.0
MARKS: dict[Outcome, str] = {"deployed": "✅", "rolled back": "↩️", "broken": "❌"}


def summary(release: Release, result: RolloutResult) -> str:
    """Return the summary of a deployment in Markdown."""
    return "\n".join([*_summary_lines(release, result), ""])


def _summary_lines(release: Release, result: RolloutResult) -> Iterator[str]:
    yield f"## {MARKS[result.outcome]} {_headline(result)}"
    yield ""
    yield escape_markdown(result.verdict.reason) + "."
    if result.after:
        yield f"After the rollback: {escape_markdown(result.after.reason)}."
    yield ""
    yield "| | before | released |"
    yield "|---|---|---|"
    for name, value in result.pins.items():
        yield f"| `{name}` | {_code(result.before.get(name))} | {_code(value)} |"
    yield f"| DAG bundle | | {_code(release.version)} |"
    for fault in result.verdict.faults:
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", fault.text))])
        yield from ("", f"### {escape_markdown(fault.file)}", "", fence, visible(fault.text.strip(), lines=True), fence)


def slack_message(result: RolloutResult, url: str | None) -> str:
    """Return the message in Slack's markup."""
    lines = [f"{MARKS[result.outcome]} *{_headline(result)}*", escape_slack(result.verdict.reason)]
    faults = result.verdict.faults
    lines += [f"`{escape_slack(fault.file)}`: {escape_slack(_last_line(fault.text))}" for fault in faults]
    if result.after and not result.after.served:
        lines.append(f"After the rollback: {escape_slack(result.after.reason)}")
    return "\n".join([*lines, *([f"<{url}|Workflow run>"] if url else [])])


def post_to_slack(webhook: str, text: str) -> bool:
    """Post a message. A failure is logged and raises nothing.

    Args:
        webhook: URL of an incoming webhook. Secret.
        text: text of the message.

    Returns:
        Whether Slack accepted the message.
    """
    try:
        response = requests.post(webhook, json={"text": text}, timeout=SLACK_SECONDS)
        response.raise_for_status()
    # The text of the exception contains the secret URL, so it is not logged.
    except requests.RequestException as exc:
        code = exc.response.status_code if exc.response is not None else "no answer"
        log.warning("the Slack message was not sent: %s, %s", type(exc).__name__, code)
        return False
    if response.content.strip() != b"ok":  # the page of a proxy
        log.warning("the Slack message was not sent: expected the answer ok, got %d bytes", len(response.content))
        return False
    return True


def workflow_run_url(environment: Mapping[str, str]) -> str | None:
    """Return the URL of the current workflow run on GitHub; None outside a workflow."""
    parts = [environment.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    if not all(parts):
        return None
    server, repository, run = parts
    return f"{server}/{repository}/actions/runs/{run}"


def _headline(result: RolloutResult) -> str:
    match result.outcome:
        case "deployed":
            return "Deployed"
        case "rolled back":
            return "Not deployed: rolled back to the previous release"
        case "broken":
            reason = "the rollback failed" if result.after else "no previous release exists"
            return f"Not deployed: {reason}"


def _code(value: str | None) -> str:
    return f"`{value}`" if value else ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
