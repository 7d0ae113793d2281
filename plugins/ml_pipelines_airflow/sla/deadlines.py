"""Deadlines for `sla` in `default_args` or on a task: one deadline per distinct duration in a DAG.

When a deadline passes, Airflow's triggerer calls :func:`report_late_tasks`. It reads the states of the run and sends
one alert per run. It lists the late tasks, their state and due time, and the upstream task that caused the delay.
An SLA starts when the run is queued. Airflow creates deadlines with the run: a task that is cleared later has none.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ml_pipelines.errors import SpecError
from ml_pipelines_airflow.config import enabled, option
from ml_pipelines_airflow.notifications.events import Destination, LateTask
from ml_pipelines_airflow.sla.declared_sla import ignore_removal_warning
from ml_pipelines_airflow.sla.lateness import (
    FAILED,
    FINISHED,
    SlaPlan,
    TaskInstanceState,
    TaskTiming,
    alert_text,
    delay_candidates,
    delay_cause,
    find_late_instances,
    parse_instances,
    unambiguous_groups,
)

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["install_deadlines", "report_late_tasks"]

CALLBACKS = tuple(f"on_{event}_callback" for event in ("failure", "success", "retry", "execute", "skipped"))
MAX_SLA = timedelta(days=36_500)  # Airflow cannot store a duration near timedelta.max, and then updates no DAG
MAX_TIMINGS = 50  # requests to Airflow in one alert, each for the times of one instance

log = logging.getLogger(__name__)

# One thread: deadlines that pass together edit the same message, and other triggers do not wait for Slack.
_EXECUTOR = ThreadPoolExecutor(1, thread_name_prefix="sla")


def install_deadlines(dag: DAG, slas: dict[str, Any]) -> None:
    """Add the deadlines of the tasks' `sla` to those of a DAG. Idempotent.

    Args:
        dag: the DAG.
        slas: declared values by task.

    Raises:
        AirflowClusterPolicyViolation: an `sla` is not a valid duration.
    """
    if not ignore_removal_warning():  # also for the instances of a mapped task, which Airflow creates in the worker
        return
    _validate(dag, slas)
    declared: Any = dag.deadline or []  # a list, also if the DAG declares one deadline
    others = [deadline for deadline in declared if not _is_sla_deadline(deadline)]
    dag.deadline = [*others, *_deadlines(dag, slas)]
    vars(dag)["test"] = partial(_test_without_deadlines, dag)


def _is_sla_deadline(deadline: Any) -> bool:
    return bool(deadline.callback.path == f"{__name__}.{report_late_tasks.__name__}")


def _validate(dag: DAG, slas: dict[str, Any]) -> None:
    invalid = [task for task, sla in slas.items() if not isinstance(sla, timedelta) or not timedelta() < sla <= MAX_SLA]
    if not invalid:
        return
    from airflow.exceptions import AirflowClusterPolicyViolation

    more = f" (and of {len(invalid) - 1} more)" if len(invalid) > 1 else ""
    error = SpecError(
        f"the sla of task {invalid[0]!r}{more} in DAG {dag.dag_id!r} is not a valid duration",
        expected=f"a timedelta above zero and of at most {MAX_SLA.days} days",
        got=repr(slas[invalid[0]]),
        fix="write sla=timedelta(hours=4) on the task or in default_args, or sla=None for no SLA",
    )
    raise AirflowClusterPolicyViolation(str(error))


def _deadlines(dag: DAG, slas: dict[str, timedelta]) -> list[Any]:
    from airflow.sdk import (  # type: ignore[attr-defined]  # its stub does not list them
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )

    destination = _destination(dag)
    arguments = {
        "slas": {task: slas[task].total_seconds() for task in sorted(slas)},
        "upstream": _upstream(dag, slas),
        "destination": [destination.connection, destination.channel] if destination else None,
    }
    return [
        DeadlineAlert(
            name=f"SLA {sla}",
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=sla,
            callback=AsyncCallback(report_late_tasks, kwargs={"sla_seconds": sla.total_seconds(), **arguments}),
        )
        for sla in sorted(set(slas.values()))
    ]


def _upstream(dag: DAG, tasks: Iterable[str]) -> dict[str, list[str]]:
    """Return the direct upstream tasks of the tasks and of all their ancestors."""
    upstream: dict[str, list[str]] = {}
    pending = list(tasks)
    while pending:
        task = pending.pop()
        if task not in upstream:
            upstream[task] = sorted(dag.get_task(task).upstream_task_ids)
            pending.extend(upstream[task])
    return {task: upstream[task] for task in sorted(upstream) if upstream[task]}


def _destination(dag: DAG) -> Destination | None:
    """Return the destination of the DAG's own notifier, None without one."""
    destinations = (getattr(callback, "destination", None) for callback in _callbacks(dag))
    return next((destination for destination in destinations if isinstance(destination, Destination)), None)


def _callbacks(dag: DAG) -> Iterator[Any]:
    values = chain(
        (dag.default_args.get(name) for name in CALLBACKS),
        (getattr(owner, name, None) for owner in (dag, *dag.tasks) for name in CALLBACKS),
    )
    for value in values:
        yield from value if isinstance(value, list | tuple) else [value]


def _test_without_deadlines(dag: DAG, /, *args: Any, **kwargs: Any) -> Any:
    """Run `DAG.test` on a copy without deadlines: Airflow 3.3 ends a test of a DAG with deadlines with an error."""
    duplicate = copy.copy(dag)
    duplicate.deadline = None
    return type(dag).test(duplicate, *args, **kwargs)


