"""The stack of docker-compose.airflow.yml, for these tests alone: a project, ports, secrets and DAGs of its own."""

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
from tests.system.pipelines import GATE, HERE, OURS, SHIPPED, write_dags
from tests.system.stack import Stack

STACK = HERE / "include" / "docker" / "stack.py"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the stack said, beside a test that failed."""
    report = yield
    if report.failed and isinstance(stack := getattr(item, "funcargs", {}).get("stack"), Stack):
        report.sections.append(("stack", stack.printed()))
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack with two workers, started once as `make up` starts it; nothing of it stays."""
    root = tmp_path_factory.mktemp("stack")
    write_dags(root / "dags")
    running = Stack(root, package_versions(root), None)
    try:
        command = [sys.executable, str(STACK), "--env-file", str(root / "env"), "up"]
        started, done = time.monotonic(), subprocess.run(command, env=running.environment, cwd=HERE, check=False)
        assert done.returncode == 0, f"the stack does not start: what it says is above\n{running.printed()}"
        print(f"the stack is up after {time.monotonic() - started:.0f} s")
        begin(running)
        yield running
    finally:
        running.session.close()
        running.compose("down", "--volumes", "--timeout", "5", check=False)


def package_versions(root: Path) -> dict[str, str]:
    """The variables of a stack whose files are in a folder."""
    ports = {"AIRFLOW_PORT": str(find_free_port()), "MLFLOW_PORT": str(find_free_port())}
    return {
        **os.environ,
        **ports,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ports['AIRFLOW_PORT']}",
        "COMPOSE_FILE": f"{HERE / 'docker-compose.airflow.yml'}{os.pathsep}{Path(__file__).with_name('faster.yml')}",
        "COMPOSE_PROJECT_NAME": f"ml-pipelines-test-{secrets.token_hex(4)}",
        "DAGS_FOLDER": str(root / "dags"),
        "DOCKER_SOCKET": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"),
        "PYTHONPATH": str(HERE / "include"),
        "WORKERS": "2",
    }


def begin(stack: Stack) -> None:
    """Sign in, and have all pipelines served."""
    stack.login()
    stack.call("POST", "/pools", {"name": GATE, "slots": 0})
    stack.until("DAGs", lambda: set(stack.dags()) == OURS | SHIPPED)
    stack.unpause(*OURS)


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Fails, and says what to do, where there is no Docker engine."""
    docker = shutil.which("docker")
    done = subprocess.run([docker, "info"], capture_output=True, text=True, check=False) if docker else None
    if done is None or done.returncode:
        said = done.stderr.strip() if done else "there is no program docker"
        pytest.fail(f"these tests need a Docker engine: start one, or let DOCKER_HOST name it\n{said}", pytrace=False)
