"""`sla` in `default_args`, or on a task, works again: a DAG gets a deadline for each length of time that is in use.

When a deadline has passed, Airflow's triggerer calls :func:`report_late_tasks`, which asks for the run's states and
tells once a run what is late. Time is counted from when the run was queued. Deadlines are made with the run: a task
that is cleared later gets no new one.
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
from ml_pipelines_airflow.sla.argument import ignore_removal_warning
from ml_pipelines_airflow.sla.lateness import (
    FAILED,
    FINISHED,
    Instance,
    Plan,
    Timing,
    apart,
    blame,
    instances,
    late_instances,
    sentence,
    suspects,
)

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["install_deadlines", "report_late_tasks"]

CALLBACKS = tuple(f"on_{event}_callback" for event in ("failure", "success", "retry", "execute", "skipped"))
LONGEST = timedelta(days=36_500)  # a length of time near timedelta.max can't be stored, and no DAG is updated any more
MOST_QUESTIONS = 50  # a report asks Airflow, each for the times of one task

log = logging.getLogger(__name__)

# One report after the other: deadlines that pass together edit one message, and no other trigger waits for Slack.
_REPORTER = ThreadPoolExecutor(1, thread_name_prefix="sla")


def install_deadlines(dag: DAG, slas: dict[str, Any]) -> None:
    """Give a DAG the deadlines that its tasks' `sla` asks for, after its own ones; twice is as good as once.

    Args:
        dag: to watch over.
        slas: by task, as declared.

    Raises:
        AirflowClusterPolicyViolation: if an `sla` is no length of time.
    """
    if not ignore_removal_warning():  # A mapped task is made anew in each of its instances, with its `sla`.
        return
    _validate(dag, slas)
    declared: Any = dag.deadline or []  # Airflow has made it a list
    dag.deadline = [*(each for each in declared if not _is_ours(each)), *_deadlines(dag, slas)]
    vars(dag)["test"] = partial(_test_without_deadlines, dag)


def _is_ours(deadline: Any) -> bool:
    return bool(deadline.callback.path == f"{__name__}.{report_late_tasks.__name__}")


def _validate(dag: DAG, slas: dict[str, Any]) -> None:
    wrong = [name for name, sla in slas.items() if not isinstance(sla, timedelta) or not timedelta() < sla <= LONGEST]
    if not wrong:
        return
    from airflow.exceptions import AirflowClusterPolicyViolation

    more = f" (and of {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    error = SpecError(
        f"the sla of task {wrong[0]!r}{more} in DAG {dag.dag_id!r} is no length of time",
        expected=f"a timedelta above zero, of at most {LONGEST.days} days",
        got=repr(slas[wrong[0]]),
        fix="write sla=timedelta(hours=4), on the task or in default_args; or sla=None for none",
    )
    raise AirflowClusterPolicyViolation(str(error))


def _deadlines(dag: DAG, slas: dict[str, timedelta]) -> list[Any]:
    from airflow.sdk import (  # type: ignore[attr-defined]  # its stub does not list them
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )

    destination = _destination(dag)
    common = {
        "slas": {name: slas[name].total_seconds() for name in sorted(slas)},
        "upstream": _upstream(dag, slas),
        "destination": [destination.connection, destination.channel] if destination else None,
    }
    return [
        DeadlineAlert(
            name=f"SLA {sla}",
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=sla,
            callback=AsyncCallback(report_late_tasks, kwargs={"sla_seconds": sla.total_seconds(), **common}),
        )
        for sla in sorted(set(slas.values()))
    ]


def _upstream(dag: DAG, tasks: dict[str, Any]) -> dict[str, list[str]]:
    """The tasks directly before each of the given ones, and before those, and so on."""
    found: dict[str, list[str]] = {}
    ahead = list(tasks)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found[name] = sorted(dag.get_task(name).upstream_task_ids)
            ahead.extend(found[name])
    return {name: found[name] for name in sorted(found) if found[name]}


def _destination(dag: DAG) -> Destination | None:
    """Where the DAG's own notifier talks about a run, if it has one."""
    told = (getattr(callback, "destination", None) for callback in _callbacks(dag))
    return next((each for each in told if isinstance(each, Destination)), None)


def _callbacks(dag: DAG) -> Iterator[Any]:
    given = chain(
        (dag.default_args.get(name) for name in CALLBACKS),
        (getattr(owner, name, None) for owner in (dag, *dag.tasks) for name in CALLBACKS),
    )
    for each in given:
        yield from each if isinstance(each, list | tuple) else [each]


def _test_without_deadlines(dag: DAG, /, *args: Any, **kwargs: Any) -> Any:
    """`DAG.test`, which in Airflow 3.3 ends with an error if the DAG has deadlines; nobody would watch over them."""
    twin = copy.copy(dag)
    twin.deadline = None
    return type(dag).test(twin, *args, **kwargs)


