from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines_airflow.notifications.events import LateTask
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

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STATES = [
    None,
    *("scheduled", "queued", "running", "success", "restarting", "failed", "up_for_retry", "up_for_reschedule"),
    *("upstream_failed", "skipped", "deferred", "removed", "awaiting_input"),
]
# ingest -> train[0], train[1] -> evaluate -> deploy
PLAN = SlaPlan(
    {"ingest": 60.0, "train": 60.0, "evaluate": 60.0, "deploy": 120.0},
    {"train": ["ingest"], "evaluate": ["train"], "deploy": ["evaluate"]},
)


def a_run(**states: str | None) -> list[TaskInstanceState]:
    """Return the instances of a run: `train_1="running"` sets the second mapped instance of `train`."""
    default: dict[str, str | None] = {"ingest": "success", "train_0": "success", "train_1": "success"}
    return parse_instances(list(PLAN.slas), {**default, "evaluate": None, "deploy": None, **states})


def names(instances: list[TaskInstanceState]) -> list[str]:
    return [instance.name for instance in instances]


def one(instances: list[TaskInstanceState], name: str) -> TaskInstanceState:
    (match,) = [instance for instance in instances if instance.name == name]
    return match


def running_for(seconds: float) -> TaskTiming:
    return TaskTiming(NOW - timedelta(seconds=seconds), None)


@st.composite
def runs(draw: st.DrawFn) -> tuple[SlaPlan, list[TaskInstanceState], float]:
    number = draw(st.integers(1, 7))
    upstream = {
        f"t{task}": [f"t{above}" for above in sorted(draw(st.sets(st.integers(0, task - 1), max_size=3)))]
        for task in range(1, number)
    }
    slas = draw(st.dictionaries(st.sampled_from([f"t{task}" for task in range(number)]), st.sampled_from([1.0, 5.0])))
    instances = [
        TaskInstanceState(f"t{task}", index, draw(st.sampled_from(STATES)))
        for task in range(number)
        for index in (range(draw(st.integers(1, 3))) if draw(st.booleans()) else [-1])
    ]
    return SlaPlan(slas, upstream), instances, draw(st.sampled_from([0.5, 1.0, 3.0, 5.0]))


@given(runs())
def test_find_late_instances_returns_unfinished_overdue_instances_once(
    run: tuple[SlaPlan, list[TaskInstanceState], float],
) -> None:
    plan, instances, elapsed = run
    late = find_late_instances(plan, instances, elapsed=elapsed)
    assert len(set(names(late))) == len(late)
    for instance in late:
        assert instance.state not in FINISHED | {"awaiting_input"}
        assert plan.slas[instance.task] <= elapsed


@given(runs())
def test_find_late_instances_omits_only_punctual_or_waiting_instances(
    run: tuple[SlaPlan, list[TaskInstanceState], float],
) -> None:
    plan, instances, elapsed = run
    asking = {instance.task for instance in instances if instance.state == "awaiting_input"}
    for instance in set(instances) - set(find_late_instances(plan, instances, elapsed=elapsed)):
        assert (
            instance.state in FINISHED | {"awaiting_input"}
            or plan.slas.get(instance.task, 99) > elapsed
            or (instance.state is None and asking & set(plan.ancestors(instance.task)))
        )


@given(runs())
def test_delay_candidates_are_upstream_and_unfinished_if_any_is(
    run: tuple[SlaPlan, list[TaskInstanceState], float],
) -> None:
    plan, instances, elapsed = run
    for late in find_late_instances(plan, instances, elapsed=elapsed):
        candidates = delay_candidates(plan, instances, late)
        assert {instance.task for instance in candidates} <= set(plan.ancestors(late.task))
        unfinished = {e.task for e in instances if e.task in plan.ancestors(late.task) and e.state not in FINISHED}
        if unfinished:
            assert candidates
            assert {instance.task for instance in candidates} <= unfinished
            assert all(unfinished.isdisjoint(plan.ancestors(instance.task)) for instance in candidates)
        else:
            assert {instance.state for instance in candidates} <= {"success", "failed"}


@given(st.data())
def test_parse_instances_distinguishes_tasks_and_mapped_instances(data: st.DataObject) -> None:
    parts = st.sampled_from(["a", "b", "0", "1", "12"])
    tasks = data.draw(st.lists(st.lists(parts, min_size=1, max_size=4).map("_".join), unique=True, max_size=8))
    expected = {
        TaskInstanceState(task, index, f"{task}.{index}")
        for task in tasks
        for index in data.draw(st.just([-1]) | st.lists(st.integers(0, 20), unique=True, max_size=4))
    }
    parsed = []
    for group in unambiguous_groups(tasks):
        members = [instance for instance in expected if instance.task in group]
        keys = {e.task if e.map_index < 0 else f"{e.task}_{e.map_index}": e.state for e in members}
        assert len(keys) == len(members)
        parsed += parse_instances(group, keys)
    assert sorted(parsed, key=str) == sorted(expected, key=str)
    assert len(unambiguous_groups(tasks)) <= 2


def test_unambiguous_groups_splits_only_conflicting_names() -> None:
    assert unambiguous_groups([f"shard_{number}" for number in range(20)]) == [
        sorted(f"shard_{number}" for number in range(20))
    ]
    assert unambiguous_groups(["train", "train_1", "train_1_0"]) == [["train", "train_1_0"], ["train_1"]]


