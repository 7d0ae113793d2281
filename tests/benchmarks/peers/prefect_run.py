"""The same as a Prefect flow whose tasks hand on paths and are cached by their inputs. `python prefect_run.py FOLDER`.

With PREFECT_API_URL it talks to that server, else it starts one of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import work
from prefect import flow, task
from prefect.cache_policies import INPUTS


def stage(name: str):
    def run(folder: str, before: str) -> str:
        getattr(work, name)(Path(folder))
        return name

    return task(run, name=name, cache_policy=INPUTS, persist_result=True, result_storage_key=None)


@flow
def pipeline(folder: str) -> None:
    before = ""
    for name in work.STAGES:
        before = stage(name)(folder, before)


if __name__ == "__main__":
    pipeline(str(Path(sys.argv[1]).resolve()))
