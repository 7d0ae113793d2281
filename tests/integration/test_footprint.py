"""What the provider loads where nobody uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
# Loaded by nothing of ours before a task, page or notifier of ours needs it.
VENDORS = {
    "dvc",
    "docker",
    "fastapi",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "pandera",
    "polars",
    "pyarrow",
    "skops",
    "slack_sdk",
    "sklearn",
    "sqlalchemy",
}
OF_EVERY_PROCESS = {"", "config", "hooks", "hooks.connection_forms", "policies", "provider_info"}
OF_A_PARSE = OF_EVERY_PROCESS | {"links", "plugin", "sla", "sla.declared_sla"}
ALLOWED = {"airflow version": OF_EVERY_PROCESS, "parse of a DAG": OF_A_PARSE, "start of a worker": OF_A_PARSE}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def added() -> dict[str, list[str]]:
    """Modules that are loaded only because the provider is installed, in each situation."""
    command = [sys.executable, "-W", "ignore", HERE / "tests" / "benchmarks" / "footprint.py", "--modules"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured: dict[str, list[str]] = json.loads(done.stdout)
    return measured


@pytest.mark.parametrize("situation", ALLOWED)
def test_no_vendor_is_loaded(added: dict[str, list[str]], situation: str) -> None:
    assert VENDORS & {name.partition(".")[0] for name in added[situation]} == set()


@pytest.mark.parametrize("situation", ALLOWED)
def test_of_ours_only_what_airflow_asks_for_is_loaded(added: dict[str, list[str]], situation: str) -> None:
    package = "ml_pipelines_airflow"
    ours = {name.removeprefix(package).removeprefix(".") for name in added[situation] if name.startswith(package)}
    assert {"", "policies", "provider_info"} <= ours, "it is installed"
    assert ours <= ALLOWED[situation]


@pytest.mark.parametrize("situation", ALLOWED)
def test_the_work_is_not_loaded(added: dict[str, list[str]], situation: str) -> None:
    work = {name for name in added[situation] if name.partition(".")[0] == "ml_pipelines"}
    assert work == set()
