"""Which tasks of a run are late, and which task before them used the time. Pure: it is told what Airflow knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ml_pipelines_airflow.notifications.events import LateTask
from ml_pipelines_airflow.notifications.formatting import format_duration

__all__ = [
    "FAILED",
    "FINISHED",
    "Instance",
    "Plan",
    "Timing",
    "apart",
    "blame",
    "instances",
    "late_instances",
    "sentence",
    "suspects",
]

# States as Airflow names them. No task in one of these will still do anything.
FINISHED = frozenset({"success", "skipped", "removed", "failed", "upstream_failed"})
FAILED = frozenset({"failed", "upstream_failed"})
USED_NO_TIME = frozenset({"skipped", "removed", "upstream_failed"})
WAITS_FOR_A_PERSON = "awaiting_input"


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """A task in one run, or one of its mapped instances.

    Attributes:
        task: the task's id.
        map_index: from 0 for a mapped instance, else -1.
        state: as Airflow names it, None if the task has not begun.
    """

    task: str
    map_index: int
    state: str | None

    @property
    def name(self) -> str:
        """As a person writes it: `train[2]`."""
        return self.task if self.map_index < 0 else f"{self.task}[{self.map_index}]"


@dataclass(frozen=True, slots=True)
class Timing:
    """When an instance was started, and how long it ran if it has ended."""

    start: datetime | None
    seconds: float | None

    def used(self, now: datetime) -> float:
        """Seconds at work until now."""
        if self.seconds is not None:
            return self.seconds
        return (now - self.start).total_seconds() if self.start else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a DAG declares.

    Attributes:
        slas: task -> seconds from the run's start.
        upstream: task -> the tasks directly before it, for every task with an SLA and everything before that.
    """

    slas: Mapping[str, float]
    upstream: Mapping[str, Collection[str]]
    _before: dict[str, dict[str, None]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tasks(self) -> set[str]:
        """Every task that it speaks of."""
        return {*self.slas, *self.upstream, *(each for ids in self.upstream.values() for each in ids)}

    def before(self, task: str) -> Collection[str]:
        """All tasks that come before a task, the nearest first."""
        if task not in self._before:
            found: dict[str, None] = {}
            layer = sorted(self.upstream.get(task, ()))
            while layer:
                found.update(dict.fromkeys(layer))
                layer = sorted({above for each in layer for above in self.upstream.get(each, ())} - found.keys())
            self._before[task] = found
        return self._before[task].keys()


def apart(tasks: Iterable[str]) -> list[list[str]]:
    """Tasks in at most two groups within which Airflow's names for instances are unambiguous.

    The third instance of a mapped task `train` is `train_2` to Airflow; and so may be another task.
    """
    group: dict[str, int] = {}
    for task in sorted(tasks, key=len):
        stem, _, index = task.rpartition("_")
        group[task] = 1 - group[stem] if index.isdecimal() and stem in group else 0
    return [found for number in (0, 1) if (found := sorted(task for task in group if group[task] == number))]


def instances(tasks: Sequence[str], states: Mapping[str, str | None]) -> list[Instance]:
    """The instances of tasks that are :func:`apart`, out of states by Airflow's names for them."""
    known = set(tasks)
    found = []
    for key, state in states.items():
        stem, _, index = key.rpartition("_")
        if key in known:
            found.append(Instance(key, -1, state))
        elif stem in known and index.isdecimal():
            found.append(Instance(stem, int(index), state))
    return sorted(found, key=lambda each: (each.task, each.map_index))


def late_instances(
    plan: Plan, known: Sequence[Instance], *, elapsed: float, finished: Collection[str] = FINISHED
) -> list[Instance]:
    """Instances whose SLA has passed and that are not finished, without those that only a person keeps waiting.

    Args:
        plan: what the DAG declares.
        known: every instance of the run.
        elapsed: seconds since the run's start.
        finished: the states that count as finished.
    """
    asked = {each.task for each in known if each.state == WAITS_FOR_A_PERSON}

    def excused(each: Instance) -> bool:
        held = each.state is None and not asked.isdisjoint(plan.before(each.task))
        return held or each.state == WAITS_FOR_A_PERSON

    return [
        each
        for each in known
        if each.task in plan.slas
        and plan.slas[each.task] <= elapsed
        and each.state not in finished
        and not excused(each)
    ]


def suspects(
    plan: Plan, known: Sequence[Instance], late: Instance, *, finished: Collection[str] = FINISHED
) -> list[Instance]:
    """The instances before a late one that may have used its time, the nearest first.

    If something before it is not finished: of that, what waits for nothing else. Otherwise all that ran.
    """
    before = list(plan.before(late.task))
    ahead = [each for each in known if each.task in plan.before(late.task)]
    unfinished = {each.task for each in ahead if each.state not in finished}
    if unfinished:
        first = {task for task in unfinished if unfinished.isdisjoint(plan.before(task))}
        found = [each for each in ahead if each.task in first and each.state not in finished]
    else:
        found = [each for each in ahead if each.state not in USED_NO_TIME]
    return sorted(found, key=lambda each: (before.index(each.task), each.map_index))


def blame(
    late: Instance,
    suspected: Sequence[Instance],
    timings: Mapping[Instance, Timing],
    now: datetime,
    finished: Collection[str] = FINISHED,
) -> str | None:
    """A sentence about the one of the suspects that used the time; None if the late task did, or nobody knows."""
    if not suspected:
        return None

    def used(each: Instance) -> float:
        return timings[each].used(now) if each in timings else 0.0

    most = max(sorted(suspected, key=lambda each: (each.state is None, each.name)), key=used)
    if most.state not in finished:
        return _doing(most, used(most))
    return f"{most.name} took {format_duration(used(most))}" if used(most) > used(late) else None


def _doing(each: Instance, seconds: float) -> str:
    if each.state == "running" and seconds > 0:
        return f"{each.name} has been running for {format_duration(seconds)}"
    return f"{each.name} {_state(each.state)}"


def _state(state: str | None) -> str:
    if state in FAILED:
        return "failed"
    return "has not begun" if state is None else f"is {state.replace('_', ' ')}"


def sentence(run: Mapping[str, object], late: Sequence[LateTask], now: datetime) -> str:
    """All that there is to say about a run's late tasks, in one line."""

    def told() -> Iterator[str]:
        for each in late:
            facts = [
                each.state or "not begun",
                f"due at {each.due:%Y-%m-%d %H:%M:%S} UTC, {format_duration(each.sla_seconds)} after the run's start",
                f"{format_duration(max((now - each.due) / timedelta(seconds=1), 0))} late",
                *([each.cause] if each.cause else []),
            ]
            yield f"{each.task} ({'; '.join(facts)})"

    number = "1 task is late" if len(late) == 1 else f"{len(late)} tasks are late"
    return f"SLA missed in {run['dag_id']}, run {run['dag_run_id']}: {number}: {', '.join(told())}"
