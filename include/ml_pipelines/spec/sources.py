"""Where the rows of a declaration come from: the kinds of sources and how a package adds one.

A kind of source is one class below :class:`SourceSection`. The built-in kinds are the fields of :class:`DataSection`.
An installed package adds a kind by an entry point in the group `ml_pipelines.sources`::

    [project.entry-points."ml_pipelines.sources"]
    warehouse = "my_package.source:WarehouseSource"

Then `data: {warehouse: {...}}` is valid in a declaration. The class is imported only when a declaration names it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self, get_args
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    Strict,
    create_model,
    model_validator,
)

from ml_pipelines._utils.entry_points import find_entry_points, load_entry_point
from ml_pipelines.errors import ExtensionError

__all__ = [
    "LINE",
    "LINES",
    "SOURCE_GROUP",
    "Count",
    "DataSection",
    "DvcSource",
    "FileSource",
    "Name",
    "Section",
    "Source",
    "SourceSection",
    "SqlSource",
    "Text",
    "source_class",
    "source_kinds",
]

SOURCE_GROUP = "ml_pipelines.sources"
"""The entry-point group of source kinds. The entry's name is the key in the declaration and the class's `kind`."""

# Strict: a quoted number is an error and not a number.
Count = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Share = Annotated[Number, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
_LONGEST_PATH = 1200
LINE = r"^[^\p{Cc}\p{Zl}\p{Zp}\x{202a}-\x{202e}\x{2066}-\x{2069}]*$"
"""Pattern of one line without control characters and marks that change the direction of writing."""
LINES = rf"^(?:{LINE[1:-2]}|[\t\r\n])*$"
"""The same with line breaks and tabs."""
# Airflow stores names of connections, queues and pools in columns of 250 characters or more.
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=LINE)]


class Section(BaseModel):
    """Base of all sections of a declaration: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _require_asset_path(path: str) -> str:
    # Airflow stores the URI of an asset, which has the encoded path after the name of the pipeline, in 1500 characters.
    if len(quote(path)) > _LONGEST_PATH:
        raise ValueError(f"expected a path of at most {_LONGEST_PATH} characters, with special characters as %XX")
    return path


class SourceSection(Section):
    """Base of the source kinds: the fields that a declaration gives under `data: {KIND: ...}`.

    Attributes:
        kind: key in the declaration and `DataPin.source`.
        adapter: `module:name` of a callable that takes the section and the keyword arguments `environment` and
            `connections`, and returns a :class:`ml_pipelines.ports.DataSource`.
        address_field: field whose text may name environment variables as `${NAME}`; None if no field may.
        path_field: field that may hold a local path; None if no field may. A relative path is relative to the folder
            of the declaration.
        revision_field: field that a run may replace to read another revision; None if the source has no revisions.
    """

    kind: ClassVar[str]
    adapter: ClassVar[str]
    address_field: ClassVar[str | None] = None
    path_field: ClassVar[str | None] = None
    revision_field: ClassVar[str | None] = None


class DvcSource(SourceSection):
    """A file that DVC tracks in a git repository.

    Attributes:
        repo: URL of the repository, or its path, relative to the folder of the declaration. It may name environment
            variables: `${ML_DATA_REPO}`.
        connection: name of a connection with the credentials, and with the repository if `repo` is not declared.
        path: path of the file in the repository.
        rev: branch, tag or commit.
    """

    kind: ClassVar[str] = "dvc"
    adapter: ClassVar[str] = "ml_pipelines.adapters.dvc.source:DvcDataSource"
    address_field: ClassVar[str | None] = "repo"
    path_field: ClassVar[str | None] = "repo"
    revision_field: ClassVar[str | None] = "rev"

    repo: str | None = None
    connection: Name | None = None
    path: Annotated[str, Field(min_length=1, pattern=LINE), AfterValidator(_require_asset_path)]
    rev: Annotated[str, Field(min_length=1, max_length=250, pattern=LINE)] = "HEAD"

    @model_validator(mode="after")
    def _require_address(self) -> DvcSource:
        if self.repo is None and self.connection is None:
            raise ValueError("give repo, or connection, or both")
        return self


