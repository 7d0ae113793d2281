"""The stack of docker-compose.airflow.yml with a separate project, ports, secrets and DAGs."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.integration.processes import find_free_port
from tests.system.pipelines import CHECKOUT, GATE, SHIPPED, TESTED, write_dags
from tests.system.stack import Stack

STACK = CHECKOUT / "include" / "docker" / "stack.py"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of the stack to the report of a failed test."""
    report = yield
    if report.failed and isinstance(stack := getattr(item, "funcargs", {}).get("stack"), Stack):
        report.sections.append(("stack", stack.log_tails()))
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with two workers, started once as by `make up`, and removed at the end."""
    root = tmp_path_factory.mktemp("stack")
    write_dags(root / "dags")
    running = Stack(root, stack_environment(root), None)
    try:
        command = [sys.executable, str(STACK), "--env-file", str(root / "env"), "up"]
        started = time.monotonic()
        process = subprocess.run(command, env=running.environment, cwd=CHECKOUT, check=False)
        assert process.returncode == 0, f"the stack does not start; its output is above\n{running.log_tails()}"
        print(f"the stack is up after {time.monotonic() - started:.0f} s")
        prepare(running)
        yield running
    finally:
        running.session.close()
        running.compose("down", "--volumes", "--timeout", "5", check=False)


def stack_environment(root: Path) -> dict[str, str]:
    """Return the variables of a stack whose files are in a folder."""
    files = (CHECKOUT / "docker-compose.airflow.yml", Path(__file__).with_name("faster.yml"))
    ports = {"AIRFLOW_PORT": str(find_free_port()), "MLFLOW_PORT": str(find_free_port())}
    return {
        **os.environ,
        **ports,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ports['AIRFLOW_PORT']}",
        "COMPOSE_FILE": os.pathsep.join(map(str, files)),
        "COMPOSE_PROJECT_NAME": f"ml-pipelines-test-{secrets.token_hex(4)}",
        "DAGS_FOLDER": str(root / "dags"),
        "DOCKER_SOCKET": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"),
        "PYTHONPATH": str(CHECKOUT / "include"),
        "WORKERS": "2",
    }


def prepare(stack: Stack) -> None:
    """Log in, and wait until all pipelines are served."""
    stack.login()
    stack.call("POST", "/pools", {"name": GATE, "slots": 0})
    stack.until("DAGs", lambda: set(stack.dags()) == TESTED | SHIPPED)
    stack.unpause(*TESTED)


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Fail with a fix if there is no Docker engine."""
    docker = shutil.which("docker")
    process = subprocess.run([docker, "info"], capture_output=True, text=True, check=False) if docker else None
    if process is None or process.returncode:
        error = process.stderr.strip() if process else "there is no program docker"
        pytest.fail(f"these tests need a Docker engine: start one, or set DOCKER_HOST\n{error}", pytrace=False)
