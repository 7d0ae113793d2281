"""What a rollout tells people: a summary in Markdown, and a message in Slack."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

import requests

from ml_pipelines_airflow.release.rollout import Outcome, RolloutResult
from ml_pipelines_airflow.release.verify import Release

__all__ = ["post_to_slack", "slack_message", "summary", "workflow_run_url"]

log = logging.getLogger(__name__)

SLACK_SECONDS = 10.0
MARKS: dict[Outcome, str] = {"deployed": "✅", "rolled back": "↩️", "broken": "❌"}


def summary(release: Release, done: RolloutResult) -> str:
    """The whole story, in Markdown."""
    return "\n".join([*_story(release, done), ""])


def _story(release: Release, done: RolloutResult) -> Iterator[str]:
    yield f"## {MARKS[done.outcome]} {_headline(done)}"
    yield ""
    yield done.verdict.reason + "."
    if done.after:
        yield f"After the rollback: {done.after.reason}."
    yield ""
    yield "| | before | released |"
    yield "|---|---|---|"
    for name, value in done.pins.items():
        yield f"| `{name}` | {_code(done.before.get(name))} | {_code(value)} |"
    yield f"| DAG bundle | | {_code(release.version)} |"
    for fault in done.verdict.faults:
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", fault.text))])
        yield from ("", f"### {fault.file}", "", fence, fault.text.strip(), fence)


def slack_message(done: RolloutResult, url: str | None) -> str:
    """A few lines in Slack's own markup."""
    lines = [f"{MARKS[done.outcome]} *{_headline(done)}*", done.verdict.reason]
    lines += [f"`{fault.file}`: {_last_line(fault.text)}" for fault in done.verdict.faults]
    if done.after and not done.after.served:
        lines.append(f"After the rollback: {done.after.reason}")
    return "\n".join([*map(_escaped, lines), *([f"<{url}|How it went>"] if url else [])])


def post_to_slack(webhook: str, text: str) -> bool:
    """Post a message; that Slack does not take it is logged, and changes nothing.

    Args:
        webhook: address of an incoming webhook, which is a secret.
        text: of the message.

    Returns:
        Whether Slack took it.
    """
    try:
        answer = requests.post(webhook, json={"text": text}, timeout=SLACK_SECONDS)
        answer.raise_for_status()
    # Its text names the address.
    except requests.RequestException as exc:
        code = exc.response.status_code if exc.response is not None else "no answer"
        log.warning("Slack was not told: %s, %s", type(exc).__name__, code)
        return False
    return True


def workflow_run_url(environment: Mapping[str, str]) -> str | None:
    """Where GitHub shows the run that this process is a part of; None outside of one."""
    parts = [environment.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    if not all(parts):
        return None
    server, repository, run = parts
    return f"{server}/{repository}/actions/runs/{run}"


def _headline(done: RolloutResult) -> str:
    match done.outcome:
        case "deployed":
            return "Deployed"
        case "rolled back":
            return "Not deployed: rolled back, and what was there before is served again"
        case "broken":
            back = "the rollback has failed too" if done.after else "there was nothing to roll back to"
            return f"Not deployed, and {back}"


def _code(value: str | None) -> str:
    return f"`{value}`" if value else ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
