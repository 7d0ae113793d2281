"""The plain script: one stage after the other. `python plain_run.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import work

if __name__ == "__main__":
    for stage in work.STAGES:
        getattr(work, stage)(Path(sys.argv[1]).resolve())
