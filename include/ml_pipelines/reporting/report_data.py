"""The data of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.ports import TaskRecord
from ml_pipelines.ports.ledger_entry import RunDetails

__all__ = ["ReportData"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The results of a run. A run that ended early has fewer of them, and its report has fewer sections.

    Attributes:
        identity: identity of the run.
        decision: the final decision.
        details: details of the ledger entry.
        quality: document of the step check_quality.
        evaluation: document of the step evaluate.
        trainings: training records, in the order of the candidates.
        champion_version: version of the champion before the run.
        champion_training: training record of that version.
        champion_missing: reason for a missing training record, as a clause.
        tasks: results of the tasks, in the order of their ends.
    """

    identity: Identity
    decision: Decision
    details: RunDetails = field(default_factory=RunDetails)
    quality: QualityReport | None = None
    evaluation: Mapping[str, Any] | None = None
    trainings: Sequence[Mapping[str, Any]] = ()
    champion_version: str | None = None
    champion_training: Mapping[str, Any] | None = None
    champion_missing: str | None = None
    tasks: Sequence[TaskRecord] = ()

    @property
    def winner(self) -> Mapping[str, Any] | None:
        """The evaluation of the selected candidate."""
        return self._best(self.evaluation["candidates"]) if self.evaluation else None

    @property
    def training(self) -> Mapping[str, Any] | None:
        """The training record of the selected candidate."""
        return self._best(self.trainings)

    @property
    def ended_at(self) -> datetime | None:
        """The end of the last task."""
        return max((task.recorded_at for task in self.tasks), default=None)

    def _best(self, candidates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        best = self.decision.candidate
        return next((candidate for candidate in candidates if best and candidate["candidate"] == best), None)
