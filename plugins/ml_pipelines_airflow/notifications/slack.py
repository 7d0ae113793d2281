"""Slack by callbacks: one message a run, changed in place as the run goes on.

In any DAG, two lines::

    from ml_pipelines_airflow.notifications import slack

    notifier = slack.SlackRunNotifier(channel="#ml")
    with DAG("churn", default_args=slack.task_callbacks(notifier), **slack.dag_callbacks(notifier)):
        ...

The bot's token is in the Airflow connection, and nowhere else. Nothing that happens here changes a task's state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk import BaseNotifier

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.notifications.airflow_events import event_from_context, late_tasks_event
from ml_pipelines_airflow.notifications.events import Destination, Event, Headline, LateTask
from ml_pipelines_airflow.notifications.run_state import status, told_of

__all__ = ["SlackRunNotifier", "dag_callbacks", "notify_late_tasks", "task_callbacks"]

log = logging.getLogger(__name__)

TASK_CALLBACKS = (
    "on_execute_callback",
    "on_retry_callback",
    "on_failure_callback",
    "on_success_callback",
    "on_skipped_callback",
)
DAG_CALLBACKS = ("on_success_callback", "on_failure_callback")


class SlackRunNotifier(BaseNotifier):
    """Tells a channel about runs. One object for every callback of tasks and DAGs: the context says what happened.

    Args:
        channel: where to, such as `#ml`; a webhook has its own.
        slack_conn_id: an Airflow connection of type `slack`, or `slackwebhook`, which can't change a message: then the
            first failure, the first lateness and the end are told.
        headline: what a task's success means for the run, None for nothing; called with the context.
    """

    # None: fields are rendered in place, so that one object would say the first task's text for all.
    template_fields: Sequence[str] = ()

    def __init__(
        self,
        *,
        channel: str = "",
        slack_conn_id: str = "slack_api_default",
        headline: Callable[[Any], Headline | None] | None = None,
        **notifier: Any,
    ) -> None:
        super().__init__(**notifier)
        self.destination = Destination(slack_conn_id, channel)
        self.headline = headline

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Nothing is rendered; and the DAG in a DAG's own callback has no template environment in `dag.test()`."""

    def notify(self, context: Any) -> None:
        """Tell what a context says. Never raises."""
        try:
            tell(self.destination, event_from_context(context, self.headline))
        except Exception:
            # A message is not worth a task: whatever went wrong here is told in the log alone.
            log.exception("Slack could not be told")


def task_callbacks(notifier: BaseNotifier) -> dict[str, Any]:
    """For `default_args`."""
    return dict.fromkeys(TASK_CALLBACKS, notifier)


def dag_callbacks(notifier: BaseNotifier) -> dict[str, Any]:
    """For the DAG itself."""
    return dict.fromkeys(DAG_CALLBACKS, notifier)


def notify_late_tasks(destination: Destination, *, run: dict[str, Any], late: Sequence[LateTask]) -> None:
    """Tell in a run's message which of its tasks are late. Never raises.

    Args:
        destination: where to.
        run: as Airflow's REST API describes it, with `dag_id` and `dag_run_id`.
        late: the tasks; none: nothing is told.
    """
    if not late:
        return
    try:
        tell(destination, late_tasks_event(run, late))
    except Exception:
        # The triggerer goes on, and serves others.
        log.exception("Slack could not be told")


def tell(destination: Destination, news: Event) -> None:
    """Add news to a run's story, and tell Slack if that changed it."""
    from ml_pipelines_airflow.connections import store_uri
    from ml_pipelines_airflow.notifications.sender import talk
    from ml_pipelines_airflow.notifications.state_store import Desk

    try:
        desk = Desk.at(store_uri(), news.run, destination)
        if desk.note(news):
            talk(desk)
    except PipelineError as exc:
        _tell_without_store(destination, news, exc)


_no_store: set[str] = set()


def _tell_without_store(destination: Destination, news: Event, why: PipelineError) -> None:
    """Failures and ends are worth a message of their own."""
    from ml_pipelines_airflow.notifications.sender import talk_once

    if news.run.run_id not in _no_store:
        _no_store.add(news.run.run_id)
        log.warning("the store can't be used, so that Slack is told of failures and ends only: %s", why)
    story = told_of(news)
    matters = story.over or story.late or status(story) == "failing"
    if matters and (complaint := talk_once(story, destination)):
        log.warning("%s", complaint)
