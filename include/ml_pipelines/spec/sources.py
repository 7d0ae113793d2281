"""Where rows may come from, as a declaration says it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

__all__ = ["Count", "DvcSource", "FileSource", "Section", "Sourced", "SqlSource", "Text"]

# Strict: a quoted number is a slip of the pen, not a number.
Count = Annotated[int, Strict()]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of all sections: immutable, and an unknown name is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DvcSource(Section):
    """A file that DVC tracks in a git repository. `repo` may name environment variables: `${DATA_REPO}`.

    A `connection` brings credentials; it also brings the repository, if none is declared.
    """

    repo: str | None = None
    connection: str | None = None
    path: Text
    rev: Text = "HEAD"

    @model_validator(mode="after")
    def _some_address(self) -> DvcSource:
        if self.repo is None and self.connection is None:
            raise ValueError("give repo, or connection, or both")
        return self


class FileSource(Section):
    """A CSV or Parquet file, local or at any URI that fsspec opens. `path` may name environment variables."""

    path: Text


class SqlSource(Section):
    """The rows of a query. Either `url`, which may name environment variables, or the name of a `connection`."""

    query: Text
    url: str | None = None
    connection: str | None = None
    chunk_rows: Annotated[Count, Field(gt=0)] = 100_000

    @model_validator(mode="after")
    def _one_address(self) -> SqlSource:
        if (self.url is None) == (self.connection is None):
            raise ValueError("give either url or connection")
        return self


class Sourced(Section):
    """What has rows: exactly one source of them."""

    dvc: DvcSource | None = None
    file: FileSource | None = None
    sql: SqlSource | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.dvc, self.file, self.sql)) != 1:
            raise ValueError("give exactly one source: dvc, file or sql")
        return self

    @property
    def source(self) -> DvcSource | FileSource | SqlSource:
        """The one source that is declared."""
        source = self.dvc or self.file or self.sql
        assert source is not None
        return source
