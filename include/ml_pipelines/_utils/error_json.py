"""Carry an error of this package across a process, as JSON."""

from __future__ import annotations

import json

from ml_pipelines import errors
from ml_pipelines.contracts import Contract, StepResult
from ml_pipelines.errors import PipelineError

__all__ = ["Failure", "parse_result"]


class Failure(Contract):
    """The JSON form of a PipelineError.

    Attributes:
        error: name of the error's class.
        what: the attribute of the same name of the error; also `where`, `expected`, `got` and `fix`.
    """

    error: str
    what: str
    where: str = ""
    expected: str = ""
    got: str = ""
    fix: str = ""

    @classmethod
    def from_error(cls, error: PipelineError) -> Failure:
        """Return the JSON form of an error."""
        return cls(
            error=type(error).__name__,
            what=error.what,
            where=error.where,
            expected=error.expected,
            got=error.got,
            fix=error.fix,
        )

    def to_error(self) -> PipelineError:
        """Return the error; a PipelineError if this version of the package has no class of its name."""
        kind = getattr(errors, self.error, None) if self.error in errors.__all__ else None
        if not (isinstance(kind, type) and issubclass(kind, PipelineError)):
            kind = PipelineError
        return kind(self.what, where=self.where, expected=self.expected, got=self.got, fix=self.fix)


def parse_result(document: bytes) -> StepResult:
    """Return the result of a step that ran in another process.

    Args:
        document: JSON of a :class:`~ml_pipelines.contracts.StepResult` or of a :class:`Failure`.

    Raises:
        PipelineError: the document is a failure; its error.
        ValueError: the document is neither.
    """
    if "error" in json.loads(document):
        raise Failure.model_validate_json(document).to_error()
    return StepResult.model_validate_json(document)
