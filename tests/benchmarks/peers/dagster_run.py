"""The same as Dagster assets, in one process. `python dagster_run.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster
import work

FOLDER = Path(sys.argv[1]).resolve()


def stage(name: str, before: str | None) -> dagster.AssetsDefinition:
    @dagster.asset(name=name, deps=[before] if before else [])
    def run() -> None:
        getattr(work, name)(FOLDER)

    return run


if __name__ == "__main__":
    befores = [None, *work.STAGES]
    assets = [stage(name, before) for before, name in zip(befores, work.STAGES, strict=False)]
    assert dagster.materialize(assets).success
