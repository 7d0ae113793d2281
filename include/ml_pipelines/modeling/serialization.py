"""Models as bytes in the skops format: equal models give equal bytes, in any process.

Unlike pickle, the format runs no code: it names types, and the loader rebuilds only trusted ones, see
:mod:`ml_pipelines.modeling.trusted_types`. skops writes memory addresses and the time of day into its files; this
module replaces both.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ml_pipelines.errors import ModelError
from ml_pipelines.modeling.trusted_types import TYPES_VARIABLE, trusted_types
from ml_pipelines.spec.code_folder_import import enable_code_folder

__all__ = ["dump_model", "load_model"]

_SCHEMA = "schema.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


def dump_model(estimator: Any) -> bytes:
    """Return a fitted estimator as a skops file; equal models give equal bytes.

    Raises:
        ModelError: it holds an object that skops can't store, or whose type is not trusted.
    """
    skops = _import_skops()
    try:
        with _without_warnings():
            dumped = skops.dumps(estimator)
        data = _canonical(dumped)
        untrusted = _untrusted(skops, data)
    except MemoryError:
        raise
    except Exception as exc:  # an estimator may hold any object
        raise ModelError(
            "the model can't be stored in the skops format",
            where=_name(estimator),
            got=f"{type(exc).__name__}: {exc}",
            fix="choose another estimator, or parameters that are plain numbers and texts",
        ) from exc
    if untrusted:
        raise _untrusted_error(untrusted, where=_name(estimator))
    return data


def load_model(data: bytes) -> Any:
    """Return the estimator in a skops file of any origin.

    Raises:
        ModelError: the bytes are no skops file, or name a type that is not trusted.
    """
    enable_code_folder()
    skops = _import_skops()
    try:
        return skops.loads(data, trusted=list(trusted_types()))
    except skops.exceptions.UntrustedTypesFoundException as exc:
        raise _untrusted_error(_untrusted(skops, data), where="the model file") from exc
    except MemoryError:
        raise
    except Exception as exc:  # skops trusts the form of a file that another program may have written
        raise ModelError(
            "the model file can't be read",
            expected="a model that this project has stored, read with the packages that it was trained with",
            got=f"{type(exc).__name__}: {exc}",
            fix="train the model again, or install the versions that its training record lists",
        ) from exc


def _untrusted(skops: Any, data: bytes) -> set[str]:
    return set(skops.get_untrusted_types(data=data)) - set(trusted_types())


def _import_skops() -> Any:
    from ml_pipelines.modeling.skops_import import skops_io

    return skops_io


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence warnings of moved names: skops looks up every function that it lists or stores in every loaded module.

    Some modules, of Airflow for example, warn about a name that they never had.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _untrusted_error(types: Iterable[str], *, where: str) -> ModelError:
    names = ",".join(sorted(types))
    return ModelError(
        f"the model holds types that are not trusted: {', '.join(sorted(types))}",
        where=where,
        expected="types of scikit-learn, and those of ml_pipelines.modeling.trusted_types.trusted_types()",
        fix=f"choose another estimator, or review the types and set {TYPES_VARIABLE}={names} on every worker",
    )


def _name(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__


def _canonical(data: bytes) -> bytes:
    """Rewrite a skops file: members named by content, no addresses, no dates, sets in order."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    contents = {name: _without_gaps(name, content) for name, content in members.items()}
    names = {
        name: f"{hashlib.sha256(content).hexdigest()}{name[name.rindex('.') :]}" for name, content in contents.items()
    }
    files = {names[name]: content for name, content in contents.items()}
    files[_SCHEMA] = json.dumps(_without_addresses(schema, names), separators=(",", ":")).encode()
    return _zip(files)


def _without_gaps(name: str, content: bytes) -> bytes:
    """A member whose array of records has zeros in the gaps between its fields; these bytes are not its content."""
    if not name.endswith(".npy") or b"'descr': [" not in content[:64]:
        return content
    import numpy as np

    array = np.load(io.BytesIO(content), allow_pickle=False)
    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            target.writestr(entry, files[name])
    return buffer.getvalue()


def _without_addresses(node: Any, names: dict[str, str]) -> Any:
    """A node of the schema without `__id__`.

    skops marks objects with their addresses, so that it rebuilds an object once that occurs twice. Without the mark it
    rebuilds it twice, which does not matter to predictions; the arrays in the file are still shared.
    """
    if isinstance(node, list):
        return [_without_addresses(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(loader := node.get("__loader__"), str):
        return {key: _without_addresses(value, names) for key, value in node.items()}
    clean = {key: _without_addresses(value, names) for key, value in node.items() if key not in ("__id__", "file")}
    if "file" in node:
        clean["file"] = names[node["file"]]
    if loader == "SetNode":
        clean["content"] = sorted(clean["content"], key=json.dumps)
    return clean
