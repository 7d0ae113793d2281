"""Change one line of each module of each closure in a copy of the package, and print what differs in the key."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.cache_key import cache_key
from ml_pipelines.pipeline.step import Step
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.store.cache_miss import differences


def components(step: Step) -> Any:
    return cache_key(step, parameters={}, inputs={}, key_facts={}, seed=1)[1]


def source(root: Path, module: str) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def changes(step: Step, path: Path) -> list[str]:
    """Return the differences between the keys before and after a line is added to a file, which is restored."""
    before, text = components(step), path.read_text()
    path.write_text(f"{text}CHANGED = 1\n")
    try:
        return differences(before, components(step))
    finally:
        path.write_text(text)


def main(root: Path) -> None:
    report = {}
    for name, step in (TRAINING_STEPS | BATCH_STEPS).items():
        if step.compute:
            modules = components(step)["code"]
            report[name] = {module: changes(step, source(root, module)) for module in modules}
            report[name]["unrelated"] = changes(step, source(root, "ml_pipelines.cli.app"))
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
