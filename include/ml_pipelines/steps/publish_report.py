"""Publish the report of a training run: in the artifact store and on the tracking server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, Decision
from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.pipeline.facts import FactsForRecord
from ml_pipelines.pipeline.step import Publication, all_artifacts
from ml_pipelines.pipeline.step_parameters import RecordParameters
from ml_pipelines.ports import Services, TrackedModel
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.promotion.champion import champion_before_run
from ml_pipelines.promotion.deployment import training_record
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.training_report import render_training_report

__all__ = ["REPORT_FILE", "publish_report"]

REPORT_FILE = "report.html"
Recording = Publication[RecordParameters, FactsForRecord]


def publish_report(
    work: Recording,
    services: Services,
    decision: Decision,
    details: RunDetails,
    *,
    documents: Mapping[str, dict[str, Any]],
) -> ArtifactRef:
    """Render the report, store it, and log it to the selected candidate's run on the tracking server.

    Args:
        work: publication of the step record_decision, with the references `trainings` if the run has them.
        services: store, registry and tracking server.
        decision: the final decision.
        details: details of the ledger entry.
        documents: content of `report` and `evaluation`, if the run has them.

    Returns:
        The reference of the report.

    Raises:
        ServiceUnavailable: the registry or the tracking server does not answer.
    """
    trainings = [load_json(services.read(ref)) for ref in all_artifacts(work.references, "trainings")]
    quality = documents.get("report")
    data = ReportData(
        identity=work.identity,
        decision=decision,
        details=details,
        quality=QualityReport.model_validate(quality) if quality else None,
        evaluation=documents.get("evaluation"),
        trainings=trainings,
        tasks=[task for task in services.tasks(work.identity) if task.result.step != "record_decision"],
        **(_champion_fields(work, services, decision.model) if trainings else {}),
    )
    page = render_training_report(data)
    ref = services.save_artifact(page.encode(), "html")
    if (model := _best_model(work, decision)) is not None:
        services.tracking.log_evaluation(model, {}, {}, {REPORT_FILE: page})
    return ref


def _best_model(work: Recording, decision: Decision) -> TrackedModel | None:
    """Return the selected candidate on the tracking server, None if the run has none."""
    index = decision.candidate_index
    if index is None or index >= len(work.facts.train):
        return None
    facts = work.facts.train[index]
    return TrackedModel(facts.tracking_run_id, facts.model_uri, facts.tracking_url)


def _champion_fields(work: Recording, services: Services, model: str) -> dict[str, Any]:
    """Return the training record of the previous champion, or the reason why it is missing.

    A missing record does not fail the run.
    """
    version = champion_before_run(services.registry, model, work.identity)
    if version is None:
        return {}
    fields: dict[str, Any] = {"champion_version": version.version}
    try:
        record = training_record(services, version)
    except TransientError:
        raise
    except PipelineError as exc:
        return {**fields, "champion_missing": exc.what}
    if "profile" not in record:
        reason = f"the training record of version {version.version} has no profile of its features"
        return {**fields, "champion_missing": reason}
    return {**fields, "champion_training": record}
