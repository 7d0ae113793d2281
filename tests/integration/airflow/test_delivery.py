"""Deployment of releases to a running Airflow, with a rollback of a release that Airflow can't import."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow.server import Server, standalone
from uv import find_uv_bin

from ml_pipelines_airflow.fake_slack import SlackServer
from ml_pipelines_airflow.release.rollout import read_variables

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(900)]

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-models"
version = "{version}"
requires-python = ">=3.11"

[tool.hatch.build.targets.wheel]
packages = ["acme"]
"""
DAG_FILE = '''"""An Airflow DAG of a team."""

import os

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

{line}

with DAG("acme") as dag:
    PythonOperator(task_id="only", python_callable=print)
'''
BUILD_ONLY = 'os.environ["BUILD_VARIABLE"]'
# The command of a deployment: install the wheel of the variable.
INSTALL = """
import os, subprocess
options = ["--offline", "--no-deps", "--quiet", "--python", {python!r}, "--target", {site!r}]
subprocess.run([{uv!r}, "pip", "install", "--reinstall", *options, os.environ["ACME_WHEEL"]], check=True)
"""


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    airflow = make_airflow()
    root, site = airflow.root, airflow.root / "site"
    (root / "install.py").write_text(INSTALL.format(python=sys.executable, site=str(site), uv=find_uv_bin()))
    first = build("1.0", root)
    subprocess.run(
        [sys.executable, root / "install.py"], env=airflow.environment | {"ACME_WHEEL": str(first)}, check=True
    )
    (root / "stack.env").write_text(f"PASSWORD=kept\nACME_WHEEL={first}\n")
    bundle = {
        "name": "acme",
        "classpath": "ml_pipelines_airflow.bundles.package.PackageDagBundle",
        "kwargs": {"package": "acme", "refresh_interval": 1},
    }
    environment = {
        # The default is 30 s between two versions of a DAG.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(root / "bundles"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        "PYTHONPATH": str(site),
    }
    with standalone(airflow, "acme", **environment) as running:
        yield running


def build(version: str, root: Path, line: str = "") -> Path:
    """Build the wheel of a version of the package, with a further line in its DAG file."""
    project = root / f"acme-{version}"
    (project / "acme" / "dags").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT.format(version=version))
    (project / "acme" / "__init__.py").touch()
    (project / "acme" / "dags" / "acme_dag.py").write_text(DAG_FILE.format(line=line))
    build = ["build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", root]
    subprocess.run([find_uv_bin(), *map(str, build), str(project)], check=True, cwd=root)
    return root / f"acme_models-{version}-py3-none-any.whl"


def build_release(wheel: Path, server: Server, **environment: str) -> Path:
    """Return the release file that a build writes after it has parsed the DAGs."""
    unpacked = wheel.with_suffix("")
    script = (server.root / "install.py").read_text().replace(str(server.root / "site"), str(unpacked))
    install = [sys.executable, "-c", script]
    subprocess.run(install, env=server.environment | {"ACME_WHEEL": str(wheel)}, check=True)
    release = unpacked / "release.json"
    process = delivery(
        *("dags", "--package", "acme", "--release", str(release)),
        environment=server.environment | environment | {"PYTHONPATH": str(unpacked)},
    )
    assert process.returncode == 0, process.stderr
    return release


def delivery(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ml_pipelines_airflow.release", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def deploy(server: Server, wheel: Path, release: Path, slack: SlackServer) -> subprocess.CompletedProcess[str]:
    webhook = json.loads(slack.webhook())
    passwords = server.root / "home" / "simple_auth_manager_passwords.json.generated"
    secrets = {
        "AIRFLOW_API_URL": server.url,
        "AIRFLOW_API_USER": "admin",
        "AIRFLOW_API_PASSWORD": json.loads(passwords.read_text())["admin"],
        "GITHUB_STEP_SUMMARY": str(server.root / "summary.md"),
        "SLACK_WEBHOOK_URL": f"{webhook['host']}/{webhook['password']}",
    }
    return delivery(
        *("deploy", f"ACME_WHEEL={wheel}", "--release", str(release), "--bundle", "acme"),
        *("--env-file", str(server.root / "stack.env"), "--seconds", "300"),
        *("--command", f"{sys.executable} {server.root / 'install.py'}"),
        environment=server.environment | secrets,
    )


def served_version(server: Server) -> tuple[str, bool]:
    """Return the version of the DAG, and whether it is paused."""
    dag = server.dags()["acme"]
    return str(dag["bundle_version"]).partition("-")[0], dag["is_paused"]


def test_release_that_airflow_can_not_import_is_rolled_back(server: Server) -> None:
    wheel = build("2.0", server.root, BUILD_ONLY)
    release = build_release(wheel, server, BUILD_VARIABLE="1")
    with SlackServer() as slack:
        process = deploy(server, wheel, release, slack)
        (message,) = slack.messages
    assert process.returncode == 1, process.stdout + process.stderr
    assert "Airflow cannot import acme_dag.py" in process.stdout
    assert f"rolling back to {server.root}/acme_models-1.0-py3-none-any.whl" in process.stdout
    assert "rolled back to the previous release" in message.shown
    assert "KeyError: 'BUILD_VARIABLE'" in message.shown
    summary = (server.root / "summary.md").read_text()
    assert "Not deployed: rolled back to the previous release" in summary
    assert "KeyError: 'BUILD_VARIABLE'" in summary
    assert served_version(server) == ("1.0", True)
    assert server.call("GET", "/importErrors")["import_errors"] == []
    assert read_variables(server.root / "stack.env") == {
        "PASSWORD": "kept",
        "ACME_WHEEL": f"{server.root}/acme_models-1.0-py3-none-any.whl",
    }


def test_release_without_import_errors_is_deployed(server: Server) -> None:
    wheel = build("3.0", server.root, "print(3)")
    release = build_release(wheel, server)
    with SlackServer() as slack:
        process = deploy(server, wheel, release, slack)
        (message,) = slack.messages
    assert process.returncode == 0, process.stdout + process.stderr
    version = json.loads(release.read_text())["version"]
    assert f"Airflow serves version {version} with acme without import errors" in process.stdout
    assert "Deployed" in message.shown
    assert served_version(server) == ("3.0", True)
    assert read_variables(server.root / "stack.env")["ACME_WHEEL"] == str(wheel)
