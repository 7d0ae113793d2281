"""`make demo` and `make ui` with the shipped pipeline and data in an empty workspace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from tests.integration.processes import find_free_port, stop_processes

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(1200)]

CHECKOUT = Path(__file__).parents[3]
COMPUTING = (
    "ingest",
    "check_quality",
    "preprocess",
    "split",
    "train[logistic_regression]",
    "train[random_forest]",
    "train[boosted_trees]",
    "evaluate",
    "decide",
)
SECONDS = 240
"""Timeout of the start of the UI, for busy machines."""


@dataclass(frozen=True)
class DemoRun:
    """A run of the demo."""

    code: int
    text: str
    seconds: float

    @property
    def steps(self) -> dict[str, str]:
        """The status of each step."""
        return dict(re.findall(r"^  (\S+) +(cached|computed|published) +[\d.]+ s$", self.text, re.MULTILINE))


class Demo:
    def __init__(self, workspace: Path, port: int) -> None:
        self.workspace = workspace
        self.command = [sys.executable, "-m", "ml_pipelines_airflow.local.demo"]
        self.command += ["--workspace", str(workspace), "--port", str(port)]
        self.environment = {**os.environ, "COLUMNS": "120"}
        self.runs: dict[str, DemoRun] = {}

    def run(self, name: str, *options: str) -> None:
        started = time.monotonic()
        process = subprocess.run(
            [*self.command, *options],
            cwd=CHECKOUT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.runs[name] = DemoRun(process.returncode, process.stdout, time.monotonic() - started)
        (self.workspace / f"{name}.txt").write_text(f"{process.stdout}\n{self.runs[name].seconds:.1f} s\n")

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations of all runs, ordered by the size of the test set."""
        manifests = [
            json.loads(path.read_text()) for path in (self.workspace / "store/manifests/evaluate").glob("*.json")
        ]
        paths = {manifest["outputs"]["evaluation"]["uri"].removeprefix("file://") for manifest in manifests}
        return sorted(
            (json.loads(Path(path).read_text()) for path in paths), key=lambda evaluation: evaluation["rows"]["test"]
        )

    def processes(self, sessions: Collection[int] = ()) -> list[psutil.Process]:
        """Return all processes of the workspace or of one of the sessions."""
        processes = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                home = process.environ().get("AIRFLOW_HOME")
                if home == str(self.workspace / "airflow") or os.getsid(process.pid) in sessions:
                    processes.append(process)
        return processes


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    demo = Demo(tmp_path_factory.mktemp("demo"), find_free_port())
    demo.run("first")
    demo.run("again")
    demo.run("next_month", "--data", "2026-11")
    demo.run("unknown", "--data", "2026-12")
    return demo


def test_first_run_promotes_a_model(demo: Demo) -> None:
    first = demo.runs["first"]
    assert first.code == 0, first.text
    assert "customer-churn-model: PROMOTED" in first.text
    assert {step: first.steps[step] for step in COMPUTING} == dict.fromkeys(COMPUTING, "computed")
    assert "version 1 is @champion" in first.text
    assert "make demo DATA=2026-11" in first.text


def test_second_run_computes_nothing(demo: Demo) -> None:
    again = demo.runs["again"]
    assert again.code == 0, again.text
    assert "customer-churn-model: NO CHANGE" in again.text
    assert again.steps == {
        "ingest": "cached",
        "compare_with_champion": "published",
        "record_decision": "published",
    }
    assert "nothing has changed since version 1, the champion" in " ".join(again.text.split())


def test_next_delivery_is_compared_with_the_champion(demo: Demo) -> None:
    run = demo.runs["next_month"]
    assert run.code == 0, run.text
    assert "champion" in run.text
    assert "5,000 = 5,000 kept + 0 quarantined" in run.text
    assert "customer-churn-model: PROMOTED" in run.text
    assert [step for step in COMPUTING if run.steps[step] != "computed"] == []


def test_winner_is_much_better_than_the_dummy(demo: Demo) -> None:
    small, large = demo.evaluations()
    for evaluation in (small, large):
        (winner,) = [row for row in evaluation["candidates"] if row["candidate"] == evaluation["winner"]]
        assert winner["test"]["roc_auc"] >= 0.90
        assert winner["test"]["average_precision"] >= 0.80
        dummy = evaluation["dummy"]["test"]
        # Six of seven customers stay. A constant prediction does not rank.
        assert dummy["accuracy"] == pytest.approx(0.859, abs=0.03)
        assert dummy["roc_auc"] == pytest.approx(0.5)
        assert dummy["average_precision"] < 0.2
    assert small["champion"] is None
    assert large["champion"]["error"] is None


def test_unknown_delivery_is_an_error_without_a_traceback(demo: Demo) -> None:
    unknown = demo.runs["unknown"]
    assert unknown.code == 1
    assert unknown.text.startswith("the delivery '2026-12' does not exist\n")


@pytest.fixture
def ui(demo: Demo) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = demo.workspace / "ui.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            # A shell starts a background process in this way, with SIGINT ignored.
            ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *demo.command, "--ui"],
            cwd=CHECKOUT,
            env=demo.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process, log
    stop_processes(process)


def test_ui_prints_its_address_and_ends_all_processes(demo: Demo, ui: tuple[Any, Path]) -> None:
    process, log = ui
    end = time.monotonic() + SECONDS
    while not (match := re.search(r"Airflow is up: (\S+)\s+user admin\s+password (\S+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.5)
    url, password = match.groups()
    page = requests.get(url, timeout=60)
    assert (page.status_code, "<title>" in page.text) == (200, True)
    answer = requests.post(f"{url}/auth/token", json={"username": "admin", "password": password}, timeout=60)
    assert answer.status_code == 201
    # Some processes overwrite their environment with a title.
    sessions = {os.getsid(child.pid) for child in demo.processes()}
    assert len(demo.processes(sessions)) > 4
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    assert process.wait(60) == 0
    assert demo.processes(sessions) == []
    assert "Traceback" not in log.read_text()
