from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.ml_pipelines_airflow.release.conftest import Server
from typer.testing import CliRunner

from ml_pipelines_airflow.release import __main__ as command
from ml_pipelines_airflow.release.rollout import RolloutResult
from ml_pipelines_airflow.release.verify import Release, Verification

RELEASE = Release(version="2-b", dags=("churn",))


@pytest.fixture
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """An Airflow with the release, whose DAG is parsed again each time one asks."""
    monkeypatch.setenv("AIRFLOW_API_URL", server.url)
    monkeypatch.setenv("AIRFLOW_API_USER", "robot")
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", "secret")
    for name in ("SLACK_WEBHOOK_URL", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)

    class Parsing(list[dict[str, Any]]):
        times = 0

        def __getitem__(self, key: Any) -> Any:
            self.times += 1
            version = {"bundle_name": "ml-pipelines", "bundle_version": "2-b"}
            return [{"dag_id": "churn", "last_parsed_time": str(self.times), **version}]

    server.dags = Parsing([{}])
    return server


@pytest.fixture
def release(tmp_path: Path) -> str:
    (tmp_path / "release.json").write_text(RELEASE.model_dump_json())
    return str(tmp_path / "release.json")


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command.app, arguments, catch_exceptions=False)
    return done.exit_code, done.output


def test_verify_prints_the_served_release(environment: Server, release: str) -> None:
    code, output = run("verify", "--release", release)
    assert (code, output.splitlines()[-1]) == (0, "Airflow serves version 2-b with churn without import errors")


def test_verify_prints_import_errors(environment: Server, release: str) -> None:
    environment.errors = [
        {"filename": "a.py", "timestamp": "1", "stack_trace": "ValueError: no", "bundle_name": "ml-pipelines"}
    ]
    code, output = run("verify", "--release", release, "--seconds", "0")
    assert code == 1
    assert "a.py, which has an import error, to be parsed again" in output
    assert output.endswith("\na.py:\nValueError: no\n")


def test_deploy_writes_the_summary_for_github(
    environment: Server, release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    (tmp_path / "summary").write_text("before\n")
    (tmp_path / "env").write_text("A=1\n")
    code, output = run(
        *("deploy", "IMAGE=r/a@sha256:new", "--release", release, "--env-file", str(tmp_path / "env")),
        *("--command", f"{sys.executable} -c pass"),
    )
    assert code == 0, output
    assert (tmp_path / "env").read_text() == "A=1\nIMAGE=r/a@sha256:new\n"
    assert (tmp_path / "summary").read_text().startswith("before\n## ✅ Deployed\n")
    assert "## ✅ Deployed" in output


def test_deploy_fails_if_the_release_is_not_served(environment: Server, release: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("")
    arguments = ("--release", release, "--env-file", str(tmp_path / "env"), "--command", "false")
    code, output = run("deploy", "IMAGE=r/a@sha256:new", *arguments)
    assert code == 1
    assert "false failed with exit code 1" in output


@pytest.mark.parametrize("own", [None, "docker-compose.airflow.yml:/srv/ours.yml"])
def test_deploy_starts_the_compose_stack_by_default(
    environment: Server, release: str, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.delenv("COMPOSE_FILE", raising=False)
    if own:
        monkeypatch.setenv("COMPOSE_FILE", own)
    commands: list[tuple[str, ...]] = []

    def deploy_release(target: Any, *_: Any) -> Any:
        commands.append(target.command)
        return RolloutResult("deployed", {"IMAGE": "new"}, {}, Verification(True, "served"))

    monkeypatch.setattr(command, "deploy_release", deploy_release)
    code, _ = run("deploy", "IMAGE=new", "--release", release, "--env-file", "/srv/stack.env")
    assert code == 0
    assert " ".join(commands[0]) == (
        f"docker compose --file docker-compose.airflow.yml {'--file /srv/ours.yml ' if own else ''}"
        "--file include/docker/release.yml --env-file /srv/stack.env up --detach --no-build --wait"
    )


@pytest.mark.parametrize("pin", ["IMAGE", "IMAGE=", "=x", "A B=x", "IMAGE=a b"])
def test_deploy_rejects_an_invalid_pin(release: str, environment: Server, pin: str) -> None:
    code, output = run("deploy", pin, "--release", release)
    assert code == 2
    assert "expected NAME=VALUE" in output


def test_error_is_printed_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], release: str
) -> None:
    for name in ("AIRFLOW_API_URL", "AIRFLOW_API_USER", "AIRFLOW_API_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.argv", ["delivery", "verify", "--release", release])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith(
        "RequestError: AIRFLOW_API_URL and AIRFLOW_API_USER and AIRFLOW_API_PASSWORD are not set\n"
    )
    assert "Traceback" not in printed


def test_dags_writes_the_release_of_the_package(tmp_path: Path) -> None:
    code, output = run("dags", "--release", str(tmp_path / "dist" / "release.json"))
    assert code == 0, output
    released = json.loads((tmp_path / "dist" / "release.json").read_text())
    assert {"credit_risk", "ml_training_pipeline"} <= set(released["dags"])
    assert released["version"]
    assert "ml_training_pipeline.py" in output
