from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_pipelines_airflow.notifications.events import Destination, Event, RunEvent, RunReference, TaskEvent
from ml_pipelines_airflow.notifications.run_state import Delivery
from ml_pipelines_airflow.notifications.state_store import RunStateStore, pending_runs

RUN = RunReference(dag_id="churn", run_id="r1", url="http://airflow/r1")
OTHER = RunReference(dag_id="churn", run_id="r2", url="http://airflow/r2")
DESTINATION = Destination("slack_api_default", "#ml")
FAILURE = TaskEvent(run=RUN, task="train", state="failed")
END = RunEvent(run=RUN, state="failed", at=datetime(2026, 11, 22, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path) -> RunStateStore:
    return RunStateStore.at(f"file://{tmp_path}", RUN, DESTINATION)


@pytest.fixture
def other(tmp_path: Path) -> RunStateStore:
    return RunStateStore.at(f"file://{tmp_path}", OTHER, DESTINATION)


def test_add_stores_an_event_once(store: RunStateStore) -> None:
    assert store.read() is None
    assert store.add(FAILURE)
    assert not store.add(FAILURE)
    state = store.read()
    assert state is not None
    assert list(state.tasks) == ["train"]


def test_add_marks_an_ended_run_as_pending(store: RunStateStore, other: RunStateStore) -> None:
    store.add(FAILURE)
    assert list(pending_runs(other)) == []
    store.add(END)
    assert [pending.run for pending in pending_runs(other)] == [RUN]
    assert list(pending_runs(store)) == []  # the run itself is not among the others


def test_record_keeps_events_that_arrive_while_sending(store: RunStateStore, other: RunStateStore) -> None:
    store.add(FAILURE)
    sent = store.read()
    assert sent is not None
    store.add(END)
    store.record(sent, Delivery(ts="1"), complete=True)
    state = store.read()
    assert state is not None
    assert (state.delivery.ts, state.end) == ("1", END)
    assert [pending.run for pending in pending_runs(other)] == [RUN]


def test_record_ends_the_pending_state_after_the_end_was_sent(store: RunStateStore, other: RunStateStore) -> None:
    store.add(END)
    sent = store.read()
    assert sent is not None
    store.record(sent, Delivery(), complete=False)
    assert list(pending_runs(other))
    store.record(sent, Delivery(ts="1"), complete=True)
    assert not list(pending_runs(other))


def test_sending_is_exclusive(store: RunStateStore) -> None:
    with store.sending(0.1) as first, store.sending(0.1) as second:
        assert (first, second) == (True, False)


def test_callbacks_that_overlap_lose_no_event(
    store: RunStateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RunStateStore._read_events
    concurrent = RunStateStore.at(f"file://{tmp_path}", RUN, DESTINATION)

    def read_before_the_other_writes(self: RunStateStore) -> dict[str, Event]:
        events = dict(read(self))
        if self is store and not events:
            concurrent.add(END)
        return events

    with monkeypatch.context() as patch:
        patch.setattr(RunStateStore, "_read_events", read_before_the_other_writes)
        store.add(FAILURE)
    state = RunStateStore.at(f"file://{tmp_path}", RUN, DESTINATION).read()
    assert state is not None
    assert (list(state.tasks), state.end) == (["train"], END)


def test_an_end_whose_callback_is_interrupted_is_pending_with_its_event(
    store: RunStateStore, other: RunStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.files.write

    def interrupted(name: str, data: bytes, *, durable: bool = False) -> None:
        if "/events/" in name:
            raise KeyboardInterrupt
        write(name, data, durable=durable)

    monkeypatch.setattr(store.files, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.add(END)
    (pending,) = pending_runs(other)
    state = pending.read()
    assert state is not None
    assert state.end == END
