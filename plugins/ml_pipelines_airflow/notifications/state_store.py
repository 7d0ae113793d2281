"""The store of run states: documents in the artifact store, shared by all processes that run callbacks.

Callbacks run in task processes on several workers, in the DAG processor and in the triggerer. One lease, held for a
moment, protects changes of the document. Another lease lets one process at a time send messages about a run: an event
that arrives meanwhile is stored at once, and the sending process delivers it too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.open import open_filesystem
from ml_pipelines.store.layout import lease_name, parse_document, pending_folder, quote_name, run_state_folder
from ml_pipelines.store.lease import hold_lease
from ml_pipelines_airflow.notifications.events import Destination, Event, RunReference
from ml_pipelines_airflow.notifications.run_state import Delivery, RunState, apply_event, same_events

__all__ = ["RunStateStore", "pending_runs"]

_LEASE_SECONDS = 10.0
_WAIT_SECONDS = 15.0


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
        self._name = f"{run_state_folder(run.dag_id, run.run_id, place)}/state.json"
        self._pending_name = f"{pending_folder(place)}/{quote_name(self._key)}.json"

    @classmethod
    def at(cls, uri: str, run: RunReference, destination: Destination) -> RunStateStore:
        """Open the artifact store of a URI.

        Raises:
            RequestError: the URI names no store.
        """
        return cls(open_filesystem(uri), run, destination)

    def read(self) -> RunState | None:
        """Return the stored state, None before the first event."""
        return parse_document(self.files.read(self._name), RunState)

    def add(self, event: Event) -> bool:
        """Apply an event. Return False, without waiting for a lease, if the state contains it already."""
        state = self.read()
        if state is not None and apply_event(state, event) is state:
            return False
        # After the time limit the event is written without the lease: a lost event is better than a task that hangs.
        with self._lease("run-state", _WAIT_SECONDS):
            state = self.read()
            new = apply_event(state, event)
            if new is state:
                return False
            if new.end:
                self.files.write(self._pending_name, self.run.model_dump_json().encode())
            self._write(new)
        return True

    def record(self, sent: RunState, delivery: Delivery, *, complete: bool) -> None:
        """Store what Slack has received; only for the process that holds :meth:`sending`.

        Args:
            sent: the state that was sent.
            delivery: what Slack has received by now.
            complete: whether the message shows all of `sent`.
        """
        with self._lease("run-state", _WAIT_SECONDS):
            state = self.read() or sent
            if state.delivery != delivery:
                self._write(state.model_copy(update={"delivery": delivery}))
            if complete and sent.end and same_events(state, sent):
                self.files.delete(self._pending_name)

    @contextmanager
    def sending(self, seconds: float) -> Iterator[bool]:
        """Hold the right to send messages about the run; False if another process holds it after some seconds."""
        with self._lease("send", seconds) as acquired:
            yield acquired

    @contextmanager
    def _lease(self, kind: str, seconds: float) -> Iterator[bool]:
        end = time.monotonic() + seconds
        name = lease_name(kind, self._key)
        with hold_lease(
            self.files, name, appeared=lambda: time.monotonic() > end, ttl_seconds=_LEASE_SECONDS
        ) as acquired:
            yield acquired

    def _write(self, state: RunState) -> None:
        self.files.write(self._name, state.model_dump_json().encode())


def pending_runs(store: RunStateStore) -> Iterator[RunStateStore]:
    """Yield the stores of other runs of the same destination whose end was not delivered, oldest first."""
    folder = pending_folder(_place(store.destination))
    for entry in sorted(store.files.entries(folder), key=lambda entry: entry.modified):
        run = parse_document(store.files.read(entry.name), RunReference)
        if run is not None and run != store.run:
            yield RunStateStore(store.files, run, store.destination)


def _place(destination: Destination) -> str:
    return f"{destination.connection} {destination.channel}".strip()
