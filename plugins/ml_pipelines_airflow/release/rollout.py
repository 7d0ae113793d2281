"""Deploy a release to Airflow, verify it, and restore the previous release on failure.

Variables such as `ML_PIPELINES_IMAGE` name the deployed images by digest. An environment file beside the stack stores
them, so that a later start of the stack uses the same images.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.release.airflow_client import AirflowApi
from ml_pipelines_airflow.release.verify import Release, Verification, verify

__all__ = ["DeploymentTarget", "Outcome", "RolloutResult", "deploy_release", "read_variables", "write_variables"]

Outcome = Literal["deployed", "rolled back", "broken"]


@dataclass(frozen=True, kw_only=True)
class DeploymentTarget:
    """Target of a deployment.

    Attributes:
        api: client of the target's Airflow.
        bundle: name of the DAG bundle.
        env_file: file that stores the variables of the deployed images.
        command: command that applies the file; its environment contains the variables.
        seconds: time limit of the command, and of the verification after it.
    """

    api: AirflowApi
    bundle: str
    env_file: Path
    command: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class RolloutResult:
    """Result of a deployment.

    Attributes:
        outcome: `deployed`, `rolled back` (the previous release is served again) or `broken`.
        pins: variables of the release.
        before: previous values of these variables, if set.
        verdict: verification of the release.
        after: verification of the previous release, if it was restored.
    """

    outcome: Outcome
    pins: Mapping[str, str]
    before: Mapping[str, str]
    verdict: Verification
    after: Verification | None = None


def deploy_release(
    target: DeploymentTarget, release: Release, pins: Mapping[str, str], report: Callable[[str], None]
) -> RolloutResult:
    """Deploy and verify a release; restore and verify the previous one if it is not served.

    Args:
        target: target of the deployment.
        release: expected state of the target.
        pins: variables of the release.
        report: called with a message about each part of the deployment.

    Raises:
        RequestError: the environment file does not exist, or Airflow rejects the user.
    """
    before = {name: value for name, value in read_variables(target.env_file).items() if name in pins}
    served = _served(target)
    verdict = _apply(target, release, pins, report, replaced=served)
    result = RolloutResult("deployed", pins, before, verdict)
    if verdict.served:
        return result
    report(verdict.reason)
    if served is None or set(before) != set(pins) or before == pins:
        return replace(result, outcome="broken")
    report(f"rolling back to {', '.join(before.values())}")
    after = _apply(target, served, before, report, replaced=release)
    return replace(result, outcome="rolled back" if after.served else "broken", after=after)


def _served(target: DeploymentTarget) -> Release | None:
    """Return the served release before the deployment; None if Airflow does not answer or has no such bundle."""
    try:
        now = target.api.bundle_state(target.bundle)
    except ServiceUnavailable:
        return None
    versions = {dag.version for dag in now.dags.values()}
    if not now.dags:
        return None
    return Release(version=versions.pop() if len(versions) == 1 else None, dags=tuple(sorted(now.dags)))


def _apply(
    target: DeploymentTarget,
    release: Release,
    pins: Mapping[str, str],
    report: Callable[[str], None],
    *,
    replaced: Release | None,
) -> Verification:
    write_variables(target.env_file, pins)
    report(f"running {' '.join(target.command)}")
    if fault := _command_error(target.command, pins, target.seconds):
        return Verification(False, fault)
    old = replaced.version if replaced else None
    return verify(target.api, target.bundle, release, seconds=target.seconds, replaced=old, report=report)


def _command_error(command: Sequence[str], pins: Mapping[str, str], seconds: float) -> str:
    """Run a command with inherited output. Return an error message, empty on success."""
    try:
        subprocess.run(command, env=os.environ | pins, check=True, timeout=seconds)
    except subprocess.CalledProcessError as exc:
        return f"{command[0]} failed with exit code {exc.returncode}"
    except subprocess.TimeoutExpired:
        return f"{command[0]} exceeded its time limit of {seconds:.0f} s"
    except OSError as exc:
        return f"{command[0]} cannot run: {exc.strerror}"
    return ""


def read_variables(path: Path) -> dict[str, str]:
    """Return the variables of an environment file with lines `NAME=value`.

    Raises:
        RequestError: the file cannot be read.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as exc:
        raise RequestError(
            "the environment file of the stack cannot be read",
            where=str(path),
            got=exc.strerror or "",
            fix="pass the environment file of the stack",
        ) from exc
    matches = (re.fullmatch(r"(?:export\s+)?(\w+)=(.*)", line.strip()) for line in lines)
    return {match[1]: match[2].strip("\"'") for match in matches if match}


def write_variables(path: Path, pins: Mapping[str, str]) -> None:
    """Set variables in an environment file atomically; other lines and the permissions do not change.

    Raises:
        RequestError: the file or its folder cannot be written.
    """
    pattern = re.compile(rf"\s*(?:export\s+)?(?:{'|'.join(map(re.escape, pins))})\s*=")
    unchanged = [line for line in path.read_text().splitlines() if not pattern.match(line)]
    temporary = path.with_name(f"{path.name}.new")
    try:
        # The file contains passwords: the new file is complete and restricted before it replaces the old one.
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_text("\n".join([*unchanged, *(f"{name}={value}" for name, value in pins.items()), ""]))
        shutil.copymode(path, temporary)
        if (owner := path.stat()).st_uid != temporary.stat().st_uid:
            os.chown(temporary, owner.st_uid, owner.st_gid)
        temporary.replace(path)
    except OSError as exc:
        raise RequestError(
            "the environment file of the stack cannot be written",
            where=str(path),
            got=exc.strerror or "",
            fix="deploy as the owner of the file",
        ) from exc
