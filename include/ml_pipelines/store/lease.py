"""One works, the others wait: a courtesy that saves work. Nothing goes wrong without it.

Results are content-addressed and committed as a whole, so two workers that do make the same thing, do no harm. That
happens after a pause longer than `TTL_SECONDS` in the holder, if two waiters take over a dead holder's lease within
the same moment, and on an S3 server without conditional writes.
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
    """Hold the lease of a name, or wait until there is no need to.

    A lease that nobody has renewed for `ttl_seconds` is taken over, at once if its process was on this host and has
    ended. Age is what the waiter's own clock has seen pass, so clocks need not agree.

    Args:
        files: where leases are kept.
        name: of the lease's file.
        appeared: whether what the holder makes is there; asked at every poll.
        ttl_seconds: how long a lease lives without being renewed.

    Yields:
        True if the lease is held, False if what it is for has appeared.

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
    seen, since = b"", time.monotonic()
    while not files.create(name, _lease(token, 0)):
        if appeared():
            return False
        found = files.read(name)
        if found != seen:
            seen, since = found or b"", time.monotonic()
        if found is not None and (time.monotonic() - since > ttl_seconds or has_ended(_field(found, "owner"))):
            log.info("the lease %s of %s is dead: taken over", name, _field(found, "owner") or "nobody known")
            _take_away(files, name, found)
            continue
        time.sleep(pause * jitter)
        pause = min(_LAST_POLL_SECONDS, pause * 1.5)
    return True


def _take_away(files: FileSystem, name: str, dead: bytes) -> None:
    # Somebody else may have been faster, and the lease be theirs by now.
    if files.read(name) == dead:
        files.delete(name)


def _renew(files: FileSystem, name: str, token: str, done: threading.Event, every_seconds: float) -> None:
    beat = 0
    while not done.wait(every_seconds):
        beat += 1
        try:
            if not _is_mine(files, name, token):
                return
            files.write(name, _lease(token, beat))
        except StoreUnavailable as exc:
            # The work itself will tell, if the store stays away.
            log.warning("the lease %s could not be renewed: %s", name, exc)


def _release(files: FileSystem, name: str, token: str) -> None:
    try:
        if _is_mine(files, name, token):
            files.delete(name)
    except StoreUnavailable as exc:
        # The work is done, or its own error is on the way; the lease ends by itself.
        log.warning("the lease %s could not be given back: %s", name, exc)


def _is_mine(files: FileSystem, name: str, token: str) -> bool:
    return _field(files.read(name) or b"", "token") == token


def _lease(token: str, beat: int) -> bytes:
    return json.dumps({"owner": process_identity(), "token": token, "beat": beat}).encode()


def _field(lease: bytes, field: str) -> str:
    """A field of a lease, empty if it can't be read, as when its holder was killed while making it."""
    try:
        return str(json.loads(lease)[field])
    except (ValueError, LookupError, TypeError):
        return ""
