"""The late tasks of a run, and the upstream task that caused the delay. Pure functions of Airflow's states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ml_pipelines_airflow.notifications.durations import format_duration
from ml_pipelines_airflow.notifications.events import LateTask

__all__ = [
    "FAILED",
    "FINISHED",
    "SlaPlan",
    "TaskInstanceState",
    "TaskTiming",
    "alert_text",
    "delay_candidates",
    "delay_cause",
    "find_late_instances",
    "parse_instances",
    "unambiguous_groups",
]

# Airflow's names of states. A task in a state of FINISHED will not run again.
FINISHED = frozenset({"success", "skipped", "removed", "failed", "upstream_failed"})
FAILED = frozenset({"failed", "upstream_failed"})
_WITHOUT_RUN = frozenset({"skipped", "removed", "upstream_failed"})
_AWAITING_INPUT = "awaiting_input"


@dataclass(frozen=True, slots=True, order=True)
class TaskInstanceState:
    """The state of a task in one run, or of one of its mapped instances.

    Attributes:
        task: task id.
        map_index: from 0 for a mapped instance, else -1.
        state: Airflow's state, None if the task has not started.
    """

    task: str
    map_index: int
    state: str | None

    @property
    def name(self) -> str:
        """The task id, with the index of a mapped instance: `train[2]`."""
        return self.task if self.map_index < 0 else f"{self.task}[{self.map_index}]"


@dataclass(frozen=True, slots=True)
class TaskTiming:
    """The start of an instance, and its duration if it has ended."""

    start: datetime | None
    seconds: float | None

    def elapsed(self, now: datetime) -> float:
        """Return the seconds between the start and the end, or until now."""
        if self.seconds is not None:
            return self.seconds
        return (now - self.start).total_seconds() if self.start else 0.0


@dataclass(frozen=True, slots=True)
class SlaPlan:
    """The SLAs of a DAG and the order of its tasks.

    Attributes:
        slas: seconds from the start of the run, by task.
        upstream: direct upstream tasks, by task; for all tasks with an SLA and all tasks before them.
    """

    slas: Mapping[str, float]
    upstream: Mapping[str, Collection[str]]
    _ancestors: dict[str, dict[str, None]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tasks(self) -> set[str]:
        """All tasks of the plan."""
        return {*self.slas, *self.upstream, *(task for tasks in self.upstream.values() for task in tasks)}

    def ancestors(self, task: str) -> Collection[str]:
        """Return all tasks before a task, the nearest first."""
        if task not in self._ancestors:
            ancestors: dict[str, None] = {}
            layer = sorted(self.upstream.get(task, ()))
            while layer:
                ancestors.update(dict.fromkeys(layer))
                layer = sorted({above for name in layer for above in self.upstream.get(name, ())} - ancestors.keys())
            self._ancestors[task] = ancestors
        return self._ancestors[task].keys()


def unambiguous_groups(tasks: Iterable[str]) -> list[list[str]]:
    """Split tasks into at most two groups in which Airflow's names of instances are unambiguous.

    Airflow names the third instance of a mapped task `train` `train_2`, which may also be the id of another task.
    """
    group: dict[str, int] = {}
    for task in sorted(tasks, key=len):
        stem, _, index = task.rpartition("_")
        group[task] = 1 - group[stem] if index.isdecimal() and stem in group else 0
    groups = [sorted(task for task in group if group[task] == number) for number in (0, 1)]
    return [tasks for tasks in groups if tasks]


def parse_instances(tasks: Sequence[str], states: Mapping[str, str | None]) -> list[TaskInstanceState]:
    """Return the instances of a group of tasks from states by Airflow's names.

    Args:
        tasks: one of the :func:`unambiguous_groups`.
        states: state by task id, or by task id, `_` and index.
    """
    task_ids = set(tasks)
    instances = []
    for name, state in states.items():
        stem, _, index = name.rpartition("_")
        if name in task_ids:
            instances.append(TaskInstanceState(name, -1, state))
        elif stem in task_ids and index.isdecimal():
            instances.append(TaskInstanceState(stem, int(index), state))
    return sorted(instances, key=lambda instance: (instance.task, instance.map_index))


def find_late_instances(
    plan: SlaPlan, instances: Sequence[TaskInstanceState], *, elapsed: float, finished: Collection[str] = FINISHED
) -> list[TaskInstanceState]:
    """Return the unfinished instances whose SLA has passed. Instances that wait for a person's input do not count.

    Args:
        plan: SLAs and order of the tasks.
        instances: all instances of the run.
        elapsed: seconds since the start of the run.
        finished: states that count as finished.
    """
    asking = {instance.task for instance in instances if instance.state == _AWAITING_INPUT}

    def awaits_input(instance: TaskInstanceState) -> bool:
        is_blocked = instance.state is None and not asking.isdisjoint(plan.ancestors(instance.task))
        return is_blocked or instance.state == _AWAITING_INPUT

    return [
        instance
        for instance in instances
        if instance.task in plan.slas
        and plan.slas[instance.task] <= elapsed
        and instance.state not in finished
        and not awaits_input(instance)
    ]


def delay_candidates(
    plan: SlaPlan,
    instances: Sequence[TaskInstanceState],
    late: TaskInstanceState,
    *,
    finished: Collection[str] = FINISHED,
) -> list[TaskInstanceState]:
    """Return the instances before a late one that may have caused its delay, the nearest first.

    These are the unfinished instances that wait for no other task. If all are finished, they are those that ran.
    """
    order = list(plan.ancestors(late.task))
    before = [instance for instance in instances if instance.task in plan.ancestors(late.task)]
    unfinished = {instance.task for instance in before if instance.state not in finished}
    if unfinished:
        first = {task for task in unfinished if unfinished.isdisjoint(plan.ancestors(task))}
        candidates = [instance for instance in before if instance.task in first and instance.state not in finished]
    else:
        candidates = [instance for instance in before if instance.state not in _WITHOUT_RUN]
    return sorted(candidates, key=lambda instance: (order.index(instance.task), instance.map_index))


def delay_cause(
    late: TaskInstanceState,
    candidates: Sequence[TaskInstanceState],
    timings: Mapping[TaskInstanceState, TaskTiming],
    now: datetime,
    finished: Collection[str] = FINISHED,
) -> str | None:
    """Return a clause about the candidate that caused a delay.

    Args:
        late: the late instance.
        candidates: the :func:`delay_candidates`.
        timings: timings of the instances, as far as Airflow has them.
        now: the current time.
        finished: states that count as finished.

    Returns:
        None if there is no candidate, or if the late instance itself ran longest.
    """
    if not candidates:
        return None

    def elapsed(instance: TaskInstanceState) -> float:
        return timings[instance].elapsed(now) if instance in timings else 0.0

    longest = max(sorted(candidates, key=lambda instance: (instance.state is None, instance.name)), key=elapsed)
    if longest.state not in finished:
        return _progress(longest, elapsed(longest))
    is_cause = elapsed(longest) > elapsed(late)
    return f"{longest.name} took {format_duration(elapsed(longest))}" if is_cause else None


def _progress(instance: TaskInstanceState, seconds: float) -> str:
    if instance.state == "running" and seconds > 0:
        return f"{instance.name} has been running for {format_duration(seconds)}"
    return f"{instance.name} {_state_text(instance.state)}"


def _state_text(state: str | None) -> str:
    if state in FAILED:
        return "failed"
    return "has not started" if state is None else f"is {state.replace('_', ' ')}"


def alert_text(run: Mapping[str, object], late: Sequence[LateTask], now: datetime) -> str:
    """Return the alert of a run in one line: the late tasks, their state and due time, and the cause of the delay."""
    count = "1 task is late" if len(late) == 1 else f"{len(late)} tasks are late"
    tasks = ", ".join(_late_task_text(task, now) for task in late)
    return f"SLA missed in DAG {run['dag_id']}, run {run['dag_run_id']}: {count}: {tasks}"


def _late_task_text(late: LateTask, now: datetime) -> str:
    facts = [
        late.state or "not started",
        f"due at {late.due:%Y-%m-%d %H:%M:%S} UTC, {format_duration(late.sla_seconds)} after the start of the run",
        f"{format_duration(max((now - late.due) / timedelta(seconds=1), 0))} late",
        *([late.cause] if late.cause else []),
    ]
    return f"{late.task} ({'; '.join(facts)})"
