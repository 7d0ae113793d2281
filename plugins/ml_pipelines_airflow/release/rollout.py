"""Bring a release to an Airflow and see that it is served; if not, bring back what was there before.

What is deployed is named by variables such as `ML_PIPELINES_IMAGE`, an image by its digest. They are kept in an
environment file beside the stack, so that whoever starts the stack later starts the same.
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
    """Where to deploy, and how.

    Attributes:
        api: of the Airflow there.
        bundle: name of the DAG bundle.
        env_file: keeps the variables that name what is deployed.
        command: brings into force what the file says; sees its variables also in its environment.
        seconds: for the command, and again for Airflow to serve what it brought.
    """

    api: AirflowApi
    bundle: str
    env_file: Path
    command: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class RolloutResult:
    """What became of it.

    Attributes:
        outcome: deployed; rolled back to what was there before, which is served again; or broken.
        pins: the variables that should have come into force.
        before: their values until then, of those that had one.
        verdict: on the release.
        after: the verdict on what was there before, if that was brought back.
    """

    outcome: Outcome
    pins: Mapping[str, str]
    before: Mapping[str, str]
    verdict: Verification
    after: Verification | None = None


def deploy_release(
    target: DeploymentTarget, release: Release, pins: Mapping[str, str], told: Callable[[str], None]
) -> RolloutResult:
    """Deploy a release and verify it; deploy what was there before and verify that, if it is not served.

    Args:
        target: where to.
        release: what should be served then.
        pins: variables that name it.
        told: called with a sentence as it goes on.

    Raises:
        RequestError: there is no environment file, or Airflow does not take the user.
    """
    before = {name: value for name, value in read_variables(target.env_file).items() if name in pins}
    served = _served(target)
    verdict = _bring(target, release, pins, told, replaced=served)
    done = RolloutResult("deployed", pins, before, verdict)
    if verdict.served:
        return done
    told(verdict.reason)
    if served is None or set(before) != set(pins) or before == pins:
        return replace(done, outcome="broken")
    told(f"rolling back to {', '.join(before.values())}")
    after = _bring(target, served, before, told, replaced=release)
    return replace(done, outcome="rolled back" if after.served else "broken", after=after)


def _served(target: DeploymentTarget) -> Release | None:
    """What is served before anything is changed; None if Airflow does not answer or has no such bundle."""
    try:
        now = target.api.bundle_state(target.bundle)
    except ServiceUnavailable:
        return None
    versions = {dag.version for dag in now.dags.values()}
    if not now.dags:
        return None
    return Release(version=versions.pop() if len(versions) == 1 else None, dags=tuple(sorted(now.dags)))


def _bring(
    target: DeploymentTarget,
    release: Release,
    pins: Mapping[str, str],
    told: Callable[[str], None],
    *,
    replaced: Release | None,
) -> Verification:
    write_variables(target.env_file, pins)
    told(f"running {' '.join(target.command)}")
    if fault := _fault_of(target.command, pins, target.seconds):
        return Verification(False, fault)
    old = replaced.version if replaced else None
    return verify(target.api, target.bundle, release, seconds=target.seconds, replaced=old, told=told)


def _fault_of(command: Sequence[str], pins: Mapping[str, str], seconds: float) -> str:
    """Run a command, which prints where we do; what went wrong, empty if nothing."""
    try:
        subprocess.run(command, env=os.environ | pins, check=True, timeout=seconds)
    except subprocess.CalledProcessError as exc:
        return f"{command[0]} has failed with code {exc.returncode}"
    except subprocess.TimeoutExpired:
        return f"{command[0]} was not done in {seconds:.0f} s"
    except OSError as exc:
        return f"{command[0]} can't be run: {exc.strerror}"
    return ""


def read_variables(path: Path) -> dict[str, str]:
    """The variables of an environment file, of lines `NAME=value`.

    Raises:
        RequestError: there is no such file.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as exc:
        raise RequestError(
            "the file with the variables of the stack can't be read",
            where=str(path),
            got=exc.strerror or "",
            fix="name the file that the stack is started with",
        ) from exc
    found = (re.fullmatch(r"(?:export\s+)?(\w+)=(.*)", line.strip()) for line in lines)
    return {each[1]: each[2].strip("\"'") for each in found if each}


def write_variables(path: Path, pins: Mapping[str, str]) -> None:
    """Set variables in an environment file at once; everything else in it, and who may read it, stays.

    Raises:
        RequestError: the file or its folder can't be written.
    """
    ours = re.compile(rf"\s*(?:export\s+)?(?:{'|'.join(map(re.escape, pins))})\s*=")
    kept = [line for line in path.read_text().splitlines() if not ours.match(line)]
    aside = path.with_name(f"{path.name}.new")
    try:
        # The file holds passwords: it is never there with more rights, nor in part.
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        aside.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in pins.items()), ""]))
        shutil.copymode(path, aside)
        if (owner := path.stat()).st_uid != aside.stat().st_uid:
            os.chown(aside, owner.st_uid, owner.st_gid)
        aside.replace(path)
    except OSError as exc:
        raise RequestError(
            "the file with the variables of the stack can't be written",
            where=str(path),
            got=exc.strerror or "",
            fix="deploy as the user whom it belongs to",
        ) from exc
