"""Load the code that a declaration names, and digest its sources. No other module resolves such an import path.

A path is `package.module:name`. Its top-level package must be one of :func:`allowed_packages`. The digests are read
without an import, so that a cache hit runs no user code.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ml_pipelines._utils.canonical_json import canonical_json, json_digest, sha256_hex
from ml_pipelines._utils.distributions import find_distribution
from ml_pipelines.errors import RequestError, UserCodeError
from ml_pipelines.pipeline.import_closure import Closure, import_closure, module_file
from ml_pipelines.pipeline.user_errors import user_code_errors, user_error
from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, enable_code_folder
from ml_pipelines.spec.code_packages import (
    DEFAULT_PACKAGES,
    PACKAGES_VARIABLE,
    allowed_packages,
    is_allowed_package,
    top_level,
)

__all__ = [
    "SourceDigests",
    "changed_sources",
    "import_path",
    "imported_packages",
    "load_code",
    "require_unchanged",
    "short_digests",
    "source_digests",
    "source_files",
]

SourceDigests = dict[str, dict[str, str]]
"""File -> function or class -> digest of its source. The rest of a file has the name `module level`."""

_CORE = "ml_pipelines"
_REST = "module level"
_LONGEST_TAG = 3000  # registries cut the tags of a version at 5000 characters
# The digest of each module when this process imported it.
_imported: dict[str, str] = {}


def load_code(path: str, *, where: str) -> Any:
    """Import and return the object at `module:name` or `module.name`; a changed source is imported again.

    Args:
        path: the import path.
        where: key of the declaration, for errors.

    Raises:
        UserCodeError: the package is not allowed, the module fails to import, or it has no such name.
    """
    _check_allowed(path, where)
    module, name = import_path(path)
    if module_file(module) is None and find_distribution(top_level(path)) is None:
        raise _not_found(path, where)
    with user_code_errors(path, where), _syntax_errors(path):
        _forget_changed(path)
        loaded = import_module(module)
    if not hasattr(loaded, name):
        raise UserCodeError(
            f"the module {module} has no {name!r}",
            where=f"{where}: {path}",
            expected=f"one of {', '.join(_public_names(loaded)) or 'no names'}",
            got=name,
            fix=f"correct the name, or define it in {loaded.__file__}",
        )
    return getattr(loaded, name)


def import_path(path: str) -> tuple[str, str]:
    """Return the module and the name of `module:name` or `module.name`."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return module, name


def source_digests(paths: Iterable[str]) -> SourceDigests:
    """Return the digests of the import closure of code, by file and function. It imports nothing.

    Code of :data:`DEFAULT_PACKAGES` has none, because the versions of these packages stand for it.

    Raises:
        UserCodeError: a module is not found, or its source is not valid Python.
    """
    with _syntax_errors(", ".join(paths := [*paths])):
        modules = [name for name in _closure(paths).digests if top_level(name) != _CORE]
        files = {_display(name): module_file(name) for name in modules}
        return {shown: _definitions(file, _stamp(file)) for shown, file in files.items() if file is not None}


