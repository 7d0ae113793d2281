"""The errors of ML Pipelines. Each says what is wrong, where, what was expected and got, and how to mend it.

::

    PipelineError
    ├── SpecError             a declaration is wrong: all issues of the file, each with its line
    ├── RequestError          a step was asked for something it does not know or can't do
    ├── SourceError           the data can't be had
    │   ├── SourceNotFound       no such file, revision, object or query result
    │   └── SourceUnreadable     it is there, but is not a table: encoding, ragged lines, duplicate columns
    ├── DataError             the rows are no use for the job: empty, a single class, a column is missing
    │   └── NoRows               (also SourceUnreadable) there is not a single one
    ├── ModelError            an estimator is unknown, not allowed, misconfigured, or can't be stored safely
    │   └── EstimatorError       the first three: what a candidate declares is wrong
    ├── StoreError            an artifact can't be had
    │   ├── ArtifactMissing      no bytes where the reference says
    │   ├── ArtifactCorrupt      the bytes are not those that the reference promises
    │   └── StoreUnavailable     (also TransientError) the store can't be read or written: full, read-only, unreachable
    ├── LedgerError           the ledger is damaged, newer than this version of the package, or refuses access
    ├── RegistryError         no such model or version, or the registry holds something else than expected
    ├── VerificationFailed    a deployed model does not predict what it predicted when it was trained
    ├── ExtensionError        an installed extension (entry point) can't be loaded, or two have the same name
    ├── MissingExtra          a package is not installed; names the extra that brings it
    └── TransientError        worth another try as it is
        ├── StoreUnavailable
        └── ServiceUnavailable   a server does not answer or answers with a fault of its own

A scheduler retries :class:`TransientError` and what it does not know; every other :class:`PipelineError` would only
fail again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "DataError",
    "EstimatorError",
    "ExtensionError",
    "LedgerError",
    "MissingExtra",
    "ModelError",
    "NoRows",
    "PipelineError",
    "RegistryError",
    "RequestError",
    "ServiceUnavailable",
    "SourceError",
    "SourceNotFound",
    "SourceUnreadable",
    "SpecError",
    "SpecIssue",
    "StoreError",
    "StoreUnavailable",
    "TransientError",
    "VerificationFailed",
]


_ISSUES_SHOWN = 50


class PipelineError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        what: what is wrong, as one sentence without a full stop.
        where: the file and line, URI, column or server concerned.
        expected: what would have been right.
        got: what was there instead.
        fix: how to mend it, as an instruction.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", got: str = "", fix: str = "") -> None:
        self.what, self.where, self.expected, self.got, self.fix = what, where, expected, got, fix
        super().__init__(what)

    def __str__(self) -> str:
        facts = {"where": self.where, "expected": self.expected, "got": self.got, "fix": self.fix}
        return "\n".join([self.what, *(f"  {name}: {fact}" for name, fact in facts.items() if fact)])

    @property
    def summary(self) -> str:
        """What is wrong in one line."""
        return f"{self.what} (got {self.got})" if self.got else self.what

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from `args` alone; ours must survive a process boundary with all their facts.
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[PipelineError], facts: dict[str, Any]) -> PipelineError:
    error = kind.__new__(kind, facts["what"])
    error.args = (facts["what"],)
    error.__dict__.update(facts)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecIssue:
    """One issue in a declaration; as text, what a person needs to mend it.

    Attributes:
        file: the file as it was named.
        line: from 1.
        column: from 1.
        path: dotted way to the field, such as `data.columns.amount.min`; empty for the file as a whole.
        message: what is wrong: what was expected and what was given.
        hint: how to mend it, if there is something to say.
        excerpt: the source line with a marker under the place.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        parts = (f"{where}: {self.path}" if self.path else where, self.excerpt, f"  {self.message}")
        return "\n".join([*(part for part in parts if part), *([f"  {self.hint}"] if self.hint else [])])


class SpecError(PipelineError):
    """A declaration is wrong.

    Args:
        what: as for every error.
        issues: all issues of the file, in its order; none if there was nothing to read.
        facts: `where`, `expected`, `got` and `fix`, as for every error.
    """

    def __init__(self, what: str, *, issues: tuple[SpecIssue, ...] = (), **facts: str) -> None:
        self.issues = issues
        super().__init__(what, **facts)

    def __str__(self) -> str:
        shown = [str(issue) for issue in self.issues[:_ISSUES_SHOWN]]
        more = len(self.issues) - len(shown)
        return "\n\n".join([super().__str__(), *shown, *([f"... and {more} more"] if more else [])])


class RequestError(PipelineError):
    """A step was asked for something that it does not know or can't do."""


class SourceError(PipelineError):
    """The data can't be had."""


class SourceNotFound(SourceError):
    """No such file, revision, object or table."""


class SourceUnreadable(SourceError):
    """The data is there, but is not a table."""


class DataError(PipelineError):
    """The rows are no use for the job."""


class NoRows(DataError, SourceUnreadable):
    """There is not a single row."""


class ModelError(PipelineError):
    """An estimator is unknown, not allowed, misconfigured, or can't be stored safely."""


class EstimatorError(ModelError):
    """What a candidate declares is wrong.

    Args:
        what: as for every error.
        field: the way to it from the candidate, such as `("params", "max_depth")`.
        at_key: the name of the parameter is wrong, not its value.
        facts: `where`, `expected`, `got` and `fix`, as for every error.
    """

    def __init__(
        self, what: str, *, field: tuple[str, ...] = ("estimator",), at_key: bool = False, **facts: str
    ) -> None:
        self.field, self.at_key = field, at_key
        super().__init__(what, **facts)


class StoreError(PipelineError):
    """An artifact can't be had."""


class ArtifactMissing(StoreError):
    """There are no bytes where the reference says."""


class ArtifactCorrupt(StoreError):
    """The bytes are not those that the reference promises."""


class LedgerError(PipelineError):
    """The ledger is damaged, newer than this version of the package, or refuses access."""


class RegistryError(PipelineError):
    """No such model or version, or the registry holds something else than expected."""


class VerificationFailed(PipelineError):
    """A model does not predict what it predicted when it was trained."""


class ExtensionError(PipelineError):
    """An installed extension can't be loaded, or two extensions have the same name."""


class MissingExtra(PipelineError):
    """A package that the job needs is not installed."""


class TransientError(PipelineError):
    """Worth another try as it is."""


class StoreUnavailable(StoreError, TransientError):
    """The store can't be read or written at the moment: full, read-only, unreachable."""


class ServiceUnavailable(TransientError):
    """A server does not answer, or answers with a fault of its own."""
