"""Report an exception of user code with the user's line first, and its prints in the log."""

from __future__ import annotations

import io
import linecache
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import TracebackType
from typing import NamedTuple

from ml_pipelines.errors import PipelineError, UserCodeError
from ml_pipelines.spec.code_packages import DEFAULT_PACKAGES, is_allowed_package, top_level

__all__ = ["error_text", "user_code_errors", "user_error"]

log = logging.getLogger("ml_pipelines.user_code")


class _Line(NamedTuple):
    """A line of user code."""

    file: str
    number: int
    function: str
    statement: str


class _LogStream(io.TextIOBase):
    """Writes complete lines to the log."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> int:
        *lines, self._text = (self._text + text).split("\n")
        for line in lines:
            log.info("%s", line)
        return len(text)

    def finish(self) -> None:
        """Write the last line, which may have no line end."""
        if self._text:
            self.write("\n")


@contextmanager
def user_code_errors(path: str, where: str) -> Iterator[None]:
    """Convert an exception of user code into a UserCodeError, and send its prints to the log.

    Args:
        path: import path of the code.
        where: key of the declaration that names it.
    """
    stream = _LogStream()
    try:
        with redirect_stdout(stream):
            yield
    except (PipelineError, MemoryError):
        raise
    except (Exception, SystemExit) as exc:  # user code may raise anything
        raise user_error(exc, path, where) from exc
    finally:
        stream.finish()


def error_text(exc: BaseException) -> str:
    """Return an exception in one line, after the line of user code that raised it, if there is one."""
    line = _user_line(exc.__traceback__, "")
    place = f"{line.file}:{line.number}: " if line else ""
    return place + f"{type(exc).__name__}: {' '.join(str(exc).split())}".rstrip(": ")


def user_error(exc: BaseException, path: str, where: str) -> UserCodeError:
    """Return the error that shows the line of user code where an exception was raised."""
    reason = f"{type(exc).__name__}: {' '.join(str(exc).split())}".rstrip(": ")
    line = _syntax_line(exc) if isinstance(exc, SyntaxError) else _user_line(exc.__traceback__, path)
    if line is None:
        return UserCodeError(f"{path} raised {reason}", where=where, fix="correct the code")
    return UserCodeError(
        f"{line.file}:{line.number}: {reason}",
        where=f"{where}: {path}, in {line.function}",
        got=line.statement,
        fix="correct the code",
    )


def _syntax_line(exc: SyntaxError) -> _Line | None:
    if not exc.filename:
        return None
    return _Line(exc.filename, exc.lineno or 1, "the module", (exc.text or "").strip())


def _user_line(trace: TracebackType | None, path: str) -> _Line | None:
    """Return the deepest line of user code; None if the exception was raised before it ran."""
    for frame, number in reversed([*traceback.walk_tb(trace)]):
        package = top_level(str(frame.f_globals.get("__name__", "")))
        if (path and package == top_level(path)) or (is_allowed_package(package) and package not in DEFAULT_PACKAGES):
            code = frame.f_code
            linecache.checkcache(code.co_filename)
            return _Line(code.co_filename, number, code.co_name, linecache.getline(code.co_filename, number).strip())
    return None
