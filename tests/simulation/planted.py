"""Planted bugs: patches of the product's source, applied to the functions in memory while a schedule runs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["FOLDER", "Bug", "load", "planted"]

FOLDER = Path(__file__).with_name("bugs")
_ROOTS = ("include/", "plugins/")


@dataclass(frozen=True)
class Bug:
    """A patch file: a description, the scenario that shows the bug, and the hunks.

    Attributes:
        name: name of the file without its suffix.
        description: the first line of the file.
        scenario: name of the scenario, in the second line.
        hunks: path of the source, old and new lines.
    """

    name: str
    description: str
    scenario: str
    hunks: tuple[tuple[str, str, str], ...]


def load(path: Path) -> Bug:
    """Return the bug of a patch file."""
    description, scenario, *lines = path.read_text().splitlines()
    hunks: list[tuple[str, list[str], list[str]]] = []
    source = ""
    for line in lines:
        if line.startswith("--- a/"):
            source = line.removeprefix("--- a/")
        elif line.startswith("@@"):
            hunks.append((source, [], []))
        elif hunks and not line.startswith("+++ "):
            _, old, new = hunks[-1]
            if line[:1] != "+":
                old.append(line[1:])
            if line[:1] != "-":
                new.append(line[1:])
    texts = tuple((file, "\n".join(old), "\n".join(new)) for file, old, new in hunks)
    return Bug(path.stem, description, scenario.removeprefix("scenario: "), texts)


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Run the block with a bug.

    Raises:
        ValueError: a hunk does not fit the source at exactly one place.
    """
    with ExitStack() as stack:
        for file, old, new in bug.hunks:
            module = importlib.import_module(_module_name(file))
            source = Path(str(module.__file__)).read_text()
            if source.count(old) != 1:
                raise ValueError(f"{bug.name} does not apply to {file}: update the patch")
            _exchange(module, source.replace(old, new), stack)
        yield


def _module_name(file: str) -> str:
    root = next(root for root in _ROOTS if file.startswith(root))
    return file.removeprefix(root).removesuffix(".py").replace("/", ".")


def _exchange(module: ModuleType, source: str, stack: ExitStack) -> None:
    """Let the functions of a module run other code. The function objects stay, so every importer has the bug."""
    namespace = {**vars(module), "__name__": module.__name__}
    exec(compile(source, str(module.__file__), "exec"), namespace)  # noqa: S102  the module's own source
    changed = dict(_functions(namespace, module.__name__))
    for name, function in _functions(vars(module), module.__name__):
        other = changed[name].__code__
        if _body(function.__code__) != _body(other):
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = other


def _functions(namespace: dict[str, Any], module: str) -> Iterator[tuple[str, FunctionType]]:
    for value in list(namespace.values()):
        members = vars(value).values() if inspect.isclass(value) and value.__module__ == module else (value,)
        for member in members:
            function = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else None
            if isinstance(function, FunctionType) and function.__module__ == module:
                yield function.__qualname__, function


def _body(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(_body(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, constants
