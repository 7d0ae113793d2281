from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.ml_pipelines_airflow.release.conftest import Scripted, bundle_state

from ml_pipelines.errors import PipelineError, RequestError, ServiceUnavailable
from ml_pipelines_airflow.release.airflow_client import AirflowApi, BundleState
from ml_pipelines_airflow.release.rollout import (
    DeploymentTarget,
    RolloutResult,
    deploy_release,
    read_variables,
    write_variables,
)
from ml_pipelines_airflow.release.verify import Release

NEW, OLD = {"IMAGE": "r/a@sha256:new"}, {"IMAGE": "r/a@sha256:old"}
RELEASE = Release(version="2-b", dags=("churn",))
# Writes down what it is given, and fails where it is reported to.
COMMAND = """
import json, os, sys
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([os.environ["IMAGE"], open(sys.argv[2]).read()]) + "\\n")
sys.exit(3 if os.environ["IMAGE"] in sys.argv[3:] else 0)
"""


class Stack:
    """A stack with a file of variables, in front of an Airflow that follows a script."""

    def __init__(
        self, folder: Path, text: str, *script: BundleState | PipelineError, fails: tuple[str, ...] = ()
    ) -> None:
        self.env_file, self.calls = folder / "stack.env", folder / "calls"
        self.env_file.write_text(text)
        self.reported: list[str] = []
        command = (sys.executable, "-c", COMMAND, str(self.calls), str(self.env_file), *fails)
        api = cast("AirflowApi", Scripted(list(script)))
        self.target = DeploymentTarget(api=api, bundle="ml", env_file=self.env_file, command=command, seconds=60)

    def deploy_release(self) -> RolloutResult:
        return deploy_release(self.target, RELEASE, NEW, self.reported.append)

    @property
    def called(self) -> list[list[str]]:
        """Image in the environment and text of the file, at every call of the command."""
        return [json.loads(line) for line in self.calls.read_text().splitlines()]


def at(version: str, minute: int, *faults: tuple[str, str, str]) -> BundleState:
    return bundle_state(("churn", version, f"10:{minute:02}"), faults=faults)


FAULT = ("churn.py", "10:03", "ValueError: no")


def test_served_release_stays(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "IMAGE=r/a@sha256:old\n", at("1-a", 0), at("1-a", 1), at("2-b", 2))
    done = stack.deploy_release()
    assert (done.outcome, done.before, done.after) == ("deployed", OLD, None)
    assert stack.called == [["r/a@sha256:new", "IMAGE=r/a@sha256:new\n"]]
    assert read_variables(stack.env_file) == NEW


def test_broken_release_is_rolled_back(tmp_path: Path) -> None:
    script = [at("1-a", 0), at("1-a", 1), at("1-a", 1, FAULT), at("1-a", 1, FAULT), at("1-a", 5)]
    stack = Stack(tmp_path, "A=1\nIMAGE=r/a@sha256:old\n", *script)
    done = stack.deploy_release()
    assert done.outcome == "rolled back"
    assert done.verdict.reason == "Airflow cannot import churn.py"
    assert done.after is not None
    assert done.after.reason == "Airflow serves version 1-a with churn without import errors"
    assert [image for image, _ in stack.called] == ["r/a@sha256:new", "r/a@sha256:old"]
    assert read_variables(stack.env_file) == {"A": "1", **OLD}
    assert "rolling back to r/a@sha256:old" in stack.reported


def test_failed_command_is_rolled_back(tmp_path: Path) -> None:
    script = [at("1-a", 0), at("1-a", 1), at("1-a", 2)]
    stack = Stack(tmp_path, "IMAGE=r/a@sha256:old\n", *script, fails=("r/a@sha256:new",))
    done = stack.deploy_release()
    assert done.outcome == "rolled back"
    assert done.verdict.reason == f"{sys.executable} failed with exit code 3"


def test_failed_rollback_is_broken(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "IMAGE=r/a@sha256:old\n", at("1-a", 0), fails=("r/a@sha256:new", "r/a@sha256:old"))
    done = stack.deploy_release()
    assert done.outcome == "broken"
    assert done.after is not None
    assert not done.after.served


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A=1\n", at("1-a", 0)),
        ("IMAGE=r/a@sha256:old\n", ServiceUnavailable("Airflow does not answer")),
        ("IMAGE=r/a@sha256:old\n", bundle_state()),
        ("IMAGE=r/a@sha256:new\n", at("1-a", 0)),
    ],
    ids=["no image before", "no Airflow before", "no DAG before", "the same before"],
)
def test_release_without_predecessor_stays_broken(tmp_path: Path, text: str, first: Any) -> None:
    stack = Stack(tmp_path, text, first, fails=("r/a@sha256:new",))
    done = stack.deploy_release()
    assert (done.outcome, done.after) == ("broken", None)
    assert len(stack.called) == 1


def test_first_deployment_needs_no_running_airflow(tmp_path: Path) -> None:
    away = ServiceUnavailable("Airflow does not answer", got="ConnectionError")
    stack = Stack(tmp_path, "A=1\n", away, bundle_state(), at("2-b", 1))
    assert stack.deploy_release().outcome == "deployed"
    assert stack.env_file.read_text() == "A=1\nIMAGE=r/a@sha256:new\n"


def test_rejected_user_changes_nothing(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "IMAGE=r/a@sha256:old\n", RequestError("Airflow rejects the user 'robot'"))
    with pytest.raises(RequestError):
        stack.deploy_release()
    assert not stack.calls.exists()
    assert read_variables(stack.env_file) == OLD


def test_missing_command_is_broken(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "A=1\n", at("1-a", 0))
    stack.target = DeploymentTarget(**{**vars(stack.target), "command": ("no-such-command",)})
    assert stack.deploy_release().verdict.reason == "no-such-command cannot run: No such file or directory"


def test_command_over_its_time_limit_is_broken(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "A=1\n", at("1-a", 0))
    hangs = (sys.executable, "-c", "import threading; threading.Event().wait()")
    stack.target = DeploymentTarget(**{**vars(stack.target), "command": hangs, "seconds": 0.2})
    assert stack.deploy_release().verdict.reason == f"{sys.executable} exceeded its time limit of 0 s"


def test_read_variables_parses_as_compose_does(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# reported\nA=1\nexport B='two words'\n\nC=\"x=y\"\n")
    assert read_variables(tmp_path / "env") == {"A": "1", "B": "two words", "C": "x=y"}


def test_write_variables_keeps_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("# reported\nIMAGE=old\nIMAGE_TAG=kept\nexport OTHER=old\nPASSWORD='p'")
    path.chmod(0o600)
    write_variables(path, {"IMAGE": "new", "OTHER": "new"})
    assert path.read_text() == "# reported\nIMAGE_TAG=kept\nPASSWORD='p'\nIMAGE=new\nOTHER=new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["env"]


def test_missing_environment_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the environment file of the stack cannot be read") as caught:
        read_variables(tmp_path / "env")
    assert caught.value.got == "No such file or directory"


def test_unwritable_environment_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=1\n")
    (tmp_path / "env.new").mkdir()
    with pytest.raises(RequestError, match="the environment file of the stack cannot be written") as caught:
        write_variables(path, {"A": "2"})
    assert caught.value.where == str(path)
    assert path.read_text() == "A=1\n"
