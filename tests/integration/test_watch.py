"""Runs after changes of files, in a process of its own: `ml-pipelines run --watch`."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import shop_rows

SECONDS = 150.0
WAITING = "waiting for a change"
CODE = 'def add(frame):\n    return frame.assign(ratio=frame["amount"] * {factor} + frame["visits"] ** 2)\n'


class Watch:
    """A watch whose output arrives line by line."""

    def __init__(self, shop: Any, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("ml-pipelines")), "run", str(shop.yaml), "--watch", *options]
        self.process = subprocess.Popen(
            [*command, "--store", str(shop.folder / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=shop.folder,
            env={**os.environ, "ML_PIPELINES_CODE_PACKAGES": "shop_watched"},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.put(line)

    def until(self, text: str = WAITING) -> str:
        """Return the output up to a line with a text."""
        output = ""
        while text not in output:
            try:
                output += self.lines.get(timeout=SECONDS)
            except queue.Empty:
                pytest.fail(f"no {text!r} after:\n{output}")
        return output

    def end(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self.reader.join(30)
        return code


@pytest.fixture
def shop_with_code(shop: Any) -> Any:
    shop.declare(model={"name": "watched", "task": "classification"}, features={"transform": "shop_watched:add"})
    (shop.folder / "shop_watched.py").write_text(CODE.format(factor=2))
    return shop


@pytest.fixture
def watch(shop_with_code: Any) -> Iterator[Watch]:
    started = Watch(shop_with_code)
    yield started
    started.end(signal.SIGKILL)


def computed(output: str) -> list[str]:
    return [line.split()[1].rstrip(",") for line in output.splitlines() if line.startswith("  computed: ")]


def test_each_change_runs_what_it_affects(watch: Watch, shop_with_code: Any) -> None:
    shop = shop_with_code
    steps = ["ingest", "check_quality", "preprocess", "split", "train[linear]", "evaluate"]
    output = watch.until()
    assert computed(output) == steps, output
    assert "UNTIL EVALUATE" in output
    # The sources have the same size, and may be written in the same second.
    (shop.folder / "shop_watched.py").write_text(CODE.format(factor=7))
    output = watch.until()
    assert "changed: shop_watched.py" in output
    assert computed(output) == ["preprocess", "train[linear]", "evaluate"], output
    assert "shop_watched.py changed in add" in output
    assert "metric: test " in output
    declared = json.loads(shop.yaml.read_text())
    shop.yaml.write_text(json.dumps(declared | {"gaet": {}}))
    output = watch.until()
    assert 'unknown field "gaet"' in output
    assert "Traceback" not in output
    shop.yaml.write_text(json.dumps(declared))
    output = watch.until()
    assert "difference: none in rows and metrics" in output
    shop.write(shop_rows(380))
    output = watch.until()
    assert "changed: shop.csv" in output
    assert "rows: table 400 -> 380 (-20)" in output
    assert computed(output)[0] == "ingest"
    assert shop.ledger.models() == ()
    assert watch.end(signal.SIGINT) == 0


def test_a_running_step_ends_with_the_watch(watch: Watch, shop_with_code: Any) -> None:
    watch.until("ingest")
    assert watch.end(signal.SIGTERM) == 0
    leases = shop_with_code.folder / "store" / "leases"
    assert [path for path in leases.rglob("*.json") if path.is_file()] == []


@pytest.mark.parametrize("option", ["--force", "--approve", "--run-id=monday"])
def test_options_without_effect_are_refused(shop: Any, option: str) -> None:
    done = shop.command("run", shop.yaml, "--watch", option)
    assert (done.code, done.out) == (2, "")
    assert "have no effect" in " ".join(done.err.replace("│", " ").split())
