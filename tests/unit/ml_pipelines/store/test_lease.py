"""One works, the others wait."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import pytest

from ml_pipelines._utils.process import process_identity
from ml_pipelines.errors import StoreUnavailable
from ml_pipelines.store import lease
from ml_pipelines.store.filesystems.local import LocalFileSystem
from ml_pipelines.store.lease import TTL_SECONDS, hold_lease

WORKERS = Path(__file__).with_name("store_workers.py")
NAME = "leases/split/key.json"


@pytest.fixture
def files(tmp_path: Path) -> LocalFileSystem:
    return LocalFileSystem(str(tmp_path))


def never() -> bool:
    return False


def lease_of_another_host(beat: int = 0) -> bytes:
    return json.dumps({"owner": "elsewhere-1~1~1", "token": "theirs", "beat": beat}).encode()


class Watched(LocalFileSystem):
    """Tells each time that somebody has found the lease taken."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.refused: Queue[str] = Queue()

    def create(self, name: str, data: bytes) -> bool:
        created = super().create(name, data)
        if not created:
            self.refused.put(json.loads(data)["token"])
        return created


class Clock:
    """Stands in for the module `time`: nobody has to wait for a pause to pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


def test_the_holder_is_named_and_the_lease_is_given_back(files: LocalFileSystem) -> None:
    with hold_lease(files, NAME, appeared=never) as held:
        assert held
        written = json.loads(files.read(NAME) or b"")
        assert written["owner"] == process_identity()
        assert len(written["token"]) == 32
    assert files.read(NAME) is None


def test_the_lease_is_given_back_after_an_error(files: LocalFileSystem) -> None:
    with pytest.raises(ZeroDivisionError), hold_lease(files, NAME, appeared=never):
        _ = 1 / 0
    assert files.read(NAME) is None


def test_only_one_at_a_time_holds_it(tmp_path: Path) -> None:
    files = Watched(str(tmp_path))
    entered: list[int] = []

    def work(number: int) -> bool:
        with hold_lease(files, NAME, appeared=never) as held:
            entered.append(number)
            if len(entered) == 1:
                waiting: set[str] = set()
                while len(waiting) < 7:
                    waiting.add(files.refused.get(timeout=30))
                assert entered == [number], "somebody else got in"
            return held

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [True] * 8
    assert sorted(entered) == list(range(8))


def test_a_waiter_goes_on_without_the_lease_when_what_it_waits_for_has_appeared(tmp_path: Path) -> None:
    files = Watched(str(tmp_path))
    there = threading.Event()

    def wait() -> bool:
        with hold_lease(files, NAME, appeared=there.is_set) as held:
            return held

    with hold_lease(files, NAME, appeared=never), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        assert files.refused.get(timeout=30)
        assert not waiting.done()
        there.set()
        assert waiting.result(10) is False
        assert files.read(NAME) is not None, "it took the lease away from its holder"


def test_a_lease_that_nobody_renews_is_taken_over(
    files: LocalFileSystem, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files.write(NAME, lease_of_another_host())
    with hold_lease(files, NAME, appeared=never) as held:
        assert held
        assert TTL_SECONDS < clock.now - 1000 <= TTL_SECONDS + 1
    assert "lease leases/split/key.json of elsewhere-1~1~1 has expired; taking it over" in caplog.text


def test_a_lease_that_is_renewed_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    beats = iter(range(1, 201))

    class Renewed(LocalFileSystem):
        def create(self, name: str, data: bytes) -> bool:
            if (beat := next(beats, None)) is None:
                self.delete(name)
            else:
                self.write(name, lease_of_another_host(beat))
            return super().create(name, data)

    with hold_lease(Renewed(str(tmp_path)), NAME, appeared=never) as held:
        assert held
    assert clock.now - 1000 > 2 * TTL_SECONDS
    assert next(beats, None) is None, "it did not wait until the lease was free"


def test_the_holder_renews_its_lease(tmp_path: Path) -> None:
    renewed = threading.Event()

    class Renewing(LocalFileSystem):
        def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
            super().write(name, data, durable=durable)
            if json.loads(data)["beat"] == 2:
                renewed.set()

    with hold_lease(Renewing(str(tmp_path)), NAME, appeared=never, ttl_seconds=0.3):
        assert renewed.wait(10)


def test_a_holder_that_has_lost_its_lease_leaves_it_to_the_new_one(tmp_path: Path) -> None:
    asked = threading.Event()

    class Asked(LocalFileSystem):
        def read(self, name: str) -> bytes | None:
            data = super().read(name)
            if data == lease_of_another_host():
                asked.set()
            return data

    files = Asked(str(tmp_path))
    with hold_lease(files, NAME, appeared=never, ttl_seconds=0.3):
        files.write(NAME, lease_of_another_host())
        assert asked.wait(10), "the renewer did not look"
    assert files.read(NAME) == lease_of_another_host()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_lease_that_cannot_be_read_lives_no_longer_than_others(
    files: LocalFileSystem, clock: Clock, text: bytes
) -> None:
    files.write(NAME, text)
    with hold_lease(files, NAME, appeared=never) as held:
        assert held
        assert TTL_SECONDS < clock.now - 1000 <= TTL_SECONDS + 1


def test_the_lease_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    command = [sys.executable, str(WORKERS), "hold", f"file://{tmp_path}"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        (left,) = (tmp_path / "leases").rglob("*.json")
        process.kill()
    name = left.relative_to(tmp_path).as_posix()
    started = time.monotonic()
    with hold_lease(LocalFileSystem(str(tmp_path)), name, appeared=never) as held:
        assert held
    assert time.monotonic() - started < TTL_SECONDS / 10


def test_a_store_that_goes_away_does_not_end_the_work(
    files: LocalFileSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Event()

    def unavailable(*_: object, **__: object) -> bytes:
        tried.set()
        raise StoreUnavailable("the store can't be used", fix="see that it is there")

    with hold_lease(files, NAME, appeared=never, ttl_seconds=0.3):
        monkeypatch.setattr(files, "read", unavailable)
        assert tried.wait(10)
    assert f"lease {NAME} could not be renewed: the store can't be used" in caplog.text
    assert f"lease {NAME} could not be released: the store can't be used" in caplog.text


class AnswerLost(LocalFileSystem):
    """A file system that sends a request again after a lost answer."""

    def create(self, name: str, data: bytes) -> bool:
        super().create(name, data)
        return super().create(name, data)


def test_a_lease_whose_first_answer_was_lost_is_held(tmp_path: Path) -> None:
    started = time.monotonic()
    with hold_lease(AnswerLost(str(tmp_path)), NAME, appeared=never) as held:
        assert held
    assert time.monotonic() - started < TTL_SECONDS / 2
