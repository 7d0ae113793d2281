"""Verify that a running Airflow serves a release: all DAGs parsed again, in its version, without import errors."""

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
    """The release file of a build.

    Attributes:
        version: version of the DAG bundle; None for a bundle without versions, of which only import errors are checked.
        dags: DAG ids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None
    dags: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes:
        served: whether Airflow serves the complete release.
        reason: one sentence.
        faults: import errors.
    """

    served: bool
    reason: str
    faults: tuple[DagImportError, ...] = ()


def read_release(path: Path) -> Release:
    """Read a release file.

    Raises:
        RequestError: the file does not exist or is not a release file.
    """
    try:
        return Release.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise RequestError(
            "the release file cannot be read", where=str(path), got=exc.strerror or "", fix="create it with `make dags`"
        ) from exc
    except ValidationError as exc:
        raise RequestError(
            "the file is not a release file",
            where=str(path),
            got=describe_validation_error(exc),
            fix="create it with `make dags`",
        ) from exc


def verify(
    api: AirflowApi,
    bundle: str,
    release: Release,
    *,
    seconds: float,
    replaced: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Wait until Airflow has parsed all DAGs of a release again, an import fails, or the time limit is reached.

    Only parses after the call count, because the first state can belong to an older release.

    Args:
        api: client of the Airflow.
        bundle: name of the DAG bundle.
        release: expected state.
        seconds: time limit.
        replaced: version that was served before. Without a restart Airflow parses it for a while. Import errors that
            contain the folder of that version are ignored.
        report: called with a message when the state changes.

    Raises:
        RequestError: Airflow rejects the user or the request.
    """
    end = time.monotonic() + seconds
    first: BundleState | None = None
    awaited, reported = "a response of Airflow", ""
    while True:
        try:
            now = api.bundle_state(bundle)
            first = first or now
            if fresh := _fresh_faults(first, now, replaced if replaced != release.version else None):
                files = ", ".join(fault.file for fault in fresh)
                return Verification(False, f"Airflow cannot import {files}", fresh)
            missing = list(_missing(release, first, now))
            if not missing:
                return Verification(True, f"Airflow serves {_description(release, now)} without import errors")
            awaited = "; ".join(missing)
        except ServiceUnavailable as exc:
            awaited = f"a response of Airflow ({exc.got})"
        if awaited != reported:
            report(f"waiting for {(reported := awaited)}")
        if time.monotonic() >= end:
            old = tuple(first.faults.values()) if first else ()
            return Verification(False, f"the time limit of {seconds:.0f} s was reached, waiting for {awaited}", old)
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))


def _fresh_faults(first: BundleState, now: BundleState, replaced: str | None) -> tuple[DagImportError, ...]:
    """Return import errors since the first state that do not belong to the replaced version."""
    new = (fault for file, fault in now.faults.items() if first.faults.get(file) != fault)
    return tuple(fault for fault in new if replaced is None or f"/{replaced}/" not in fault.text)


def _missing(release: Release, first: BundleState, now: BundleState) -> Iterator[str]:
    """Yield each missing condition."""
    for name in release.dags:
        dag, before = now.dags.get(name), first.dags.get(name)
        if dag is None:
            yield f"{name} to appear"
        elif None not in (dag.version, release.version) and dag.version != release.version:
            yield f"{name} in version {release.version} instead of {dag.version}"
        elif before is not None and before.parsed_at == dag.parsed_at:
            yield f"{name} to be parsed again"
    yield from (f"{file}, which has an import error, to be parsed again" for file in now.faults)


def _description(release: Release, now: BundleState) -> str:
    dags = ", ".join(release.dags)
    if any(now.dags[name].version is None for name in release.dags):
        return f"{dags} of a bundle without versions"
    return f"version {release.version} with {dags}"