def source_files(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the files of the import closure of code; errors as of :func:`source_digests`."""
    with _syntax_errors(", ".join(paths := [*paths])):
        modules = [name for name in _closure(paths).digests if top_level(name) != _CORE]
    return tuple(file for name in modules if (file := module_file(name)) is not None)


def imported_packages(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the top-level names of the versioned packages that code imports."""
    return _closure(paths).external


def changed_sources(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the functions and files that differ, such as `shop/features.py: add_ratios`."""
    texts = []
    for file in sorted({*before, *now}):
        old, new = before.get(file, {}), now.get(file, {})
        if not old or not new:
            texts.append(f"{file} ({'new' if new else 'removed'})")
        elif names := [name for name in dict.fromkeys((*new, *old)) if old.get(name) != new.get(name)]:
            texts.append(f"{file}: {', '.join(names)}")
    return texts


def require_unchanged(path: str, sources: Mapping[str, Mapping[str, str]], *, where: str) -> None:
    """Raise UserCodeError if code has changed since a model was trained with it.

    Args:
        path: import path of the code.
        sources: digests at the training, of :func:`source_digests`.
        where: key of the declaration, for the error.
    """
    if changes := changed_sources(sources, source_digests([path])):
        raise UserCodeError(
            f"{path} has changed since the model was trained",
            where=where,
            expected="the sources that the model was trained with",
            got="; ".join(changes),
            fix="train a model with this code, or restore it; put a new version into a new module, so that the old one "
            "scores until the new model is promoted",
        )


def short_digests(sources: SourceDigests) -> str:
    """Return shortened digests as JSON that fits into a tag; by file alone for much code, and empty for too much."""
    by_function = {file: {name: digest[:8] for name, digest in names.items()} for file, names in sources.items()}
    by_file = {file: {"": json_digest(names)[:8]} for file, names in sources.items()}
    texts = (canonical_json(digests) for digests in (by_function, by_file) if digests)
    return next((text for text in texts if len(text) <= _LONGEST_TAG), "")


def _closure(paths: Iterable[str]) -> Closure:
    enable_code_folder()
    modules = []
    for path in paths:
        module, _ = import_path(path)
        if top_level(path) in DEFAULT_PACKAGES:
            continue
        if module_file(module) is not None:
            modules.append(module)
        elif find_distribution(top_level(path)) is None:
            raise _not_found(path, "the declaration")
    return import_closure(modules) if modules else Closure({}, ())


@contextmanager
def _syntax_errors(path: str) -> Iterator[None]:
    """Show the user's line where a source is not valid Python."""
    try:
        yield
    except RequestError as exc:
        if not isinstance(exc.__cause__, SyntaxError):
            raise
        raise user_error(exc.__cause__, path, "the declaration") from exc
    except SyntaxError as exc:
        raise user_error(exc, path, "the declaration") from exc


def _check_allowed(path: str, where: str) -> None:
    package = top_level(path)
    if not is_allowed_package(package):
        raise UserCodeError(
            f"{path} is not from an allowed package",
            where=where,
            expected=f"code of {' or '.join(allowed_packages())}",
            got=package,
            fix=f"allow {package!r} in the deployment by [ml_pipelines] code_packages or {PACKAGES_VARIABLE}",
        )


def _not_found(path: str, where: str) -> UserCodeError:
    enable_code_folder()
    module, _ = import_path(path)
    return UserCodeError(
        f"there is no module {module}",
        where=f"{where}: {path}",
        expected=f"an installed package, or a module beside the declaration that {PACKAGES_VARIABLE} names",
        fix="correct the path; on a worker or in a container install the package, or put its folder into "
        f"PYTHONPATH or {FOLDER_VARIABLE}",
    )


def _forget_changed(path: str) -> None:
    """Remove modules whose source has changed since their import, so that the digest belongs to the code that runs."""
    enable_code_folder()
    digests = {name: digest for name, digest in _closure([path]).digests.items() if top_level(name) != _CORE}
    if any(name in sys.modules and _imported.get(name, digest) != digest for name, digest in digests.items()):
        for name in digests:
            sys.modules.pop(name, None)
    _imported.update(digests)


def _public_names(module: Any) -> list[str]:
    return sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))


def _display(module: str) -> str:
    file = module_file(module) or ""
    base = "/".join(module.split("."))
    return f"{base}/__init__.py" if file.endswith("__init__.py") else f"{base}.py"


def _stamp(file: str | None) -> tuple[int, int]:
    stat = Path(file or "").stat()
    return stat.st_mtime_ns, stat.st_size


@functools.cache  # by modification time and size
def _definitions(file: str, _version: tuple[int, int]) -> dict[str, str]:
    """Return the digest of each function and class of a file, and of the lines around them."""
    text = Path(file).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    digests, rest = {}, list(lines)
    for name, start, end in _spans(ast.parse(text, file)):
        digests[name] = sha256_hex("".join(lines[start:end]))
        rest[start:end] = [f"<{name}>"] + [""] * (end - start - 1)
    return {**digests, _REST: sha256_hex("".join(rest))}


def _spans(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Return name, first line and end of each function and class, with its decorators."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, first - 1, node.end_lineno or node.lineno
