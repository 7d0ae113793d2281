"""The source of rows."""

from __future__ import annotations

from typing import Protocol

from ml_pipelines.contracts import DataPin

__all__ = ["DataSource"]


class DataSource(Protocol):
    """A declared source of data."""

    def pin(self) -> DataPin:
        """Return the current version without a download.

        Raises:
            SourceNotFound: the repository, revision, file or object does not exist.
            ServiceUnavailable: the server does not answer.
        """
        ...

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Download the version of a pin into a local directory.

        Returns:
            Path of one CSV (`.csv`, UTF-8, with a header) or Parquet (`.parquet`) file.

        Raises:
            SourceNotFound: the version does not exist any more.
            SourceUnreadable: the bytes are not a table, or do not have the digest of the pin.
            ServiceUnavailable: the server does not answer.
        """
        ...
