"""Where rows come from."""

from __future__ import annotations

from typing import Protocol

from ml_pipelines.contracts import DataPin

__all__ = ["DataSource"]


class DataSource(Protocol):
    """One declared source, at whatever version it has."""

    def pin(self) -> DataPin:
        """Tell the version without downloading it.

        Raises:
            SourceNotFound: no such repository, revision, file or object.
            ServiceUnavailable: the server that knows does not answer.
        """
        ...

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Bring exactly that version into a local directory.

        Returns:
            Path of one CSV (`.csv`, UTF-8, with a header) or Parquet (`.parquet`) file.

        Raises:
            SourceNotFound: the version is gone.
            SourceUnreadable: the bytes are not a table, or not those of the pin.
            ServiceUnavailable: the server does not answer.
        """
        ...