async def report_late_tasks(
    *,
    sla_seconds: float,
    slas: dict[str, float],
    upstream: dict[str, list[str]],
    destination: list[str] | None,
    context: dict[str, Any],
) -> str | None:
    """Tell which tasks of a run are late. Called by Airflow's triggerer.

    Args:
        sla_seconds: the length of time that has passed.
        slas: task -> its own, in seconds.
        upstream: task -> the tasks directly before it.
        destination: connection and channel; None for those of the configuration.
        context: `dag_run`, and `deadline` with its `deadline_time`.

    Returns:
        What was told. Airflow stores that, and its triggerer ends if it is anything but text.
    """
    told = Destination(*destination) if destination else None
    work = partial(_report, Plan(slas, upstream), sla_seconds, context, told)
    return await asyncio.get_running_loop().run_in_executor(_REPORTER, work)


def _report(plan: Plan, sla_seconds: float, context: dict[str, Any], told: Destination | None) -> str | None:
    run = context["dag_run"]
    finished = _finished_states(run)
    if finished is None:
        return None
    # The clock of this machine may be behind that of the one that found the deadline passed.
    passed = _moment(context["deadline"]["deadline_time"])
    now = max(_now(), passed)
    begun = passed - timedelta(seconds=sla_seconds)
    known = _instances(run, plan)
    late = late_instances(plan, known, elapsed=(now - begun).total_seconds(), finished=finished)
    if not late:
        return None
    suspected = {each: suspects(plan, known, each, finished=finished) for each in late}
    timings = _timings(run, chain.from_iterable((*suspected[each], each) for each in late))
    tasks = [
        LateTask(
            task=each.name,
            state=each.state,
            due=begun + timedelta(seconds=plan.slas[each.task]),
            seen=now,
            sla_seconds=plan.slas[each.task],
            cause=blame(each, suspected[each], timings, now, finished=finished),
        )
        for each in late
    ]
    text = sentence(run, tasks, now)
    log.warning("%s", text)
    _tell(told, run, tasks)
    return text


def _finished_states(run: dict[str, Any]) -> Collection[str] | None:
    """The states of a task that is not late, None if nothing in the run is."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    state = RuntimeTaskInstance.get_dagrun_state(run["dag_id"], run["dag_run_id"])
    if state == "failed" and enabled("sla_alert_failed_runs"):
        return FINISHED - FAILED
    return None if state in ("success", "failed") else FINISHED


def _instances(run: dict[str, Any], plan: Plan) -> list[Instance]:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    found: list[Instance] = []
    for tasks in apart(plan.tasks):
        states = RuntimeTaskInstance.get_task_states(run["dag_id"], run_ids=[run["dag_run_id"]], task_ids=tasks)
        found += instances(tasks, states.get(run["dag_run_id"], {}))
    return found


def _timings(run: dict[str, Any], wanted: Iterable[Instance]) -> dict[Instance, Timing]:
    begun = dict.fromkeys(each for each in wanted if each.state is not None)
    try:
        ask = _asker()
        found = {each: _timing(run, each, ask) for each in islice(begun, MOST_QUESTIONS)}
    except Exception:
        # Whose fault it is, is worth less than that there is something to tell.
        log.info("It is not known how long the tasks of %s ran", run["dag_run_id"], exc_info=True)
        return {}
    return {each: timing for each, timing in found.items() if timing}


def _asker() -> Callable[[Any], Any]:
    """Asks Airflow for an instance's times. The triggerer of 3.3 may ask that, but is not taught to read the answer."""
    from airflow.sdk.execution_time import comms, task_runner
    from pydantic import TypeAdapter

    taught: Any = copy.copy(task_runner.SUPERVISOR_COMMS)  # the same line, and what others read stays as it is
    taught.body_decoder = TypeAdapter(comms.PreviousTIResult)
    return lambda question: taught.send(question).task_instance


def _timing(run: dict[str, Any], instance: Instance, ask: Callable[[Any], Any]) -> Timing | None:
    """When an instance was at work. One may only ask for the instance before a date, of whichever run."""
    from airflow.sdk.execution_time.comms import GetPreviousTI

    date = _moment(run["logical_date"]) + timedelta(microseconds=1) if run.get("logical_date") else None
    found = ask(
        GetPreviousTI(dag_id=run["dag_id"], task_id=instance.task, map_index=instance.map_index, logical_date=date)
    )
    if found is None or found.run_id != run["dag_run_id"]:
        return None
    return Timing(found.start_date, found.duration if found.end_date else None)


def _tell(told: Destination | None, run: dict[str, Any], tasks: list[LateTask]) -> None:
    if told is None and (channel := option("slack_channel")):
        told = Destination(option("slack_conn_id"), channel)
    if told:
        from ml_pipelines_airflow.notifications.slack import notify_late_tasks

        notify_late_tasks(told, run=run, late=tasks)


def _moment(value: datetime | str) -> datetime:
    """A time in a callback's context, which is text where it was sent as JSON."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _now() -> datetime:
    return datetime.now(UTC)
