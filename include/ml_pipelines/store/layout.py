"""What a store keeps and under which names.

::

    objects/<first 2 digits>/<sha256>.<ext>                 the artifacts
    recipes/<step>/<key>.json                               a manifest, what a recipe made; written last: the commit
    published/<step>/<key>/<place>.json                     what publishing that result somewhere told
    runs/<pipeline>/<run_id>/<task_id>[.<map_index>].json   what each task of a run got
    leases/<step>/<key>.json                                who is working on a recipe
    run_states/<pipeline>/<run_id>/<place>/                 state of a run, and what a Slack channel has received
    pending/<place>/<key>.json                              run whose end a Slack channel has not received
    handed/<job>/                                           what was handed to a container: request, result, heartbeat
    watches/<kind>/<name>.json                              what a watcher has told last
    tmp/                                                    files in the making; only where the store is a folder
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
    "Watched",
    "handed_name",
    "lease_name",
    "object_name",
    "parsed",
    "pending_folder",
    "published_name",
    "quoted",
    "recipe_name",
    "record_name",
    "run_folder",
    "run_of",
    "run_state_folder",
    "unquoted",
    "watch_name",
]

_EXTENSIONS: dict[ArtifactKind, str] = {
    "table": "parquet",
    "json": "json",
    "model": "skops",
    "image": "png",
    "html": "html",
}

Document = TypeVar("Document", bound=Contract)


class Manifest(Contract):
    """What a recipe made.

    Attributes:
        step: name in the catalog.
        key: of the recipe.
        outputs: artifacts by name.
        values: small results.
        created_at: when it was committed, UTC.
        components: of the recipe; see :mod:`ml_pipelines.pipeline.cache_key`.
    """

    step: str
    key: Sha256
    outputs: dict[str, ArtifactRef]
    values: dict[str, JsonValue]
    created_at: AwareDatetime
    components: Components

    @property
    def result(self) -> StepResult:
        """What a hit gives back; the caller knows the reason and the time."""
        return StepResult(
            step=self.step, key=self.key, status="cached", reason="hit", outputs=self.outputs, values=self.values
        )


class Published(Contract):
    """What publishing a result told: names and addresses in the place where it was published."""

    values: dict[str, JsonValue]


class RunRecord(Contract):
    """What one task of a run got, and when (UTC)."""

    identity: Identity
    result: StepResult
    recorded_at: AwareDatetime


class Watched(Contract):
    """What a watcher has last told: the data's digest, or the version that an alias pointed to."""

    told: str


def parsed(data: bytes | None, kind: type[Document]) -> Document | None:
    """A document from its bytes, None if there are none or they are something else."""
    try:
        return kind.model_validate_json(data) if data is not None else None
    except ValidationError:
        return None


def object_name(digest: str, kind: ArtifactKind) -> str:
    """Name of an artifact."""
    return f"objects/{digest[:2]}/{digest}.{_EXTENSIONS[kind]}"


def recipe_name(step: str, key: str) -> str:
    """Name of a manifest."""
    return f"recipes/{quoted(step)}/{quoted(key)}.json"


def published_name(step: str, key: str, place: str) -> str:
    """Name of what publishing a result in a place told."""
    return f"published/{quoted(step)}/{quoted(key)}/{quoted(place)}.json"


def watch_name(kind: str, name: str) -> str:
    """Name of what a watcher has last told."""
    return f"watches/{quoted(kind)}/{quoted(name)}.json"


def handed_name(job: str, file: str) -> str:
    """Name of a file of what was handed to a container."""
    return f"handed/{quoted(job)}/{file}"


def lease_name(step: str, key: str) -> str:
    """Name of a lease."""
    return f"leases/{quoted(step)}/{quoted(key)}.json"


def run_folder(pipeline: str, run_id: str) -> str:
    """Folder of a run's records."""
    return f"runs/{quoted(pipeline)}/{quoted(run_id)}"


def record_name(identity: Identity) -> str:
    """Name of a run's record; a quoted task id has no dot of its own."""
    index = f".{identity.map_index}" if identity.map_index >= 0 else ""
    return f"{run_folder(identity.pipeline, identity.run_id)}/{quoted(identity.task_id)}{index}.json"


def run_of(name: str) -> tuple[str, str]:
    """Pipeline and run id of the name of a run's record or of what is said about the run."""
    _, pipeline, run_id, *_ = name.replace("%/", "").split("/")
    return unquoted(pipeline), unquoted(run_id)


def run_state_folder(pipeline: str, run_id: str, place: str) -> str:
    """Return the folder of a run's state for a Slack channel."""
    return f"run_states/{quoted(pipeline)}/{quoted(run_id)}/{quoted(place)}"


def pending_folder(place: str) -> str:
    """Return the folder of the runs whose end a Slack channel has not received."""
    return f"pending/{quoted(place)}"


def quoted(name: str) -> str:
    """A name that any file system takes, and that stays where it is put: letters, digits, `_`, `-`, `~` and `%XX`.

    It goes on in a folder below after 200 characters, where it has `%/`. `%-` is the empty name.
    """
    safe = quote(name, safe="").replace(".", "%2E")
    return "%/".join(re.findall(".{1,200}", safe)) or "%-"


def unquoted(name: str) -> str:
    """What was quoted."""
    return "" if name == "%-" else unquote(name.replace("%/", ""))
