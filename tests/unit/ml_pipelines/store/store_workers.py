"""Processes that work on one store at once, or are killed while they do: `python store_workers.py COMMAND URI`.

Each says in a line on its standard output that it has got there, and then waits for its standard input to end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key

STEP = "split"
COMPONENTS: Components = {"step": STEP, "seed": 1}
KEY = components_key(COMPONENTS)


def find_or_compute(store: ArtifactStore) -> tuple[bool, ArtifactRef]:
    """What a runner does: whether it had to compute, and what there is then."""
    with store.lease(STEP, KEY):
        if manifest := store.lookup(STEP, KEY):
            return False, manifest.outputs["train"]
        ref = store.put_bytes(b"x" * 1_000_000, kind="table", rows=1)
        store.commit(
            STEP, KEY, StepResult(step=STEP, key=KEY, status="computed", reason="", outputs={"train": ref}), COMPONENTS
        )
        return True, ref


def stop_here() -> None:
    print("there", flush=True)
    sys.stdin.read()


def race(store: ArtifactStore) -> None:
    """Eight processes on one key. Each prints whether it computed and what it got."""
    ready, go = os.pipe()
    for _ in range(8):
        if os.fork() == 0:
            os.close(go)
            os.read(ready, 1)  # until all are there
            computed, ref = find_or_compute(store)
            os.write(1, f"{computed} {ref.model_dump_json()}\n".encode())
            os._exit(0)
    os.close(go)
    for _ in range(8):
        if os.waitstatus_to_exitcode(os.wait()[1]):
            sys.exit("a worker failed")


def hold(store: ArtifactStore) -> None:
    with store.lease(STEP, KEY):
        stop_here()


def put(store: ArtifactStore) -> None:
    """Stops when the object is written, but not yet under its name."""
    Path.replace = lambda *_: stop_here()  # type: ignore[assignment,method-assign]
    store.put_bytes(b"never there", kind="json")


def commit(store: ArtifactStore) -> None:
    """Stops when the manifest is written, but not yet under its name."""
    os.fsync = lambda fd: stop_here()
    find_or_compute(store)


def scratch(store: ArtifactStore) -> None:
    with store.scratch() as directory:
        Path(directory, "half.parquet").write_bytes(b"PAR1")
        stop_here()


if __name__ == "__main__":
    command, uri = sys.argv[1:]
    globals()[command](ArtifactStore(uri))
