"""Import an object by its path, when it is needed: for optional and heavy packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ml_pipelines.errors import MissingExtra

__all__ = ["import_object"]


def import_object(path: str) -> Any:
    """Import and return the object at `module:name`.

    Raises:
        MissingExtra: a third-party package that the module needs is not installed.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing in ("", "ml_pipelines"):
            raise
        raise MissingExtra(
            f"the package {missing!r} is not installed",
            where=module,
            fix='install the extra that provides it: pip install "airflow-provider-ml-pipelines[ml]"',
        ) from exc
