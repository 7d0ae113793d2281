"""A simulated disk or bucket that processes share, and its file system as one process sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from tests.simulation.scheduler import Scheduler

from ml_pipelines.errors import StoreUnavailable
from ml_pipelines.store.filesystems.base import FileInfo

__all__ = ["Disk", "SimulatedFiles"]

_Result = TypeVar("_Result")

# No result depends on what these names show, so their readers may see an earlier state, as on a network file system.
_MAY_BE_STALE = ("leases/", "manifests/", "runs/", "published/")


@dataclass(slots=True)
class Disk:
    """Files by name with their times.

    Attributes:
        scheduler: decides what happens between two requests.
        wall: the time of the disk's server.
        atomic_create: whether a new file appears with its content, as in a bucket; else it is empty for a moment.
        files: the files.
        earlier: the bytes before the last change of each file.
    """

    scheduler: Scheduler
    wall: Callable[[], datetime]
    atomic_create: bool = True
    files: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    earlier: dict[str, bytes | None] = field(default_factory=dict)

    def put(self, name: str, data: bytes) -> None:
        """Replace a file as a whole."""
        self.earlier[name] = self.content(name)
        self.files[name] = (data, self.wall())

    def remove(self, name: str) -> None:
        """Delete a file."""
        self.earlier[name] = self.content(name)
        self.files.pop(name, None)

    def content(self, name: str) -> bytes | None:
        """Return the bytes of a file."""
        file = self.files.get(name)
        return file[0] if file else None


class SimulatedFiles:
    """:class:`ml_pipelines.store.filesystems.base.FileSystem` on a simulated disk."""

    uri = "file:///simulated"

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._scheduler = disk.scheduler

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file."""
        data = self._request(f"read {name}", lambda: self.disk.content(name))
        scheduler = self._scheduler
        if name in self.disk.earlier and name.startswith(_MAY_BE_STALE) and scheduler.is_faulty("stale"):
            return self.disk.earlier[name]
        return data

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Replace a file as a whole."""
        self._request(f"write {name}", lambda: self.disk.put(name, data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists."""
        if self.disk.atomic_create:
            return self._request(f"create {name}", lambda: self._create(name, data))
        if not self._request(f"create {name}", lambda: self._create(name, b""), repeat=False):
            return False
        opened = self.disk.files.get(name)
        self._scheduler.pause(f"fill {name}")
        if self.disk.files.get(name) is opened:  # else the name is gone, and the open file has no name
            self.disk.put(name, data)
        return True

    def _create(self, name: str, data: bytes) -> bool:
        if name in self.disk.files:
            return False
        self.disk.put(name, data)
        return True

    def move_in(self, path: str, name: str) -> None:
        """Not simulated: no step of the simulation writes a local file."""
        raise NotImplementedError

    def local(self, name: str, directory: str) -> str | None:
        """Not simulated: no step of the simulation reads a local file."""
        raise NotImplementedError

    def stat(self, name: str) -> FileInfo | None:
        """Return size and time of a file."""
        if self._is_pruning():
            self._scheduler.pause(f"stat {name}")
            return self._info(name)
        return self._request(f"stat {name}", lambda: self._info(name))

    def _info(self, name: str) -> FileInfo | None:
        file = self.disk.files.get(name)
        return FileInfo(name, len(file[0]), file[1]) if file else None

    def entries(self, folder: str) -> Iterator[FileInfo]:
        """Return the files below a folder: a listing page by page, while others write."""
        names = self._request(f"list {folder}", lambda: [name for name in self.disk.files if _is_below(name, folder)])
        for name in names:
            if entry := self._info(name):
                yield entry

    def touch(self, name: str) -> None:
        """Renew the time of a file."""
        self._request(f"touch {name}", lambda: self._touch(name))

    def _touch(self, name: str) -> None:
        if name in self.disk.files:
            self.disk.files[name] = (self.disk.files[name][0], self.disk.wall())

    def delete(self, name: str) -> None:
        """Delete a file."""
        if self._is_pruning():
            self.disk.remove(name)
            self._scheduler.pause(f"delete {name} answered")
        else:
            self._request(f"delete {name}", lambda: self.disk.remove(name))

    def _is_pruning(self) -> bool:
        # Retention looks at an object, then deletes it. No file system closes the gap between these two requests, so a
        # result that is stored in the gap is computed again. The simulation starts from the look.
        current = self._scheduler.current
        return current is not None and current.process.name.startswith("prune")

    def scratch(self) -> AbstractContextManager[str]:
        """Return no directory: no step of the simulation uses local files."""
        return nullcontext("")

    def _request(self, label: str, effect: Callable[[], _Result], *, repeat: bool = True) -> _Result:
        return self._scheduler.request(label, effect, StoreUnavailable, repeat=repeat)


def _is_below(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")
