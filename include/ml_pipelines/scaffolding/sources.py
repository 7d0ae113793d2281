"""The source and the name of a future declaration, from the arguments of a command."""

from __future__ import annotations

import re
from typing import Any
from unicodedata import normalize

from pydantic import TypeAdapter, ValidationError

from ml_pipelines._utils.addresses import redact_address
from ml_pipelines.contracts import describe_validation_error
from ml_pipelines.errors import RequestError
from ml_pipelines.spec.sources import DvcSource, FileSource, SourceSection, SqlSource
from ml_pipelines.spec.training import ModelName

__all__ = ["declare_source", "pipeline_name"]

_SUFFIXES = re.compile(r"(\.csv|\.csv\.gz|\.parquet)$", re.IGNORECASE)
_LONGEST_NAME = 100


def declare_source(data: str, *, sql: str | None = None, dvc: str | None = None) -> SourceSection:
    """Return the section of a source.

    Args:
        data: path or URI of a file, a query, or a path in a repository.
        sql: name of a connection; then `data` is a query.
        dvc: git repository; then `data` is the path of a file that DVC tracks.

    Raises:
        RequestError: the arguments exclude each other, are empty, or hold credentials.
    """
    if sql is not None and dvc is not None:
        fix = "pass --sql for a query, --dvc for a tracked file, or neither for a file"
        raise RequestError("the data have two sources", expected="either --sql or --dvc", got="both", fix=fix)
    for address in (dvc, None if sql is not None else data):
        if address is not None and (shown := redact_address(address)) != address:
            raise RequestError(
                "the address has credentials, which a declaration must not hold",
                where=shown,
                fix="put the address into a variable whose name begins with ML_DATA_, and pass '${ML_DATA_...}'",
            )
    kind: type[SourceSection] = SqlSource if sql is not None else DvcSource if dvc is not None else FileSource
    fields: dict[str, Any] = {"path": data}
    if sql is not None:
        fields = {"query": data, "connection": sql}
    elif dvc is not None:
        fields["repo"] = dvc
    try:
        return kind.model_validate(fields)
    except ValidationError as exc:
        got = describe_validation_error(exc)
        raise RequestError("the data have no valid address", got=got, fix="correct the arguments") from exc


def pipeline_name(data: str, name: str | None = None, *, is_query: bool = False) -> str:
    """Return the name of a pipeline: the requested one, or that of the file in the letters that Airflow allows.

    Raises:
        RequestError: the name has other letters, or the data have no name.
    """
    if name is None:
        return _name_of_file("" if is_query else data)
    try:
        return str(TypeAdapter(ModelName).validate_python(name))
    except ValidationError as exc:
        raise _no_name("the name can't be that of a pipeline", name) from exc


def _name_of_file(address: str) -> str:
    stem = _SUFFIXES.sub("", re.split(r"[/\\]", re.sub(r"[?#].*", "", address))[-1])
    letters = normalize("NFKD", stem).encode("ascii", "ignore").decode()
    if name := re.sub(r"[^A-Za-z0-9_.-]+", "_", letters).strip("._-")[:_LONGEST_NAME]:
        return name
    raise _no_name("the data have no name for the pipeline", address)


def _no_name(what: str, got: str) -> RequestError:
    expected = "letters a to z, digits, _ . and -, beginning with a letter, digit or _"
    return RequestError(what, where="--name", expected=expected, got=got, fix="pass --name, such as --name churn")
