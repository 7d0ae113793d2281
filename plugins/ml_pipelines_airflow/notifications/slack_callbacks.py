"""Slack messages from Airflow callbacks: one message per run, edited as the run progresses.

Two lines add them to any DAG::

    from ml_pipelines_airflow import SlackRunNotifier, dag_callbacks, task_callbacks

    notifier = SlackRunNotifier(channel="#ml")
    with DAG("churn", default_args=task_callbacks(notifier), **dag_callbacks(notifier)):
        ...

The bot's token is stored in the Airflow connection only. An error of Slack never changes the state of a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk import BaseNotifier

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.notifications.airflow_events import event_from_context, late_tasks_event
from ml_pipelines_airflow.notifications.events import Destination, Event, Headline, LateTask
from ml_pipelines_airflow.notifications.run_state import apply_event, status

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
    """Reports runs in a Slack channel. One object serves every callback of tasks and DAGs.

    Args:
        channel: a channel such as `#ml`; a webhook has its own.
        slack_conn_id: an Airflow connection of type `slack` or `slackwebhook`. A webhook cannot edit messages: it
            posts the first failure, the first late task and the end of the run.
        headline: returns the result of the run from the context of a successful task, None for no result.
    """

    # None: fields are rendered in place, so that one shared object would show the text of the first task everywhere.
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
        """Render nothing. The DAG in a DAG callback of `dag.test()` has no template environment."""

    def notify(self, context: Any) -> None:
        """Report the event of a callback's context. Never raises."""
        try:
            notify(self.destination, event_from_context(context, self.headline))
        except Exception:
            # No error of a notification may fail a task.
            log.exception("the Slack notification failed")


def task_callbacks(notifier: BaseNotifier) -> dict[str, Any]:
    """Return the callbacks of tasks, for `default_args`."""
    return dict.fromkeys(TASK_CALLBACKS, notifier)


def dag_callbacks(notifier: BaseNotifier) -> dict[str, Any]:
    """Return the callbacks of a DAG, as its keyword arguments."""
    return dict.fromkeys(DAG_CALLBACKS, notifier)


def notify_late_tasks(destination: Destination, *, run: dict[str, Any], late: Sequence[LateTask]) -> None:
    """Report the late tasks of a run in its message. Never raises.

    Args:
        destination: channel of the message.
        run: the run as Airflow's REST API describes it, with `dag_id` and `dag_run_id`.
        late: the late tasks; nothing is sent if there are none.
    """
    if not late:
        return
    try:
        notify(destination, late_tasks_event(run, late))
    except Exception:
        # The triggerer serves other triggers too.
        log.exception("the Slack notification failed")


def notify(destination: Destination, event: Event) -> None:
    """Store an event, and update the run's message if the event changes it."""
    from ml_pipelines_airflow.connections import store_uri
    from ml_pipelines_airflow.notifications.slack_delivery import send_updates
    from ml_pipelines_airflow.notifications.state_store import RunStateStore

    try:
        store = RunStateStore.at(store_uri(), event.run, destination)
        if store.add(event):
            send_updates(store)
    except PipelineError as exc:
        _notify_without_store(destination, event, exc)


_runs_without_store: set[str] = set()


def _notify_without_store(destination: Destination, event: Event, error: PipelineError) -> None:
    """Post a new message for a failure, late tasks or the end of a run; other events are dropped."""
    from ml_pipelines_airflow.notifications.slack_delivery import post_once

    if event.run.run_id not in _runs_without_store:
        _runs_without_store.add(event.run.run_id)
        log.warning("the store can't be used; Slack receives only failures, late tasks and ends of runs: %s", error)
    state = apply_event(None, event)
    is_notable = state.end or state.late or status(state) == "failing"
    if is_notable and (failure := post_once(state, destination)):
        log.warning("%s", failure)
