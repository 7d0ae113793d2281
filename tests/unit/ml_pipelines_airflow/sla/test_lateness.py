from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines_airflow.notifications.events import LateTask
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

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STATES = [
    None,
    *("scheduled", "queued", "running", "success", "restarting", "failed", "up_for_retry", "up_for_reschedule"),
    *("upstream_failed", "skipped", "deferred", "removed", "awaiting_input"),
]
# ingest -> train[0], train[1] -> evaluate -> deploy
PLAN = Plan(
    {"ingest": 60.0, "train": 60.0, "evaluate": 60.0, "deploy": 120.0},
    {"train": ["ingest"], "evaluate": ["train"], "deploy": ["evaluate"]},
)


def a_run(**states: str | None) -> list[Instance]:
    """A run of the plan: `train_1="running"` is the state of the second mapped instance of `train`."""
    default: dict[str, str | None] = {"ingest": "success", "train_0": "success", "train_1": "success"}
    return instances(list(PLAN.slas), {**default, "evaluate": None, "deploy": None, **states})


def names(found: list[Instance]) -> list[str]:
    return [each.name for each in found]


def one(known: list[Instance], name: str) -> Instance:
    (found,) = [each for each in known if each.name == name]
    return found


def running_for(seconds: float) -> Timing:
    return Timing(NOW - timedelta(seconds=seconds), None)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Plan, list[Instance], float]:
    number = draw(st.integers(1, 7))
    upstream = {
        f"t{task}": [f"t{above}" for above in sorted(draw(st.sets(st.integers(0, task - 1), max_size=3)))]
        for task in range(1, number)
    }
    slas = draw(st.dictionaries(st.sampled_from([f"t{task}" for task in range(number)]), st.sampled_from([1.0, 5.0])))
    known = [
        Instance(f"t{task}", index, draw(st.sampled_from(STATES)))
        for task in range(number)
        for index in (range(draw(st.integers(1, 3))) if draw(st.booleans()) else [-1])
    ]
    return Plan(slas, upstream), known, draw(st.sampled_from([0.5, 1.0, 3.0, 5.0]))


@given(runs())
def test_what_is_told_is_unfinished_past_due_and_told_once(run: tuple[Plan, list[Instance], float]) -> None:
    plan, known, elapsed = run
    late = late_instances(plan, known, elapsed=elapsed)
    assert len(set(names(late))) == len(late)
    for each in late:
        assert each.state not in FINISHED | {"awaiting_input"}
        assert plan.slas[each.task] <= elapsed


@given(runs())
def test_what_is_not_told_is_in_time_or_waits_for_a_person(run: tuple[Plan, list[Instance], float]) -> None:
    plan, known, elapsed = run
    asked = {each.task for each in known if each.state == "awaiting_input"}
    for each in set(known) - set(late_instances(plan, known, elapsed=elapsed)):
        assert (
            each.state in FINISHED | {"awaiting_input"}
            or plan.slas.get(each.task, 99) > elapsed
            or (each.state is None and asked & set(plan.before(each.task)))
        )


@given(runs())
def test_suspects_come_before_and_are_at_fault(run: tuple[Plan, list[Instance], float]) -> None:
    plan, known, elapsed = run
    for late in late_instances(plan, known, elapsed=elapsed):
        found = suspects(plan, known, late)
        assert {each.task for each in found} <= set(plan.before(late.task))
        unfinished = {e.task for e in known if e.task in plan.before(late.task) and e.state not in FINISHED}
        if unfinished:
            assert found
            assert {each.task for each in found} <= unfinished
            assert all(unfinished.isdisjoint(plan.before(each.task)) for each in found)
        else:
            assert {each.state for each in found} <= {"success", "failed"}


@given(st.data())
def test_instances_are_told_from_tasks_of_the_same_name(data: st.DataObject) -> None:
    parts = st.sampled_from(["a", "b", "0", "1", "12"])
    tasks = data.draw(st.lists(st.lists(parts, min_size=1, max_size=4).map("_".join), unique=True, max_size=8))
    expected = {
        Instance(task, index, f"{task}.{index}")
        for task in tasks
        for index in data.draw(st.just([-1]) | st.lists(st.integers(0, 20), unique=True, max_size=4))
    }
    found = []
    for group in apart(tasks):
        mine = [each for each in expected if each.task in group]
        keys = {e.task if e.map_index < 0 else f"{e.task}_{e.map_index}": e.state for e in mine}
        assert len(keys) == len(mine)
        found += instances(group, keys)
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert len(apart(tasks)) <= 2


def test_tasks_with_numbers_in_their_names_are_asked_for_at_once() -> None:
    assert apart([f"shard_{number}" for number in range(20)]) == [sorted(f"shard_{number}" for number in range(20))]
    assert apart(["train", "train_1", "train_1_0"]) == [["train", "train_1_0"], ["train_1"]]