async def report_late_tasks(
    *,
    sla_seconds: float,
    slas: dict[str, float],
    upstream: dict[str, list[str]],
    destination: list[str] | None,
    context: dict[str, Any],
) -> str | None:
    """Send an alert about the late tasks of a run. Airflow's triggerer calls this function.

    Args:
        sla_seconds: the duration that has passed.
        slas: seconds by task.
        upstream: direct upstream tasks by task.
        destination: connection and channel; None for those of the configuration.
        context: `dag_run`, and `deadline` with its `deadline_time`.

    Returns:
        The text of the alert, None without late tasks. Airflow stores the result, and its triggerer exits on anything
        but text or None.
    """
    channel = Destination(*destination) if destination else None
    report = partial(_report, SlaPlan(slas, upstream), sla_seconds, context, channel)
    return await asyncio.get_running_loop().run_in_executor(_EXECUTOR, report)


def _report(plan: SlaPlan, sla_seconds: float, context: dict[str, Any], channel: Destination | None) -> str | None:
    run = context["dag_run"]
    finished = _finished_states(run)
    if finished is None:
        return None
    deadline = _as_datetime(context["deadline"]["deadline_time"])
    # The clock of this host may be behind the clock of the scheduler.
    now, start = max(_now(), deadline), deadline - timedelta(seconds=sla_seconds)
    instances = _instances(run, plan)
    late = find_late_instances(plan, instances, elapsed=(now - start).total_seconds(), finished=finished)
    if not late:
        return None
    causes = _delay_causes(run, plan, instances, late, now=now, finished=finished)
    tasks = [
        LateTask(
            task=instance.name,
            state=instance.state,
            due=start + timedelta(seconds=plan.slas[instance.task]),
            seen=now,
            sla_seconds=plan.slas[instance.task],
            cause=causes[instance],
        )
        for instance in late
    ]
    text = alert_text(run, tasks, now)
    log.warning("%s", text)
    _notify(channel, run, tasks)
    return text


def _delay_causes(
    run: dict[str, Any],
    plan: SlaPlan,
    instances: list[TaskInstanceState],
    late: list[TaskInstanceState],
    *,
    now: datetime,
    finished: Collection[str],
) -> dict[TaskInstanceState, str | None]:
    candidates = {instance: delay_candidates(plan, instances, instance, finished=finished) for instance in late}
    timings = _timings(run, chain.from_iterable((*candidates[instance], instance) for instance in late))
    return {instance: delay_cause(instance, candidates[instance], timings, now, finished) for instance in late}


def _finished_states(run: dict[str, Any]) -> Collection[str] | None:
    """Return the states of tasks that are not late, None if the run cannot have late tasks."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    state = RuntimeTaskInstance.get_dagrun_state(run["dag_id"], run["dag_run_id"])
    if state == "failed" and enabled("sla_alert_failed_runs"):
        return FINISHED - FAILED
    return None if state in ("success", "failed") else FINISHED


def _instances(run: dict[str, Any], plan: SlaPlan) -> list[TaskInstanceState]:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    instances: list[TaskInstanceState] = []
    for tasks in unambiguous_groups(plan.tasks):
        states = RuntimeTaskInstance.get_task_states(run["dag_id"], run_ids=[run["dag_run_id"]], task_ids=tasks)
        instances += parse_instances(tasks, states.get(run["dag_run_id"], {}))
    return instances


def _timings(run: dict[str, Any], instances: Iterable[TaskInstanceState]) -> dict[TaskInstanceState, TaskTiming]:
    started = dict.fromkeys(instance for instance in instances if instance.state is not None)
    try:
        request = _previous_instance_request()
        timings = {instance: _timing(run, instance, request) for instance in islice(started, MAX_TIMINGS)}
    except Exception:
        # The alert is useful without the cause of the delay.
        log.info("the durations of the tasks of run %s are not available", run["dag_run_id"], exc_info=True)
        return {}
    return {instance: timing for instance, timing in timings.items() if timing}


def _previous_instance_request() -> Callable[[Any], Any]:
    """Return a function that requests a task instance. The decoder of Airflow 3.3's triggerer lacks the response."""
    from airflow.sdk.execution_time import comms, task_runner
    from pydantic import TypeAdapter

    channel: Any = copy.copy(task_runner.SUPERVISOR_COMMS)  # the same connection; other readers keep their decoder
    channel.body_decoder = TypeAdapter(comms.PreviousTIResult)
    return lambda message: channel.send(message).task_instance


def _timing(run: dict[str, Any], instance: TaskInstanceState, request: Callable[[Any], Any]) -> TaskTiming | None:
    """Return the timing of an instance. Airflow only offers the latest instance before a date, of any run."""
    from airflow.sdk.execution_time.comms import GetPreviousTI

    date = _as_datetime(run["logical_date"]) + timedelta(microseconds=1) if run.get("logical_date") else None
    response = request(
        GetPreviousTI(dag_id=run["dag_id"], task_id=instance.task, map_index=instance.map_index, logical_date=date)
    )
    if response is None or response.run_id != run["dag_run_id"]:
        return None
    return TaskTiming(response.start_date, response.duration if response.end_date else None)


def _notify(destination: Destination | None, run: dict[str, Any], tasks: list[LateTask]) -> None:
    if destination is None and (channel := option("slack_channel")):
        destination = Destination(option("slack_conn_id"), channel)
    if destination:
        from ml_pipelines_airflow.notifications.slack_callbacks import notify_late_tasks

        notify_late_tasks(destination, run=run, late=tasks)


def _as_datetime(value: datetime | str) -> datetime:
    """Return a time of a callback's context, which is text if Celery transferred it as JSON."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _now() -> datetime:
    return datetime.now(UTC)
