"""What a run's report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ml_pipelines.contracts import Decision, Identity, RunDetails
from ml_pipelines.ports import TaskRecord

__all__ = ["ReportData"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """All that is known at a run's end. A run that ended early has less, and its report says so.

    Attributes:
        identity: whose run it is.
        decision: the final one.
        details: of the ledger's entry.
        quality: the document of the step check_quality.
        evaluation: the document of the step evaluate.
        trainings: the records of the trainings, in the order of the candidates.
        champion_version: the version whose training today's features are compared with.
        champion_training: its record.
        champion_missing: why there is no such record, as a sentence.
        tasks: what the tasks before got, in the order in which they ended.
    """

    identity: Identity
    decision: Decision
    details: RunDetails = field(default_factory=RunDetails)
    quality: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    trainings: Sequence[Mapping[str, Any]] = ()
    champion_version: str | None = None
    champion_training: Mapping[str, Any] | None = None
    champion_missing: str | None = None
    tasks: Sequence[TaskRecord] = ()

    @property
    def winner(self) -> Mapping[str, Any] | None:
        """The best candidate as it was evaluated."""
        return self._of_winner(self.evaluation["candidates"]) if self.evaluation else None

    @property
    def training(self) -> Mapping[str, Any] | None:
        """The best candidate's training."""
        return self._of_winner(self.trainings)

    @property
    def ended_at(self) -> datetime | None:
        """When the last task before the report ended."""
        return max((task.recorded_at for task in self.tasks), default=None)

    def _of_winner(self, each: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        index = self.decision.candidate_index
        return each[index] if index is not None and index < len(each) else None
