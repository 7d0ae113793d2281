"""Record the outcome of a run: exactly one ledger entry, wherever the run ended."""

from __future__ import annotations

from typing import Any

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, Decision, JsonValue
from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.facts import CompareFacts, DeployFacts, FactsForRecord, RecordFacts
from ml_pipelines.pipeline.step import Publication, all_artifacts, one_artifact
from ml_pipelines.pipeline.step_parameters import RecordParameters
from ml_pipelines.ports import Services
from ml_pipelines.ports.ledger_entry import CandidateSummary, ChampionSummary, QualitySummary, RowCounts, RunDetails
from ml_pipelines.promotion.hash_chain import is_same_record
from ml_pipelines.promotion.transitions import record_external_change, replacement
from ml_pipelines.steps.publish_report import publish_report

__all__ = ["publish"]

ABANDONED_SECONDS = 3600.0  # an open tracking run this old belongs to a process that has ended

Recording = Publication[RecordParameters, FactsForRecord]


def publish(work: Recording, services: Services) -> dict[str, JsonValue]:
    """Record the final decision, and close the tracking runs that killed tasks left open.

    A champion that was moved outside of the pipelines gets an entry of its own first.

    Returns:
        The values of :class:`RecordFacts`.

    Raises:
        RequestError: the run has neither a decision nor a reason for its early end, or its decision was not deployed.
    """
    documents: dict[str, dict[str, Any]] = {
        name: load_json(services.read(one_artifact(work.references, name)))
        for name in ("report", "evaluation")
        if name in work.references
    }
    decision = _final_decision(work, documents)
    deployed = work.facts.deploy if decision.outcome == "promoted" else None
    if deployed is None:  # the step deploy does the same before it moves the alias itself
        record_external_change(services, decision.model)
    details = _details(work, documents)
    if deployed is not None:
        details = _with_deployment(details, work, deployed, documents)
        replaced_by = replacement(services, decision.model, deployed.version, work.identity)
        details = details.model_copy(update={"replaced_by": replaced_by})
    report = _earlier_report(work, services, decision, details)
    report = report or publish_report(work, services, decision, details, documents=documents)
    details = details.model_copy(update={"report": report})
    services.ledger.record(work.identity, decision, details)
    if decision.outcome != "no_change":  # keeps a run without a change free of requests to the tracking server
        services.tracking.close_abandoned(work.identity.pipeline, ABANDONED_SECONDS)
    return RecordFacts(
        outcome=decision.outcome,
        reason=decision.reason,
        candidate=decision.candidate,
        version=deployed.version if deployed else None,
        previous_version=deployed.previous_version if deployed else None,
    ).as_values()


def _earlier_report(work: Recording, services: Services, decision: Decision, details: RunDetails) -> ArtifactRef | None:
    """Return the report of an earlier try with the same result; a new one would differ in its times only."""
    entry = services.ledger.entry(work.identity.pipeline, work.identity.run_id)
    if entry is None:
        return None
    report = entry.details.report
    return report if is_same_record(entry, decision, details.model_copy(update={"report": report})) else None


def _final_decision(work: Recording, documents: dict[str, dict[str, Any]]) -> Decision:
    """Return the decision after the approval, or the reason for an early end as a decision."""
    decided, compared = work.facts.decide, work.facts.compare_with_champion
    if decided is None:
        if compared is not None and compared.verdict == "no_change":
            return _unchanged(work.parameters.model, compared)
        return _stopped(work.parameters.model, _quality_report(documents))
    decision, deployed = decided.decision, work.facts.deploy is not None
    if decision.outcome == "held":
        approved = {"outcome": "promoted", "reason": f"a person approved. {decision.reason}"}
        kept = {"reason": f"no person approved. {decision.reason}"}
        return decision.model_copy(update=approved if deployed else kept)
    if decision.outcome == "promoted" and not deployed:
        raise RequestError(
            "the decision is promoted, but no model was deployed",
            where=f"run {work.identity.run_id}",
            expected="the result of the step deploy",
            got="none",
            fix="run the step deploy first",
        )
    return decision


def _unchanged(model: str, compared: CompareFacts) -> Decision:
    return Decision(
        outcome="no_change", model=model, reason=compared.reason, champion_version=compared.champion_version
    )


def _quality_report(documents: dict[str, dict[str, Any]]) -> QualityReport | None:
    return QualityReport.model_validate(documents["report"]) if "report" in documents else None


def _stopped(model: str, report: QualityReport | None) -> Decision:
    if report is None or report.verdict != "stopped":
        raise RequestError(
            "the run has no outcome to record",
            where=f"model {model}",
            expected="a decision, or a quality report that stopped the run",
            got="a quality report that passed" if report else "neither",
            fix="run the steps before this one",
        )
    names = ", ".join(check.name for check in report.failures)
    return Decision(
        outcome="stopped", model=model, reason=f"the quality checks failed: {names}", findings=report.findings
    )


def _with_deployment(
    details: RunDetails, work: Recording, deployed: DeployFacts, documents: dict[str, dict[str, Any]]
) -> RunDetails:
    """Return the details with the new champion and the documents that explain its promotion."""
    decided = work.facts.decide
    assert decided is not None, "only a candidate is deployed"
    index, candidate = decided.decision.candidate_index, decided.decision.candidate
    assert index is not None, "only a candidate is deployed"
    evaluation = documents.get("evaluation")
    trainings = all_artifacts(work.references, "trainings")
    changes = {
        "version": deployed.version,
        "previous_version": deployed.previous_version,
        "sha256": _sha256(evaluation, candidate) if evaluation else None,
        "evaluation": one_artifact(work.references, "evaluation") if evaluation else None,
        "training": trainings[index] if trainings else None,
    }
    return details.model_copy(update=changes)


def _sha256(evaluation: dict[str, Any], candidate: str | None) -> str | None:
    digests: dict[str | None, str | None] = {row["candidate"]: row["sha256"] for row in evaluation["candidates"]}
    return digests[candidate]


def _details(work: Recording, documents: dict[str, dict[str, Any]]) -> RunDetails:
    """Return the details of the entry; those of steps that the run did not reach are None."""
    facts, compared = work.facts, work.facts.compare_with_champion
    report, evaluation = _quality_report(documents), documents.get("evaluation")
    champion = facts.evaluate.champion if facts.evaluate else None
    return RunDetails(
        pin=facts.ingest.pin if facts.ingest else None,
        fingerprint=compared.fingerprint if compared else None,
        registered=facts.register.registered if facts.register else None,
        changed=compared.changed if compared else None,
        approver=facts.approval.approver if facts.approval else None,
        quality=_quality(report) if report else None,
        rows=RowCounts(**facts.preprocess.model_dump()) if facts.preprocess else None,
        parts=facts.split.rows if facts.split else None,
        defaults=(facts.check_quality.defaults or None) if facts.check_quality else None,
        candidates=_candidates(evaluation) if evaluation else None,
        champion=ChampionSummary(**champion.model_dump(exclude={"candidate_index"})) if champion else None,
    )


def _quality(report: QualityReport) -> QualitySummary:
    failed = tuple(check.model_dump(mode="json") for check in report.checks if not check.passed)
    return QualitySummary(verdict=report.verdict, rows=report.rows, quarantined=report.quarantined, failed=failed)


def _candidates(evaluation: dict[str, Any]) -> tuple[CandidateSummary, ...]:
    names = CandidateSummary.model_fields
    return tuple(
        CandidateSummary(**{name: row[name] for name in names if name in row}) for row in evaluation["candidates"]
    )
