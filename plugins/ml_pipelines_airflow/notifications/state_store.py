"""The store of run states: documents in the artifact store, shared by all processes that run callbacks.

Callbacks run in task processes on several workers, in the DAG processor and in the triggerer. Each event is a document
of its own, so no callback can overwrite the event of another one. A lease lets one process at a time send messages
about a run: an event that arrives meanwhile is stored at once, and the sending process delivers it too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ml_pipelines._utils.canonical_json import sha256_hex
from ml_pipelines.contracts import Contract
from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.open import open_filesystem
from ml_pipelines.store.layout import lease_name, parse_document, pending_folder, run_state_folder
from ml_pipelines.store.lease import hold_lease
from ml_pipelines_airflow.notifications.events import Destination, Event, RunEvent, RunReference
from ml_pipelines_airflow.notifications.run_state import Delivery, RunState, apply_event, state_from_events

__all__ = ["RunStateStore", "pending_runs"]

_LEASE_SECONDS = 10.0


class _StoredEvent(Contract):
    event: Event


class RunStateStore:
    """The state of one run for one destination. Every method raises StoreUnavailable if the store can't be used.

    Args:
        files: file system of the artifact store.
        run: identity of the run.
        destination: channel that receives messages about the run.
    """

    def __init__(self, files: FileSystem, run: RunReference, destination: Destination) -> None:
        self.files, self.run, self.destination = files, run, destination
        place = _place(destination)
        self._key = "/".join((run.dag_id, run.run_id, place))
        self._folder = run_state_folder(run.dag_id, run.run_id, place)
        self._pending = pending_folder(place)
        self._events: dict[str, Event] = {}

    @classmethod
    def at(cls, uri: str, run: RunReference, destination: Destination) -> RunStateStore:
        """Open the artifact store of a URI.

        Raises:
            RequestError: the URI names no store.
        """
        return cls(open_filesystem(uri), run, destination)

    def read(self) -> RunState | None:
        """Return the stored state, None before the first event."""
        delivery = parse_document(self.files.read(f"{self._folder}/delivery.json"), Delivery)
        return state_from_events(self._read_events().values(), delivery or Delivery())

    def add(self, event: Event) -> bool:
        """Store an event. Return False if the state does not change."""
        events = self._read_events().values()
        if state_from_events([*events, event]) == state_from_events(events):
            return False
        document = _StoredEvent(event=event).model_dump_json().encode()
        name = f"{sha256_hex(document)}.json"
        if isinstance(event, RunEvent):
            # First: if the callback is interrupted here, the next run sends this end.
            self.files.write(f"{self._pending}/{name}", document)
        self.files.write(f"{self._folder}/events/{name}", document)
        self._events[name] = event
        return True

    def record(self, sent: RunState, delivery: Delivery, *, complete: bool) -> None:
        """Store what Slack has received; only for the process that holds :meth:`sending`.

        Args:
            sent: the state that was sent.
            delivery: what Slack has received by now.
            complete: whether the message shows all of `sent`.
        """
        if delivery != sent.delivery:
            self.files.write(f"{self._folder}/delivery.json", delivery.model_dump_json().encode())
        if not complete:
            return
        for name, event in self._events.items():
            if isinstance(event, RunEvent) and apply_event(sent, event) is sent:
                self.files.delete(f"{self._pending}/{name}")

    @contextmanager
    def sending(self, seconds: float) -> Iterator[bool]:
        """Hold the right to send messages about the run; False if another process holds it after some seconds."""
        end = time.monotonic() + seconds
        name = lease_name("send", self._key)
        with hold_lease(
            self.files, name, appeared=lambda: time.monotonic() > end, ttl_seconds=_LEASE_SECONDS
        ) as acquired:
            yield acquired

    def _read_events(self) -> dict[str, Event]:
        """Return the events by the name of their document. A document never changes, so it is read once."""
        for entry in self.files.entries(f"{self._folder}/events"):
            name = entry.name.rpartition("/")[2]
            if name not in self._events and (stored := parse_document(self.files.read(entry.name), _StoredEvent)):
                self._events[name] = stored.event
        return self._events


def pending_runs(store: RunStateStore) -> Iterator[RunStateStore]:
    """Yield the stores of other runs of the same destination whose end was not delivered, oldest first.

    An end whose callback was interrupted is added to its run.
    """
    entries = store.files.entries(pending_folder(_place(store.destination)))
    for entry in sorted(entries, key=lambda entry: entry.modified):
        stored = parse_document(store.files.read(entry.name), _StoredEvent)
        if stored is not None and stored.event.run != store.run:
            other = RunStateStore(store.files, stored.event.run, store.destination)
            other.add(stored.event)
            yield other


def _place(destination: Destination) -> str:
    return f"{destination.connection} {destination.channel}".strip()
