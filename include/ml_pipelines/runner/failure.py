"""What a step that ran elsewhere leaves behind: its result, or the error that it ended with, as one document."""

from __future__ import annotations

import json

from ml_pipelines import errors
from ml_pipelines.contracts import Contract, StepResult
from ml_pipelines.errors import PipelineError

__all__ = ["Failure", "parse_result"]


class Failure(Contract):
    """An error of ours on its way to another process.

    Attributes:
        error: name of its class.
        what: as the error has it; `where`, `expected`, `got` and `fix` too.
    """

    error: str
    what: str
    where: str = ""
    expected: str = ""
    got: str = ""
    fix: str = ""

    @classmethod
    def from_error(cls, error: PipelineError) -> Failure:
        """What is to be written down of an error."""
        return cls(
            error=type(error).__name__,
            what=error.what,
            where=error.where,
            expected=error.expected,
            got=error.got,
            fix=error.fix,
        )

    def to_error(self) -> PipelineError:
        """The same error once more; of the base class if this version does not know its own."""
        found = getattr(errors, self.error, None) if self.error in errors.__all__ else None
        kind = found if isinstance(found, type) and issubclass(found, PipelineError) else PipelineError
        return kind(self.what, where=self.where, expected=self.expected, got=self.got, fix=self.fix)


def parse_result(document: bytes) -> StepResult:
    """The result that a step has left.

    Raises:
        PipelineError: the error that it has left instead.
        ValueError: the document is neither.
    """
    if "error" in json.loads(document):
        raise Failure.model_validate_json(document).to_error()
    return StepResult.model_validate_json(document)
