"""Whether a running Airflow serves what was released: every DAG parsed anew, in the right version, without an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_pipelines.contracts import describe_validation_error
from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.release.airflow_client import AirflowApi, BundleState, DagImportError

__all__ = ["Release", "Verification", "read_release", "verify"]

POLL_SECONDS = 2.0


class Release(BaseModel):
    """What a build has to offer; a file of the build.

    Attributes:
        version: of the DAG bundle; None if it has none. A bundle without versions can't tell what it serves, so of it
            only errors are looked for.
        dags: names of the DAGs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None
    dags: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What became of a release in a running Airflow.

    Attributes:
        served: whether it is served, whole and as it was built.
        reason: one sentence.
        faults: files that could not be imported.
    """

    served: bool
    reason: str
    faults: tuple[DagImportError, ...] = ()


def read_release(path: Path) -> Release:
    """Read the file that a build has left.

    Raises:
        RequestError: there is none, or it is something else.
    """
    try:
        return Release.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise RequestError(
            "there is no such release", where=str(path), got=exc.strerror or "", fix="make it with `make dags`"
        ) from exc
    except ValidationError as exc:
        raise RequestError(
            "this file describes no release",
            where=str(path),
            got=describe_validation_error(exc),
            fix="make it with `make dags`",
        ) from exc


def verify(
    api: AirflowApi,
    bundle: str,
    release: Release,
    *,
    seconds: float,
    replaced: str | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Wait until Airflow has parsed all DAGs of a release once more, or one file can't be imported, or it is too late.

    Only what is parsed from now on counts: what Airflow says at first may be of an older release.

    Args:
        api: of the Airflow.
        bundle: name of the DAG bundle.
        release: what should be served.
        seconds: how long to wait.
        replaced: version that was served before. Where nothing is restarted it is still parsed for a while: a bundle
            keeps each version in a folder of that name, and errors that name this folder do not count.
        told: called with a sentence whenever there is something new to say.

    Raises:
        RequestError: Airflow does not take the user, or the question.
    """
    end = time.monotonic() + seconds
    first: BundleState | None = None
    waits_for, said = "an answer of Airflow", ""
    while True:
        try:
            now = api.bundle_state(bundle)
            first = first or now
            if fresh := _fresh_faults(first, now, replaced if replaced != release.version else None):
                files = ", ".join(fault.file for fault in fresh)
                return Verification(False, f"Airflow can't import {files}", fresh)
            missing = list(_missing(release, first, now))
            if not missing:
                return Verification(True, f"Airflow serves {_named(release, now)}, parsed without an error")
            waits_for = "; ".join(missing)
        except ServiceUnavailable as exc:
            waits_for = f"an answer of Airflow ({exc.got})"
        if waits_for != said:
            told(f"waiting for {(said := waits_for)}")
        if time.monotonic() >= end:
            old = tuple(first.faults.values()) if first else ()
            return Verification(
                False, f"Airflow did not serve it in {seconds:.0f} s; still waiting for {waits_for}", old
            )
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))


def _fresh_faults(first: BundleState, now: BundleState, replaced: str | None) -> tuple[DagImportError, ...]:
    """Errors of files that were parsed since the first bundle_state, and not of the version that was replaced."""
    fresh = (fault for file, fault in now.faults.items() if first.faults.get(file) != fault)
    return tuple(fault for fault in fresh if replaced is None or f"/{replaced}/" not in fault.text)


def _missing(release: Release, first: BundleState, now: BundleState) -> Iterator[str]:
    """What has to come about yet."""
    for name in release.dags:
        dag, before = now.dags.get(name), first.dags.get(name)
        if dag is None:
            yield f"{name} to appear"
        elif None not in (dag.version, release.version) and dag.version != release.version:
            yield f"{name} in version {release.version}, not {dag.version}"
        elif before is not None and before.parsed_at == dag.parsed_at:
            yield f"{name} to be parsed again"
    yield from (f"{file}, which could not be imported, to be parsed again" for file in now.faults)


def _named(release: Release, now: BundleState) -> str:
    dags = ", ".join(release.dags)
    if any(now.dags[name].version is None for name in release.dags):
        return f"{dags} of a bundle without versions"
    return f"version {release.version} with {dags}"