class FileSource(SourceSection):
    """A CSV or Parquet file.

    Attributes:
        path: local path, relative to the folder of the declaration, or any URI that fsspec opens. It may name
            environment variables.
    """

    kind: ClassVar[str] = "file"
    adapter: ClassVar[str] = "ml_pipelines.adapters.files.source:FileDataSource"
    address_field: ClassVar[str | None] = "path"
    path_field: ClassVar[str | None] = "path"

    path: Text


class SqlSource(SourceSection):
    """The rows of a SQL query. Declare either `url` or `connection`.

    Attributes:
        query: the query.
        url: SQLAlchemy URL of the database. It may name environment variables.
        connection: name of a connection to the database.
        chunk_rows: rows that are read at once.
    """

    kind: ClassVar[str] = "sql"
    adapter: ClassVar[str] = "ml_pipelines.adapters.sql.source:SqlDataSource"
    address_field: ClassVar[str | None] = "url"

    query: Text
    url: str | None = None
    connection: Name | None = None
    chunk_rows: Annotated[Count, Field(gt=0)] = 100_000

    @model_validator(mode="after")
    def _require_one_address(self) -> SqlSource:
        if (self.url is None) == (self.connection is None):
            raise ValueError("give either url or connection")
        return self


class DataSection(Section):
    """Base of the sections that read rows. Declare exactly one source; each field is a built-in kind.

    Attributes:
        dvc: file that DVC tracks.
        file: CSV or Parquet file.
        sql: rows of a query.
    """

    dvc: DvcSource | None = None
    file: FileSource | None = None
    sql: SqlSource | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _accept_extension(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        names = [name for name in data if name not in cls.model_fields] if isinstance(data, dict) else []
        # The search for entry points takes milliseconds: only a field that is not built in needs it.
        extensions = tuple(source_class(name) for name in names if name in find_entry_points(SOURCE_GROUP))
        return _with_extensions(cls, extensions).model_validate(data) if extensions else handler(data)

    @model_validator(mode="after")
    def _require_one_source(self) -> Self:
        count = len(list(self._sources()))
        if count != 1:
            *most, last = source_kinds()
            raise ValueError(f"expected exactly one source: {', '.join(most)} or {last}; got {count or 'none'}")
        return self

    @property
    def source(self) -> SourceSection:
        """The declared source."""
        return next(self._sources())

    def _sources(self) -> Iterator[SourceSection]:
        values = (getattr(self, name) for name in type(self).model_fields)
        return (value for value in values if isinstance(value, SourceSection))


_BUILT_IN: dict[str, type[SourceSection]] = {
    name: get_args(field.annotation)[0] for name, field in DataSection.model_fields.items()
}


def source_kinds() -> tuple[str, ...]:
    """Return the kinds that a declaration may name: the built-in ones, then those of installed packages."""
    return (*_BUILT_IN, *sorted(find_entry_points(SOURCE_GROUP)))


def source_class(kind: str) -> type[SourceSection]:
    """Return the class of a source kind.

    Raises:
        KeyError: neither the core nor an installed package has this kind.
        ExtensionError: the class can't be imported, or is not a source kind of this name.
    """
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    section = load_entry_point(SOURCE_GROUP, kind)
    if isinstance(section, type) and issubclass(section, SourceSection) and getattr(section, "kind", None) == kind:
        return section
    raise ExtensionError(
        f"the entry point {kind!r} does not load a source kind",
        where=f"entry-point group {SOURCE_GROUP}",
        expected=f"a subclass of ml_pipelines.SourceSection with kind = {kind!r}",
        got=repr(section),
        fix="correct the class or the name of the entry point",
    )


@functools.cache
def _with_extensions(base: type[DataSection], sections: tuple[type[SourceSection], ...]) -> Any:
    """Return a subclass that has a field for each extension kind."""
    fields: dict[str, Any] = {section.kind: (section | None, None) for section in sections}
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)


def _read_source(value: Any) -> Any:
    """Return the source of `{kind: fields}`; a source is returned as it is."""
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not set(value) <= set(source_kinds()):
        raise ValueError(f"expected one source by its kind ({', '.join(source_kinds())}), got {', '.join(value)}")
    ((kind, fields),) = value.items()
    return source_class(kind).model_validate(fields)


def _write_source(source: SourceSection) -> dict[str, Any]:
    return {source.kind: source.model_dump(mode="json")}


Source = Annotated[SourceSection, BeforeValidator(_read_source), PlainSerializer(_write_source)]
"""A source of any kind. Its JSON form is `{kind: fields}`."""