def test_sla_plan_includes_upstream_tasks() -> None:
    assert SlaPlan({"b": 1.0}, {"b": ["a"]}).tasks == {"a", "b"}
    assert list(PLAN.ancestors("deploy")) == ["evaluate", "train", "ingest"]


def test_find_late_instances_returns_single_mapped_instances() -> None:
    instances = a_run(train_1="running")
    assert names(find_late_instances(PLAN, instances, elapsed=60)) == ["evaluate", "train[1]"]
    assert names(find_late_instances(PLAN, instances, elapsed=120)) == ["deploy", "evaluate", "train[1]"]
    assert find_late_instances(PLAN, instances, elapsed=59.9) == []


def test_find_late_instances_omits_tasks_that_wait_for_input() -> None:
    assert names(find_late_instances(PLAN, a_run(evaluate="awaiting_input"), elapsed=999)) == []
    assert (
        names(find_late_instances(PLAN, a_run(ingest="awaiting_input", train_0=None, train_1=None), elapsed=999)) == []
    )
    assert names(find_late_instances(PLAN, a_run(train_0="awaiting_input", train_1="running"), elapsed=999)) == [
        "train[1]"
    ]
    assert names(find_late_instances(PLAN, a_run(ingest="awaiting_input", evaluate="running"), elapsed=999)) == [
        "evaluate"
    ]


def test_find_late_instances_returns_deferred_tasks() -> None:
    assert names(find_late_instances(PLAN, a_run(evaluate="deferred"), elapsed=60)) == ["evaluate"]


def test_find_late_instances_returns_failed_tasks_on_request() -> None:
    instances = a_run(train_1="failed", evaluate="upstream_failed", deploy="upstream_failed")
    assert find_late_instances(PLAN, instances, elapsed=999) == []
    finished = FINISHED - FAILED
    late = find_late_instances(PLAN, instances, elapsed=999, finished=finished)
    assert names(late) == ["deploy", "evaluate", "train[1]"]
    candidates = delay_candidates(PLAN, instances, late[0], finished=finished)
    assert delay_cause(late[0], candidates, {}, NOW, finished=finished) == "train[1] failed"


@pytest.mark.parametrize(
    ("states", "timings", "expected"),
    [
        ({"train_1": "running"}, {"train[1]": running_for(25)}, "train[1] has been running for 25 s"),
        ({"train_1": "running"}, {}, "train[1] is running"),
        ({"train_1": "up_for_retry"}, {"train[1]": running_for(5)}, "train[1] is up for retry"),
        ({"ingest": None, "train_0": None, "train_1": None}, {}, "ingest has not started"),
        (
            {"train_0": "running", "train_1": "running"},
            {"train[0]": running_for(3), "train[1]": running_for(7)},
            "train[1] has been running for 7 s",
        ),
        ({"train_0": None, "train_1": "queued"}, {}, "train[1] is queued"),
        ({}, {"ingest": TaskTiming(NOW, 11400.0), "train[0]": TaskTiming(NOW, 3.0)}, "ingest took 3 h 10 min"),
        ({}, {}, None),
        ({"evaluate": "running"}, {"ingest": TaskTiming(NOW, 10.0), "evaluate": running_for(20)}, None),
        ({"evaluate": "running"}, {"ingest": TaskTiming(NOW, 30.0), "evaluate": running_for(20)}, "ingest took 30 s"),
        ({"ingest": "skipped"}, {"ingest": TaskTiming(NOW, 30.0)}, None),
    ],
)
def test_delay_cause_names_the_longest_upstream_task(
    states: dict[str, str | None], timings: dict[str, TaskTiming], expected: str | None
) -> None:
    instances = a_run(**states)
    late = one(instances, "evaluate")
    known_timings = {one(instances, name): timing for name, timing in timings.items()}
    assert delay_cause(late, delay_candidates(PLAN, instances, late), known_timings, NOW) == expected


def test_delay_cause_of_the_first_task_is_none() -> None:
    instances = a_run(ingest="running")
    assert delay_candidates(PLAN, instances, one(instances, "ingest")) == []
    assert delay_cause(one(instances, "ingest"), [], {}, NOW) is None


def test_alert_text_lists_late_tasks_with_due_time_and_cause() -> None:
    due = NOW - timedelta(minutes=10)
    late = [
        LateTask(task="train[1]", state="running", due=due, seen=due, sla_seconds=14400, cause="ingest took 3 h"),
        LateTask(task="deploy", state=None, due=due, seen=due, sla_seconds=60),
    ]
    run = {"dag_id": "churn", "dag_run_id": "manual__1"}
    assert alert_text(run, late, NOW) == (
        "SLA missed in DAG churn, run manual__1: 2 tasks are late: "
        "train[1] (running; due at 2026-11-22 11:50:00 UTC, 4 h after the start of the run; 10 min late; "
        "ingest took 3 h), "
        "deploy (not started; due at 2026-11-22 11:50:00 UTC, 1 min after the start of the run; 10 min late)"
    )
    assert ": 1 task is late: deploy" in alert_text(run, late[1:], NOW)
