"""The base of the declarations."""

from __future__ import annotations

from pathlib import Path

from pydantic import PrivateAttr

from ml_pipelines.spec.code_folder_import import use_code_folder
from ml_pipelines.spec.relative_paths import source_beside
from ml_pipelines.spec.sources import Section, SourceSection

__all__ = ["Declaration"]


class Declaration(Section):
    """A declaration, with the folder of its file. Two of them are equal if their fields are."""

    _folder: Path | None = PrivateAttr(default=None)

    def set_folder(self, folder: Path) -> None:
        """Record the folder of the file."""
        self._folder = folder

    def located(self, source: SourceSection) -> SourceSection:
        """Return a source of this declaration whose relative path is relative to the folder of the file.

        A declaration that was read from text has no folder; its paths are relative to the working directory.
        """
        return source if self._folder is None else source_beside(self._folder, source)

    def enable_code(self) -> None:
        """Let this process import the allowed modules beside the file. It imports nothing."""
        if self._folder is not None:
            use_code_folder(self._folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.__dict__ == other.__dict__
