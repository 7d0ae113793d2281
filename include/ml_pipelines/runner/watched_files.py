"""The local files that a training depends on: its declaration, its data and the user code."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from ml_pipelines.adapters.declared_address import resolve_address
from ml_pipelines.errors import PipelineError
from ml_pipelines.pipeline.step_parameters import CompareWithChampionParameters
from ml_pipelines.pipeline.user_code import source_files
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.spec.training import PipelineSpec

__all__ = ["Stamps", "file_stamps", "watched_files"]

Stamps = dict[Path, tuple[int, int] | None]
"""The time of the last write and the size of each file; None for a file that does not exist."""


def watched_files(file: Path, spec: PipelineSpec) -> frozenset[Path]:
    """Return the files whose change affects a run.

    If the user code can't be read, these are the modules in the folder of the declaration.

    Args:
        file: the declaration.
        spec: its content.
    """
    importlib.invalidate_caches()
    folder = file.parent.resolve()
    try:
        modules = [Path(path) for path in source_files(CompareWithChampionParameters.of(spec).code)]
    except PipelineError:  # the run reports it; a new version of any module may correct it
        modules = [*folder.glob("*.py")]
    return frozenset([folder / file.name, *_data_files(spec), *modules])


def _data_files(spec: PipelineSpec) -> list[Path]:
    """Return the local file of the data; none for another source."""
    source = spec.located(spec.data.source)
    if not isinstance(source, FileSource):
        return []
    try:
        path = Path(resolve_address(source.path, os.environ, field="data.file.path").text)
    except PipelineError:  # the run reports a variable that is not set
        return []
    return [path] if path.is_absolute() else []


def file_stamps(files: frozenset[Path]) -> Stamps:
    """Return the stamps of files."""
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
