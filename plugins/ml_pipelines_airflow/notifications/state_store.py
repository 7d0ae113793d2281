"""Where a run's story is kept between callbacks: a folder of the artifact store that all of them reach.

Callbacks run in task processes on several workers, in the DAG processor and in the triggerer. `story.json` is what is
known, changed under one lease, for a moment; `sent.json` is what Slack was told, changed under another by whoever is
talking to Slack. So a callback with news waits for nobody: if another is talking, that one tells the news as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ml_pipelines.contracts import Contract
from ml_pipelines.store.filesystems.base import Files
from ml_pipelines.store.filesystems.open import files_at
from ml_pipelines.store.layout import Document, lease_name, parsed, pending_folder, quoted, run_state_folder
from ml_pipelines.store.lease import hold
from ml_pipelines_airflow.notifications.events import Destination, Event, RunReference
from ml_pipelines_airflow.notifications.run_state import RunState, after

__all__ = ["Desk", "Sent", "Untold", "untold"]

_LEASE_SECONDS = 10.0
_STORY_SECONDS = 15.0


class Sent(Contract):
    """What Slack was told of a run.

    Attributes:
        channel: the channel's id, by which a message is changed.
        ts: Slack's name for the message; empty while there is none.
        digest: of what the message says.
        replies: keys of the replies in its thread.
        posted: what a webhook was told, which can't change a message.
        complaint: why it could not be told at some time, logged once.
        failed_at: when Slack last failed, seconds since the epoch; None if it did what it was last asked.
        lost_seconds: time that went into waiting for a Slack that did not answer.
    """

    channel: str = ""
    ts: str = ""
    digest: str = ""
    replies: tuple[str, ...] = ()
    posted: tuple[str, ...] = ()
    complaint: str = ""
    failed_at: float | None = None
    lost_seconds: float = 0.0


class Untold(Contract):
    """A run whose end is still to be told."""

    run: RunReference


class Desk:
    """What is kept of one run for one destination.

    Every method raises StoreUnavailable if the store can't be used.
    """

    def __init__(self, files: Files, run: RunReference, destination: Destination) -> None:
        self.files, self.run, self.destination = files, run, destination
        self._place = _place(destination)
        self._folder = run_state_folder(run.dag_id, run.run_id, self._place)
        self._key = "/".join((run.dag_id, run.run_id, self._place))

    @classmethod
    def at(cls, uri: str, run: RunReference, destination: Destination) -> Desk:
        """The desk in the store of a URI.

        Raises:
            RequestError: the URI names no store.
        """
        return cls(files_at(uri), run, destination)

    def story(self) -> RunState | None:
        """What is known."""
        return self._read("story", RunState)

    def sent(self) -> Sent:
        """What Slack was told."""
        return self._read("sent", Sent) or Sent()

    def keep(self, sent: Sent) -> None:
        """Write down what Slack was told; for who holds :meth:`talking`."""
        self._write("sent", sent)

    def note(self, news: Event) -> bool:
        """Add news to the story. False if it knew them, for which nobody has to wait."""
        known = self.story()
        if known is not None and after(known, news) is known:
            return False
        with self._lease("story", _STORY_SECONDS):
            # Without the lease after all that time too: a story with a hole is better than a task that hangs.
            known = self.story()
            told = after(known, news)
            if told is known:
                return False
            if told.over:
                self.files.write(self._untold, Untold(run=self.run).model_dump_json().encode())
            self._write("story", told)
        return True

    @contextmanager
    def talking(self, seconds: float) -> Iterator[bool]:
        """Be the one who talks to Slack about the run; False if another still does after some seconds."""
        with self._lease("talk", seconds) as mine:
            yield mine

    def done(self) -> None:
        """The run's end has been told."""
        self.files.delete(self._untold)

    @property
    def _untold(self) -> str:
        return f"{pending_folder(self._place)}/{quoted(self._key)}.json"

    @contextmanager
    def _lease(self, what: str, seconds: float) -> Iterator[bool]:
        end = time.monotonic() + seconds
        name = lease_name(what, self._key)
        with hold(self.files, name, appeared=lambda: time.monotonic() > end, ttl_seconds=_LEASE_SECONDS) as mine:
            yield mine

    def _read(self, name: str, kind: type[Document]) -> Document | None:
        return parsed(self.files.read(f"{self._folder}/{name}.json"), kind)

    def _write(self, name: str, document: Contract) -> None:
        self.files.write(f"{self._folder}/{name}.json", document.model_dump_json().encode())


def untold(desk: Desk) -> Iterator[Desk]:
    """The desks of other runs, of the same destination, whose end is still to be told; the oldest first."""
    place = _place(desk.destination)
    entries = sorted(desk.files.entries(pending_folder(place)), key=lambda entry: entry.modified)
    for entry in entries:
        found = parsed(desk.files.read(entry.name), Untold)
        if found is not None and found.run != desk.run:
            yield Desk(desk.files, found.run, desk.destination)


def _place(destination: Destination) -> str:
    return f"{destination.connection} {destination.channel}".strip()
