"""Leases: one process computes a result while the others wait for it.

A lease only saves work; no result depends on it. Results are content-addressed and committed as a whole, so two
processes that compute the same result do no harm. Two processes can hold one lease in three cases: the holder
paused longer than `TTL_SECONDS`; two waiters took over an expired lease at once; the S3 server has no conditional
writes.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ml_pipelines._utils.process import has_ended, process_identity
from ml_pipelines.errors import StoreUnavailable
from ml_pipelines.store.filesystems.base import FileSystem

__all__ = ["TTL_SECONDS", "hold_lease"]

log = logging.getLogger(__name__)

TTL_SECONDS = 30.0
_FIRST_POLL_SECONDS = 0.05
_LAST_POLL_SECONDS = 1.0


@contextmanager
def hold_lease(
    files: FileSystem, name: str, *, appeared: Callable[[], bool], ttl_seconds: float = TTL_SECONDS
) -> Iterator[bool]:
    """Hold a lease, or wait until its holder has produced the result.

    A waiter takes over a lease that was not renewed for `ttl_seconds`, or whose process ran on this host and has ended.
    The waiter measures the age by its own clock, so the clocks of hosts need not agree.

    Args:
        files: file system of the leases.
        name: name of the lease's file.
        appeared: returns whether the result exists; called at every poll.
        ttl_seconds: lifetime of a lease that is not renewed.

    Yields:
        True if the lease is held, False if the result has appeared.

    Raises:
        StoreUnavailable: the lease can't be read or written.
    """
    token = secrets.token_hex(16)
    if not _acquire(files, name, token, appeared, ttl_seconds):
        yield False
        return
    done = threading.Event()
    renewer = threading.Thread(target=_renew, args=(files, name, token, done, ttl_seconds / 3), daemon=True)
    renewer.start()
    try:
        yield True
    finally:
        done.set()
        renewer.join()
        _release(files, name, token)


def _acquire(files: FileSystem, name: str, token: str, appeared: Callable[[], bool], ttl_seconds: float) -> bool:
    pause, jitter = _FIRST_POLL_SECONDS, 0.5 + int(token[:4], 16) / 0x20000
    last, since = b"", time.monotonic()
    while not files.create(name, _lease(token, 0)):
        if appeared():
            return False
        lease = files.read(name)
        if _field(lease or b"", "token") == token:
            return True  # its first answer was lost, and the client of the store sent the request again
        if lease != last:
            last, since = lease or b"", time.monotonic()
        if lease is not None and (time.monotonic() - since > ttl_seconds or has_ended(_field(lease, "owner"))):
            log.info("lease %s of %s has expired; taking it over", name, _field(lease, "owner") or "an unknown process")
            _delete_expired(files, name, lease)
            continue
        time.sleep(pause * jitter)
        pause = min(_LAST_POLL_SECONDS, pause * 1.5)
    return True


def _delete_expired(files: FileSystem, name: str, expired: bytes) -> None:
    # Another waiter may have taken it over since it was read.
    if files.read(name) == expired:
        files.delete(name)


def _renew(files: FileSystem, name: str, token: str, done: threading.Event, every_seconds: float) -> None:
    beat = 0
    while not done.wait(every_seconds):
        beat += 1
        try:
            if not _is_held_by(files, name, token):
                return
            files.write(name, _lease(token, beat))
        except StoreUnavailable as exc:
            # If the store stays unavailable, the step itself raises the error.
            log.warning("lease %s could not be renewed: %s", name, exc)


def _release(files: FileSystem, name: str, token: str) -> None:
    try:
        if _is_held_by(files, name, token):
            files.delete(name)
    except StoreUnavailable as exc:
        # The result is stored, or another error is being raised; the lease expires.
        log.warning("lease %s could not be released: %s", name, exc)


def _is_held_by(files: FileSystem, name: str, token: str) -> bool:
    return _field(files.read(name) or b"", "token") == token


def _lease(token: str, beat: int) -> bytes:
    return json.dumps({"owner": process_identity(), "token": token, "beat": beat}).encode()


def _field(lease: bytes, field: str) -> str:
    """Return a field of a lease; empty if it can't be read, as after a kill of the process that wrote it."""
    try:
        return str(json.loads(lease)[field])
    except (ValueError, LookupError, TypeError):
        return ""
