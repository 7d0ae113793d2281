"""Import the allowed modules that lie beside a declaration, without an entry in `sys.path`.

Only names of `ML_PIPELINES_CODE_PACKAGES` are found in the folder, and only if no other place has a module of the name.
So a file of the folder never replaces an installed package. The folder is in an environment variable, because steps of
the same run may need it in other processes.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from ml_pipelines.spec.code_packages import DEFAULT_PACKAGES, is_configured_package

__all__ = ["FOLDER_VARIABLE", "enable_code_folder", "use_code_folder"]

FOLDER_VARIABLE = "ML_PIPELINES_CODE_FOLDER"


class _FolderFinder(MetaPathFinder):
    """Finds an allowed top-level module in the code folder."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = os.environ.get(FOLDER_VARIABLE)
        if path is not None or not folder or name in DEFAULT_PACKAGES or not is_configured_package(name):
            return None
        return PathFinder.find_spec(name, [folder])


_FINDER = _FolderFinder()


def use_code_folder(folder: Path) -> None:
    """Find allowed modules in this folder from now on, and forget those that came from another folder."""
    new, old = str(folder.resolve()), os.environ.get(FOLDER_VARIABLE)
    enable_code_folder()
    if old == new:
        return
    os.environ[FOLDER_VARIABLE] = new
    importlib.invalidate_caches()
    for name, module in [*sys.modules.items()] if old else ():
        file = getattr(module, "__file__", None) or ""
        if is_configured_package(name.partition(".")[0]) and Path(old or "") in Path(file).parents:
            del sys.modules[name]


def enable_code_folder() -> None:
    """Let this process import from the folder that the environment names."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
