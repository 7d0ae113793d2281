"""Find the modules that a module imports, directly and indirectly, by parsing sources without importing them."""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ml_pipelines._utils.canonical_json import sha256_hex
from ml_pipelines._utils.distributions import find_distribution
from ml_pipelines.errors import RequestError

__all__ = ["Closure", "Source", "import_closure", "module_file", "parse_source"]

_CORE = "ml_pipelines"
# A module that `import_object("package.module:name")` loads belongs to the closure as if it were imported.
_LOADED_BY_NAME = re.compile(r"""\bimport_object\(\s*["']([\w.]+):""")
# To parse whole files takes 60 ms for all steps of a training, the import statements alone 5 ms. These expressions
# find all import statements that begin a line. Text in a docstring that looks like one at most adds a module.
_IMPORT = re.compile(r"^[ \t]*((?:from|import)\b[^\n(]*(?:\([^)]*\))?)", re.MULTILINE)
_TYPE_CHECKING = re.compile(r"^([ \t]*)if (?:typing\.)?TYPE_CHECKING:[^\n]*\n(?:(?:\1[ \t]+[^\n]*)?\n)*", re.MULTILINE)
_NOT_AT_LINE_START = re.compile(r"[:;][ \t]*(?:from|import)\b|\\\n")

# The dotted name that is imported, and the names that are taken from it.
_Import = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Closure:
    """The sources that a result depends on.

    Attributes:
        digests: module name -> SHA-256 of its source. Line endings do not matter.
        external: top-level names of the imported third-party modules, sorted.
    """

    digests: dict[str, str]
    external: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file: the digest of its text, and what it imports."""

    digest: str
    imports: frozenset[_Import]


def import_closure(modules: Iterable[str]) -> Closure:
    """Return the import closure of modules within their own top-level packages and the core package.

    A module of another package belongs to it if the package has no distribution, and so no version. It contains
    the imports inside functions and the packages above each module. It does not contain the imports below
    `if TYPE_CHECKING`.

    Args:
        modules: dotted names, such as `ml_pipelines.steps.training.split`.

    Raises:
        RequestError: a module has no source file, or its source is not valid Python.
    """
    queue = list(modules)
    internal = {_CORE, *map(_top_level, queue)}
    digests: dict[str, str] = {}
    external: set[str] = set()
    for name in queue:
        if module_file(name) is None:
            raise _no_source(name)
    while queue:
        name = queue.pop()
        if name in digests or (file := module_file(name)) is None:
            continue
        package = name if _is_package(file) else name.rpartition(".")[0]
        source = parse_source(file, package, *_version_of(file))
        digests[name] = source.digest
        queue.append(name.rpartition(".")[0])
        for module, names in source.imports:
            if _top_level(module) in internal or _is_unversioned(_top_level(module)):
                queue += [module, *_submodules(module, names)]
            elif _top_level(module) not in sys.stdlib_module_names:
                external.add(_top_level(module))
    return Closure({name: digests[name] for name in sorted(digests)}, tuple(sorted(external)))


def _top_level(name: str) -> str:
    return name.partition(".")[0]


def _is_unversioned(top: str) -> bool:
    """Return whether a package has sources but no distribution."""
    return top not in sys.stdlib_module_names and find_distribution(top) is None and module_file(top) is not None


def _submodules(module: str, names: Iterable[str]) -> list[str]:
    """Return the names that may be modules: only a package has modules below it."""
    file = module_file(module)
    return [f"{module}.{name}" for name in names] if file is None or _is_package(file) else []


def _is_package(file: str) -> bool:
    return file.endswith("__init__.py")


def module_file(name: str) -> str | None:
    """Return the path of a module's source; None for a name that is no module, such as an attribute."""
    top, *rest = name.split(".")
    for folder in _folders(top):
        base = "/".join((folder, *rest))
        for path in (f"{base}.py", f"{base}/__init__.py"):
            if os.path.isfile(path):  # noqa: PTH113 - a Path takes five times as long
                return path
    if not rest and top and top != _CORE and (spec := find_spec(top)) and spec.origin and spec.origin.endswith(".py"):
        return spec.origin  # a top-level module that is no package
    return None


def _folders(top: str) -> list[str]:
    """Return the folders of a top-level package. The search imports nothing."""
    if top == _CORE:
        return list(import_module(_CORE).__path__)
    spec = find_spec(top) if top else None
    return list(spec.submodule_search_locations or ()) if spec else []


def _version_of(file: str) -> tuple[int, int]:
    stat = Path(file).stat()
    return stat.st_mtime_ns, stat.st_size


@functools.cache  # by modification time and size: a worker that lives long sees a changed file
def parse_source(file: str, package: str, _modified: int, _size: int) -> Source:
    """Return the digest and the imports of a source file.

    Args:
        file: path of the file.
        package: name of the package that relative imports start from.

    Raises:
        RequestError: the file is not valid Python.
    """
    text = Path(file).read_text(encoding="utf-8")
    try:
        statements = _quick_statements(text) or ast.parse(text, file).body
    except (SyntaxError, ValueError) as exc:
        raise RequestError(
            "a module that a step imports is not valid Python",
            where=file,
            expected=f"source for Python {sys.version_info.major}.{sys.version_info.minor}",
            got=str(exc),
            fix="correct the module",
        ) from exc
    loaded = ((name, ()) for name in _LOADED_BY_NAME.findall(text))
    return Source(sha256_hex(text), frozenset((*_imports(statements, package), *loaded)))


def _quick_statements(text: str) -> list[ast.stmt] | None:
    """Return the import statements of a source; None if only a parse of the whole source can find them."""
    if _NOT_AT_LINE_START.search(text):
        return None
    try:
        return ast.parse("\n".join(_IMPORT.findall(_TYPE_CHECKING.sub("", text)))).body
    except (SyntaxError, ValueError):
        return None


def _imports(body: Iterable[ast.stmt], package: str) -> Iterator[_Import]:
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from ((alias.name, ()) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield _absolute(statement, package), tuple(alias.name for alias in statement.names)
        else:
            # Statements have statements in few fields: a walk over all expressions would take most of the time.
            yield from _imports(_nested(statement), package)


def _nested(statement: ast.stmt) -> Iterator[ast.stmt]:
    if not (isinstance(statement, ast.If) and _is_type_checking(statement.test)):
        yield from getattr(statement, "body", ())
    yield from getattr(statement, "orelse", ())
    yield from getattr(statement, "finalbody", ())
    for block in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield from block.body


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - statement.level + 1]
    return ".".join((*above, statement.module) if statement.module else above)


def _no_source(module: str) -> RequestError:
    return RequestError(
        f"module {module} has no source file",
        where=f"step code {module}",
        expected="a Python file",
        fix="install the package with its sources",
    )
