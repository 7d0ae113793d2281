"""When a DAG runs, with which `default_args`, and who is notified: sections of all declarations."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from ml_pipelines.spec.durations import Duration, PositiveDuration
from ml_pipelines.spec.sources import LINE, Count, Name, Section

__all__ = ["Alerts", "DefaultArgs", "Schedule", "SlackAlerts"]


class Schedule(Section):
    """The schedule of a training. Declare at least one of `cron`, `on_new_data` and `on_drift`.

    Attributes:
        cron: cron expression, or a preset such as `@daily`.
        timezone: time zone of `cron`, by its IANA name.
        on_new_data: time between two checks for new data, which start a training.
        on_drift: whether drift starts a training.
    """

    cron: str | None = None
    timezone: str = "UTC"
    on_new_data: PositiveDuration | None = None
    on_drift: bool = False

    @model_validator(mode="after")
    def _require_trigger(self) -> Schedule:
        if self.cron is None and self.on_new_data is None and not self.on_drift:
            raise ValueError("expected at least one of cron, on_new_data and on_drift")
        return self


class DefaultArgs(Section):
    """Airflow's `default_args` of all tasks.

    Attributes:
        owner: owner of the tasks.
        retries: attempts after the first one.
        retry_delay: time between two attempts.
        execution_timeout: time after which an attempt fails.
        sla: time from the start of the run within which a task must end. A wait for an approval does not count.
        email: recipients of e-mail.
        email_on_failure: whether a failed task sends e-mail.
        email_on_retry: whether a retried task sends e-mail.
    """

    owner: Annotated[str, Field(min_length=1, max_length=500, pattern=LINE)] = "airflow"
    retries: Annotated[Count, Field(ge=0, le=100)] = 2
    retry_delay: Duration = timedelta(minutes=1)
    execution_timeout: PositiveDuration | None = None
    sla: PositiveDuration | None = None
    email: tuple[Annotated[str, Field(min_length=3, max_length=320, pattern=LINE)], ...] = ()
    email_on_failure: bool = True
    email_on_retry: bool = False


class SlackAlerts(Section):
    """Notifications in Slack.

    Attributes:
        connection: name of the Airflow connection.
        channel: name or id of the channel.
    """

    connection: Name = "slack_api_default"
    channel: Name


class Alerts(Section):
    """The recipients of notifications about runs.

    Attributes:
        slack: notifications in Slack.
    """

    slack: SlackAlerts | None = None