def test_every_task_of_a_plan_is_asked_for() -> None:
    assert Plan({"b": 1.0}, {"b": ["a"]}).tasks == {"a", "b"}
    assert list(PLAN.before("deploy")) == ["evaluate", "train", "ingest"]


def test_only_the_mapped_instance_that_is_late_is_told() -> None:
    known = a_run(train_1="running")
    assert names(late_instances(PLAN, known, elapsed=60)) == ["evaluate", "train[1]"]
    assert names(late_instances(PLAN, known, elapsed=120)) == ["deploy", "evaluate", "train[1]"]
    assert late_instances(PLAN, known, elapsed=59.9) == []


def test_a_task_that_waits_for_a_person_and_what_it_holds_up_are_not_late() -> None:
    assert names(late_instances(PLAN, a_run(evaluate="awaiting_input"), elapsed=999)) == []
    assert names(late_instances(PLAN, a_run(ingest="awaiting_input", train_0=None, train_1=None), elapsed=999)) == []
    assert names(late_instances(PLAN, a_run(train_0="awaiting_input", train_1="running"), elapsed=999)) == ["train[1]"]
    assert names(late_instances(PLAN, a_run(ingest="awaiting_input", evaluate="running"), elapsed=999)) == ["evaluate"]


def test_a_task_that_waits_for_a_machine_is_late() -> None:
    assert names(late_instances(PLAN, a_run(evaluate="deferred"), elapsed=60)) == ["evaluate"]


def test_in_a_failed_run_the_failed_can_be_told() -> None:
    known = a_run(train_1="failed", evaluate="upstream_failed", deploy="upstream_failed")
    assert late_instances(PLAN, known, elapsed=999) == []
    finished = FINISHED - FAILED
    late = late_instances(PLAN, known, elapsed=999, finished=finished)
    assert names(late) == ["deploy", "evaluate", "train[1]"]
    found = suspects(PLAN, known, late[0], finished=finished)
    assert blame(late[0], found, {}, NOW, finished=finished) == "train[1] failed"


@pytest.mark.parametrize(
    ("states", "timings", "expected"),
    [
        ({"train_1": "running"}, {"train[1]": running_for(25)}, "train[1] has been running for 25 s"),
        ({"train_1": "running"}, {}, "train[1] is running"),
        ({"train_1": "up_for_retry"}, {"train[1]": running_for(5)}, "train[1] is up for retry"),
        ({"ingest": None, "train_0": None, "train_1": None}, {}, "ingest has not begun"),
        (
            {"train_0": "running", "train_1": "running"},
            {"train[0]": running_for(3), "train[1]": running_for(7)},
            "train[1] has been running for 7 s",
        ),
        ({"train_0": None, "train_1": "queued"}, {}, "train[1] is queued"),
        ({}, {"ingest": Timing(NOW, 11400.0), "train[0]": Timing(NOW, 3.0)}, "ingest took 3 h 10 min"),
        ({}, {}, None),
        ({"evaluate": "running"}, {"ingest": Timing(NOW, 10.0), "evaluate": running_for(20)}, None),
        ({"evaluate": "running"}, {"ingest": Timing(NOW, 30.0), "evaluate": running_for(20)}, "ingest took 30 s"),
        ({"ingest": "skipped"}, {"ingest": Timing(NOW, 30.0)}, None),
    ],
)
def test_who_used_the_time(states: dict[str, str | None], timings: dict[str, Timing], expected: str | None) -> None:
    known = a_run(**states)
    late = one(known, "evaluate")
    asked = {one(known, name): timing for name, timing in timings.items()}
    assert blame(late, suspects(PLAN, known, late), asked, NOW) == expected


def test_the_first_task_can_only_blame_itself() -> None:
    known = a_run(ingest="running")
    assert suspects(PLAN, known, one(known, "ingest")) == []
    assert blame(one(known, "ingest"), [], {}, NOW) is None


def test_the_sentence_says_everything() -> None:
    due = NOW - timedelta(minutes=10)
    late = [
        LateTask(task="train[1]", state="running", due=due, seen=due, sla_seconds=14400, blame="ingest took 3 h"),
        LateTask(task="deploy", state=None, due=due, seen=due, sla_seconds=60),
    ]
    run = {"dag_id": "churn", "dag_run_id": "manual__1"}
    assert sentence(run, late, NOW) == (
        "SLA missed in churn, run manual__1: 2 tasks are late: "
        "train[1] (running; due at 2026-11-22 11:50:00 UTC, 4 h after the run's start; 10 min late; ingest took 3 h), "
        "deploy (not begun; due at 2026-11-22 11:50:00 UTC, 1 min after the run's start; 10 min late)"
    )
    assert ": 1 task is late: deploy" in sentence(run, late[1:], NOW)
