"""Create an empty project: folders for DAGs, plugins and tests, with one test that imports all DAGs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from string import Template

import ml_pipelines
from ml_pipelines.errors import RequestError
from ml_pipelines.scaffolding.files import write_file

__all__ = ["create_project"]


def create_project(folder: Path) -> list[Path]:
    """Write the files of an empty project into a new or empty folder.

    Returns:
        The written paths.

    Raises:
        RequestError: the folder has files, or can't be written.
    """
    _require_empty(folder)
    values = {"name": folder.resolve().name, "version": ml_pipelines.__version__}
    written = []
    for path, text in _templates():
        target = folder / path
        _create_folder(target.parent)
        write_file(target, Template(text).substitute(values))
        written.append(target)
    return written


def _templates() -> Iterator[tuple[Path, str]]:
    """Yield the path and the text of each file. The suffix `.txt` keeps tools from reading templates as code."""
    with as_file(files("ml_pipelines.scaffolding") / "template") as root:
        for path in sorted(root.rglob("*.txt")):
            name = path.name.removesuffix(".txt").removeprefix("dot")
            yield path.relative_to(root).with_name(name), path.read_text(encoding="utf-8")


def _require_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        got = "a folder with files" if folder.is_dir() else "a file"
        expected, fix = "a new or empty folder", "pass another folder"
        raise RequestError("a project needs its own folder", where=str(folder), expected=expected, got=got, fix=fix)


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        got = getattr(exc, "strerror", None) or str(exc)
        fix = "correct the path, or its permissions"
        raise RequestError("the folder can't be created", where=str(folder), got=got, fix=fix) from exc
