"""Relative paths of sources: in a declaration they are relative to the folder of its file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ml_pipelines.spec.sources import SourceSection

__all__ = ["path_beside", "source_beside", "source_from"]

# An absolute path, a path in the home folder, a variable, or an address: `s3://...`, `git@host:path`, `file:...`.
_OTHER = re.compile(r"[/~\\]|\$\{|[\w.@+-]+:")


def path_beside(folder: Path, text: str) -> str:
    """Return a relative path from a folder as an absolute path; any other text unchanged."""
    if _OTHER.match(text):
        return text
    while text.startswith(("./", "../")):
        part, _, text = text.partition("/")
        folder = folder.parent if part == ".." else folder
    return str(folder / text)


def source_beside(folder: Path, source: SourceSection) -> SourceSection:
    """Return a source whose path does not depend on the working directory.

    Args:
        folder: resolved folder of the declaration.
        source: the source as declared.
    """
    return _with_path(source, lambda text: path_beside(folder, text))


def source_from(folder: Path, source: SourceSection) -> SourceSection:
    """Return a source for a declaration in a folder. Its relative path is relative to the working directory before."""
    return _with_path(source, lambda text: text if _OTHER.match(text) else os.path.relpath(text, folder.resolve()))


def _with_path(source: SourceSection, change: Callable[[str], str]) -> SourceSection:
    text = getattr(source, source.path_field) if source.path_field else None
    return source if text is None else source.model_copy(update={str(source.path_field): change(text)})
