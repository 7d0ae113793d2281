"""The exceptions of ML Pipelines. A message states the fault, the place, the expected and actual value, and the fix.

::

    PipelineError
    ├── SpecError             the declaration is invalid: all issues of the file, with their lines
    ├── RequestError          an unknown step, option or model version, or invalid parameters
    ├── SourceError           the data can't be read
    │   ├── SourceNotFound       no such file, revision, object or table
    │   └── SourceUnreadable     the data is not a table: encoding, ragged lines, duplicate columns
    ├── DataError             the rows can't be used: too few, a single class, a missing column
    │   └── NoRows               (also SourceUnreadable) the data has no rows
    ├── ModelError            an estimator can't be built, or a model can't be stored safely
    │   └── EstimatorError       an estimator or its parameters in the declaration are invalid
    ├── UserCodeError         code that a declaration names is not allowed, does not import, or fails
    ├── StoreError            an artifact can't be read or written
    │   ├── ArtifactMissing      no file at the address of the reference
    │   ├── ArtifactCorrupt      the bytes do not match the digest of the reference
    │   └── StoreUnavailable     (also TransientError) the store is full, read-only or unreachable
    ├── LedgerError           the ledger is damaged, has a newer format, or refuses access
    ├── RegistryError         no such model or version, or an unexpected state of the registry
    ├── VerificationFailed    a deployed model predicts other values than after its training
    ├── ExtensionError        an installed extension (entry point) can't be loaded, or two have the same name
    ├── MissingExtra          a package is not installed; the message names the extra
    └── TransientError        a retry may succeed
        ├── StoreUnavailable
        └── ServiceUnavailable   a server does not answer, or answers with a server error

Retry a :class:`TransientError` and any exception that is not a :class:`PipelineError`. A retry can't correct the
others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_pipelines.escaping import visible

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
    "UserCodeError",
    "VerificationFailed",
]


_MAX_ISSUES = 50  # in the text of an error; `SpecError.issues` has all


class PipelineError(Exception):
    """Base of all exceptions of this package.

    Args:
        what: what happened, as one sentence without a full stop.
        where: file and line, URI, column or server.
        expected: the valid values or state.
        got: the actual value or state.
        fix: how to correct it, as an instruction.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", got: str = "", fix: str = "") -> None:
        self.what, self.where, self.expected, self.got, self.fix = what, where, expected, got, fix
        super().__init__(what)

    def __str__(self) -> str:
        facts = {"where": self.where, "expected": self.expected, "got": self.got, "fix": self.fix}
        text = "\n".join([self.what, *(f"  {name}: {fact}" for name, fact in facts.items() if fact)])
        return visible(text, lines=True)  # facts quote names and cells of the data

    @property
    def summary(self) -> str:
        """The error in one line."""
        return visible(f"{self.what} (got {self.got})" if self.got else self.what)

    def __reduce__(self) -> tuple[object, ...]:
        # By default an exception is restored from `args` alone, which would lose the facts.
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[PipelineError], facts: dict[str, Any]) -> PipelineError:
    error = kind.__new__(kind, facts["what"])
    error.args = (facts["what"],)
    error.__dict__.update(facts)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecIssue:
    """One issue in a declaration. Its text shows the place, the line of the file, the message and the hint.

    Attributes:
        file: path of the file as the caller gave it.
        line: line number, from 1.
        column: column number, from 1.
        path: dotted path of the field, such as `data.columns.amount.min`; empty for the file as a whole.
        message: what was expected and what was found.
        hint: how to correct it; may be empty.
        excerpt: the line of the file with a marker under the place.
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
    """The declaration is invalid.

    Args:
        what: as for :class:`PipelineError`.
        issues: all issues of the file, in the order of its lines; empty if the file could not be read.
        facts: `where`, `expected`, `got` and `fix`, as for :class:`PipelineError`.
    """

    def __init__(self, what: str, *, issues: tuple[SpecIssue, ...] = (), **facts: str) -> None:
        self.issues = issues
        super().__init__(what, **facts)

    def __str__(self) -> str:
        texts = [str(issue) for issue in self.issues[:_MAX_ISSUES]]
        more = len(self.issues) - len(texts)
        text = "\n\n".join([super().__str__(), *texts, *([f"... and {more} more"] if more else [])])
        return visible(text, lines=True)


class RequestError(PipelineError):
    """A request names an unknown step, option or model version, or has invalid parameters."""


class SourceError(PipelineError):
    """The data can't be read."""


class SourceNotFound(SourceError):
    """No such file, revision, object or table."""


class SourceUnreadable(SourceError):
    """The data exists but is not a valid table."""


class DataError(PipelineError):
    """The rows can't be used: too few, a single class, or a missing column."""


class NoRows(DataError, SourceUnreadable):
    """The data has no rows."""


class ModelError(PipelineError):
    """An estimator can't be built, or a model can't be stored safely."""


class EstimatorError(ModelError):
    """An estimator or its parameters in the declaration are invalid.

    Args:
        what: as for :class:`PipelineError`.
        field: path of the field below the candidate, such as `("params", "max_depth")`.
        at_key: whether the key is invalid, and not its value.
        facts: `where`, `expected`, `got` and `fix`, as for :class:`PipelineError`.
    """

    def __init__(
        self, what: str, *, field: tuple[str, ...] = ("estimator",), at_key: bool = False, **facts: str
    ) -> None:
        self.field, self.at_key = field, at_key
        super().__init__(what, **facts)


class UserCodeError(PipelineError):
    """Code that a declaration names is not allowed, does not import, or fails."""


class StoreError(PipelineError):
    """An artifact can't be read or written."""


class ArtifactMissing(StoreError):
    """There is no file at the address of the reference."""


class ArtifactCorrupt(StoreError):
    """The bytes do not match the digest of the reference."""


class LedgerError(PipelineError):
    """The ledger is damaged, has a newer format than this version reads, or refuses access."""


class RegistryError(PipelineError):
    """No such model or version, or the registry is in an unexpected state."""


class VerificationFailed(PipelineError):
    """A model predicts other values than after its training."""


class ExtensionError(PipelineError):
    """An installed extension can't be loaded, or two extensions have the same name."""


class MissingExtra(PipelineError):
    """A required package is not installed; the message names the extra that provides it."""


class TransientError(PipelineError):
    """The operation failed for a temporary reason; a retry may succeed."""


class StoreUnavailable(StoreError, TransientError):
    """The store is full, read-only or unreachable."""


class ServiceUnavailable(TransientError):
    """A server does not answer, or answers with a server error."""
