"""Names and documents of the files in a store.

::

    objects/<first 2 digits>/<sha256>.<ext>                 artifacts
    manifests/<step>/<key>.json                             the outputs of one cache key; written last: the commit
    published/<step>/<key>/<server>.json                    the values that publishing the result on a server returned
    runs/<pipeline>/<run_id>/<task_id>/<step>[.<map_index>].json    the result of each step of a run
    leases/<step>/<key>.json                                the process that computes a key
    run_states/<pipeline>/<run_id>/<destination>/           the events of a run, and what a Slack channel received
    pending/<destination>/<sha256>.json                     ends of runs that the channel has not received
    containers/<job>/                                       request, result and heartbeat of a container
    watches/<kind>/<name>.json                              the last value that a watcher reported
    tmp/                                                    unfinished files; only in a local folder
"""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import quote, unquote

from pydantic import AwareDatetime, ValidationError

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Contract, Identity, JsonValue, Sha256, StepResult

__all__ = [
    "Document",
    "Manifest",
    "Published",
    "RunRecord",
    "WatchState",
    "container_file",
    "is_own_name",
    "lease_name",
    "manifest_name",
    "object_name",
    "parse_document",
    "pending_folder",
    "published_name",
    "quote_name",
    "record_name",
    "run_folder",
    "run_of",
    "run_state_folder",
    "step_of_record",
    "unquote_name",
    "watch_name",
]

_EXTENSIONS: dict[ArtifactKind, str] = {
    "table": "parquet",
    "json": "json",
    "model": "skops",
    "image": "png",
    "html": "html",
}

# Folders in a name, and the form of its last part. A step in a container writes files of any name.
_NAMES = {
    "objects": re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]{64}\.\w+"),
    "containers": re.compile(r"containers/.+"),
    **{
        folder: re.compile(rf"{folder}(/[^/]+){{{parts}}}\.json")
        for folder, parts in {
            "manifests": 2, "published": 3, "runs": 4, "leases": 2, "run_states": 4, "pending": 2, "watches": 2,
        }.items()
    },
}  # fmt: skip

Document = TypeVar("Document", bound=Contract)


class Manifest(Contract):
    """The stored result of a cache key.

    Attributes:
        step: name of the step.
        key: cache key.
        outputs: artifacts by name.
        values: small results.
        created_at: time of the commit, UTC.
        components: components of the key; see :mod:`ml_pipelines.pipeline.cache_key`.
        signature: see :mod:`ml_pipelines.store.signatures`; empty without a signing key.
    """

    step: str
    key: Sha256
    outputs: dict[str, ArtifactRef]
    values: dict[str, JsonValue]
    created_at: AwareDatetime
    components: Components
    signature: str = ""

    @property
    def result(self) -> StepResult:
        """The result of a hit. The caller replaces the reason and the time."""
        return StepResult(
            step=self.step, key=self.key, status="cached", reason="hit", outputs=self.outputs, values=self.values
        )


class Published(Contract):
    """The values that publishing a result on a server returned, such as a run id."""

    values: dict[str, JsonValue]


class RunRecord(Contract):
    """The result of one task of a run, with the time (UTC) of its record."""

    identity: Identity
    result: StepResult
    recorded_at: AwareDatetime


class WatchState(Contract):
    """The value that a watcher reported last: a digest of data, or the version of an alias."""

    value: str


def parse_document(data: bytes | None, kind: type[Document]) -> Document | None:
    """Return a document from its JSON; None without bytes, or if they are not such a document."""
    try:
        return kind.model_validate_json(data) if data is not None else None
    except ValidationError:
        return None


def object_name(digest: str, kind: ArtifactKind) -> str:
    """Return the name of an artifact's file."""
    return f"objects/{digest[:2]}/{digest}.{_EXTENSIONS[kind]}"


def manifest_name(step: str, key: str) -> str:
    """Return the name of a manifest."""
    return f"manifests/{quote_name(step)}/{quote_name(key)}.json"


def published_name(step: str, key: str, server: str) -> str:
    """Return the name of the document with the values that publishing a result on a server returned."""
    return f"published/{quote_name(step)}/{quote_name(key)}/{quote_name(server)}.json"


def watch_name(kind: str, name: str) -> str:
    """Return the name of a watcher's state."""
    return f"watches/{quote_name(kind)}/{quote_name(name)}.json"


def container_file(job: str, file: str) -> str:
    """Return the name of a file that a step in a container reads or writes."""
    return f"containers/{quote_name(job)}/{file}"


def lease_name(step: str, key: str) -> str:
    """Return the name of a lease."""
    return f"leases/{quote_name(step)}/{quote_name(key)}.json"


def run_folder(pipeline: str, run_id: str) -> str:
    """Return the folder of a run's records."""
    return f"runs/{quote_name(pipeline)}/{quote_name(run_id)}"


def record_name(identity: Identity, step: str) -> str:
    """Return the name of the record of a step that a task ran. A quoted name has no dot."""
    index = f".{identity.map_index}" if identity.map_index >= 0 else ""
    run = run_folder(identity.pipeline, identity.run_id)
    return f"{run}/{quote_name(identity.task_id)}/{quote_name(step)}{index}.json"


def is_own_name(name: str) -> bool:
    """Return whether a name has the form of a name of this module. Other programs can put files into the folders."""
    form = _NAMES.get(name.partition("/")[0])
    return form is not None and form.fullmatch(name.replace("%/", "")) is not None


def step_of_record(name: str) -> tuple[str, str]:
    """Return the task id and the step in the name of a record."""
    *_, task, file = name.replace("%/", "").split("/")
    return unquote_name(task), unquote_name(file.partition(".")[0])


def run_of(name: str) -> tuple[str, str]:
    """Return the pipeline and the run id in the name of a record or of a run state."""
    _, pipeline, run_id, *_ = name.replace("%/", "").split("/")
    return unquote_name(pipeline), unquote_name(run_id)


def run_state_folder(pipeline: str, run_id: str, place: str) -> str:
    """Return the folder of a run's state for a Slack channel."""
    return f"run_states/{quote_name(pipeline)}/{quote_name(run_id)}/{quote_name(place)}"


def pending_folder(place: str) -> str:
    """Return the folder of the runs whose end a Slack channel has not received."""
    return f"pending/{quote_name(place)}"


def quote_name(name: str) -> str:
    """Return a name in characters that every file system accepts: letters, digits, `_`, `-`, `~` and `%XX`.

    A name of more than 200 characters continues in a folder below, after `%/`. `%-` is the empty name.
    """
    safe = quote(name, safe="").replace(".", "%2E")
    return "%/".join(re.findall(".{1,200}", safe)) or "%-"


def unquote_name(name: str) -> str:
    """Return the name from which :func:`quote_name` returned this one."""
    return "" if name == "%-" else unquote(name.replace("%/", ""))
