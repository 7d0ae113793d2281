"""Failures of candidates. A candidate that fails does not stop the others; the decision names it with its error.

Only a :class:`~ml_pipelines.errors.ModelError` is a failure of the candidate. Any other error, such as that of a store
or of a worker, fails the task, so that the orchestrator tries it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from ml_pipelines.contracts import CandidateFailure, Finding
from ml_pipelines.errors import ModelError
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import TrainParameters

__all__ = [
    "FAILED",
    "collect_failures",
    "failure_finding",
    "parse_failures",
    "require_candidates",
    "training_failure",
]

FAILED = "candidate_failed"
"""The check of a finding about a candidate that failed."""

_MAX_ERROR = 400
_PHASES = {"train_model": "training", "evaluate_model": "evaluation"}


def training_failure(parameters: TrainParameters, error: ModelError) -> StepOutput:
    """Return the output of a training that failed, in place of the model and its training record."""
    failure = _failure(parameters.candidate.name, "train_model", error)
    document = failure.model_dump(mode="json")
    return StepOutput(outputs={"failure": document}, values={"candidate": failure.candidate})


@contextmanager
def collect_failures(failures: list[CandidateFailure], candidate: str) -> Iterator[None]:
    """Append the failure of a candidate in its evaluation to `failures`, and continue."""
    try:
        yield
    except ModelError as exc:
        failures.append(_failure(candidate, "evaluate_model", exc))


def parse_failures(documents: Sequence[Mapping[str, Any]]) -> list[CandidateFailure]:
    """Return failures from their JSON."""
    return [CandidateFailure.model_validate(document) for document in documents]


def require_candidates(working: int, failures: Sequence[CandidateFailure]) -> None:
    """Raise ModelError with all errors if no candidate works."""
    if working:
        return
    lines = [f"{failure.candidate}, {_PHASES[failure.task]}: {failure.error}" for failure in failures]
    raise ModelError(
        "\n".join(["all candidates failed", *lines]),
        expected="at least one candidate that can be trained and evaluated",
        got=f"{len(failures)} failures",
        fix="correct the candidates and start the run again; in Airflow, clear the task train_model",
    )


def failure_finding(failure: CandidateFailure) -> Finding:
    """Return the finding of a decision about a candidate that failed."""
    fix = failure.fix or "correct the candidate, or remove it from the declaration"
    return Finding(
        check=FAILED,
        severity="warn",
        detail=f"the candidate {failure.candidate} failed in its {_PHASES[failure.task]}: {failure.error}",
        remedy=f"{fix[:1].upper()}{fix[1:]}. The next run tries the candidate again.",
    )


def _failure(candidate: str, task: Literal["train_model", "evaluate_model"], error: ModelError) -> CandidateFailure:
    return CandidateFailure(candidate=candidate, task=task, error=_short(error.summary), fix=_short(error.fix))


def _short(text: str) -> str:
    paragraph = visible(" ".join(text.split()))
    return paragraph if len(paragraph) <= _MAX_ERROR else f"{paragraph[: _MAX_ERROR - 4]} ..."
