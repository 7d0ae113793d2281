"""The demo as `make demo` and `make ui` run it: the shipped pipeline and data, in an empty workspace."""

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
SECONDS = 240  # until the UI is there, on a busy machine


@dataclass(frozen=True)
class Ended:
    """A run of the demo."""

    code: int
    text: str
    seconds: float

    @property
    def steps(self) -> dict[str, str]:
        """How each step went."""
        return dict(re.findall(r"^  (\S+) +(cached|computed|published) +[\d.]+ s$", self.text, re.MULTILINE))


class Demo:
    def __init__(self, workspace: Path, port: int) -> None:
        self.workspace = workspace
        self.command = [sys.executable, "-m", "ml_pipelines_airflow.local.demo"]
        self.command += ["--workspace", str(workspace), "--port", str(port)]
        self.environment = {**os.environ, "COLUMNS": "120"}
        self.ended: dict[str, Ended] = {}

    def run(self, name: str, *options: str) -> None:
        started = time.monotonic()
        done = subprocess.run(
            [*self.command, *options],
            cwd=CHECKOUT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.ended[name] = Ended(done.returncode, done.stdout, time.monotonic() - started)
        (self.workspace / f"{name}.txt").write_text(f"{done.stdout}\n{self.ended[name].seconds:.1f} s\n")

    def evaluations(self) -> list[dict[str, Any]]:
        """Of all runs, by number of rows in the test."""
        recipes = [
            json.loads(path.read_text()) for path in (self.workspace / "store/manifests/evaluate").glob("*.json")
        ]
        paths = {recipe["outputs"]["evaluation"]["uri"].removeprefix("file://") for recipe in recipes}
        return sorted((json.loads(Path(path).read_text()) for path in paths), key=lambda each: each["rows"]["test"])

    def processes(self, sessions: Collection[int] = ()) -> list[psutil.Process]:
        """All that live in the workspace, or belong to one of the sessions."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                home = process.environ().get("AIRFLOW_HOME")
                if home == str(self.workspace / "airflow") or os.getsid(process.pid) in sessions:
                    found.append(process)
        return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    demo = Demo(tmp_path_factory.mktemp("demo"), find_free_port())
    demo.run("first")
    demo.run("again")
    demo.run("next_month", "--data", "2026-11")
    demo.run("unknown", "--data", "2026-12")
    return demo


def test_the_first_run_promotes_a_model(demo: Demo) -> None:
    first = demo.ended["first"]
    assert first.code == 0, first.text
    assert "customer-churn-model: PROMOTED" in first.text
    assert {step: first.steps[step] for step in COMPUTING} == dict.fromkeys(COMPUTING, "computed")
    assert "version 1 is @champion" in first.text
    assert "make demo DATA=2026-11" in first.text


def test_the_second_run_computes_nothing(demo: Demo) -> None:
    again = demo.ended["again"]
    assert again.code == 0, again.text
    assert "customer-churn-model: NO CHANGE" in again.text
    assert again.steps == {
        "ingest": "cached",
        "compare_with_champion": "published",
        "record_decision": "published",
    }
    assert "nothing has changed since version 1, the champion" in " ".join(again.text.split())


def test_the_next_delivery_is_judged_against_the_champion(demo: Demo) -> None:
    run = demo.ended["next_month"]
    assert run.code == 0, run.text
    assert "champion" in run.text
    assert "5,000 = 5,000 kept + 0 quarantined" in run.text
    assert "customer-churn-model: PROMOTED" in run.text
    assert [step for step in COMPUTING if run.steps[step] != "computed"] == []


def test_the_winner_is_a_good_model_and_the_dummy_is_none(demo: Demo) -> None:
    small, large = demo.evaluations()
    for evaluation in (small, large):
        (winner,) = [each for each in evaluation["candidates"] if each["candidate"] == evaluation["winner"]]
        assert winner["test"]["roc_auc"] >= 0.90
        assert winner["test"]["average_precision"] >= 0.80
        dummy = evaluation["dummy"]["test"]
        # Who never predicts that a customer leaves is right six times out of seven, and ranks like a coin.
        assert dummy["accuracy"] == pytest.approx(0.859, abs=0.03)
        assert dummy["roc_auc"] == pytest.approx(0.5)
        assert dummy["average_precision"] < 0.2
    assert small["champion"] is None
    assert large["champion"]["error"] is None


def test_an_unknown_delivery_is_told_without_a_traceback(demo: Demo) -> None:
    unknown = demo.ended["unknown"]
    assert unknown.code == 1
    assert unknown.text == (
        "the delivery '2026-12' does not exist\n"
        "  expected: one of 2026-10, 2026-11\n"
        "  got: 2026-12\n"
        "  fix: make demo DATA=2026-11\n"
    )


@pytest.fixture
def ui(demo: Demo) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    printed = demo.workspace / "ui.txt"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            # As a shell starts what goes on in the background: it does not listen to Ctrl-C.
            ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *demo.command, "--ui"],
            cwd=CHECKOUT,
            env=demo.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process, printed
    stop_processes(process)


def test_the_ui_tells_its_address_and_leaves_nothing_behind(demo: Demo, ui: tuple[Any, Path]) -> None:
    process, printed = ui
    end = time.monotonic() + SECONDS
    while not (found := re.search(r"Airflow is up: (\S+)\s+user admin\s+password (\S+)", printed.read_text())):
        assert process.poll() is None, printed.read_text()
        assert time.monotonic() < end, printed.read_text()
        time.sleep(0.5)
    url, password = found.groups()
    page = requests.get(url, timeout=60)
    assert (page.status_code, "<title>" in page.text) == (200, True)
    answer = requests.post(f"{url}/auth/token", json={"username": "admin", "password": password}, timeout=60)
    assert answer.status_code == 201
    # Some write their title over what tells the home.
    sessions = {os.getsid(each.pid) for each in demo.processes()}
    assert len(demo.processes(sessions)) > 4
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does at Ctrl-C
    assert process.wait(60) == 0
    assert demo.processes(sessions) == []
    assert "Traceback" not in printed.read_text()
