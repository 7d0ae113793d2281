"""Record the outcome of a run: exactly one ledger entry, wherever the run ended."""

from __future__ import annotations

from typing import Any

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import Decision, JsonValue
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.facts import CompareFacts, DeployFacts, FactsForRecord, RecordFacts
from ml_pipelines.pipeline.parameters import RecordParameters
from ml_pipelines.pipeline.step import Publication, all_artifacts, one_artifact
from ml_pipelines.ports import Services
from ml_pipelines.promotion.hash_chain import is_same_record
from ml_pipelines.promotion.transitions import record_outside_move
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
        record_outside_move(services, decision.model)
    details = (_deployment(work, decision, deployed, documents) if deployed else {}) | _details(work, documents)
    details["report"] = _earlier_report(work, services, decision, details) or publish_report(
        work, services, decision, details
    ).model_dump(mode="json")
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


def _earlier_report(
    work: Recording, services: Services, decision: Decision, details: dict[str, JsonValue]
) -> JsonValue:
    """Return the report of an earlier try with the same result; a new one would differ in its times only."""
    entry = services.ledger.entry(work.identity.pipeline, work.identity.run_id)
    report = entry.details.get("report") if entry else None
    return report if entry and is_same_record(entry, decision, {**details, "report": report}) else None


def _final_decision(work: Recording, documents: dict[str, dict[str, Any]]) -> Decision:
    """Return the decision after the approval, or the reason for an early end as a decision."""
    decided, compared = work.facts.decide, work.facts.compare_with_champion
    if decided is None:
        if compared is not None and compared.verdict == "no_change":
            return _unchanged(work.parameters.model, compared)
        return _stopped(work.parameters.model, documents.get("report"))
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


def _stopped(model: str, report: dict[str, Any] | None) -> Decision:
    if report is None or report["verdict"] != "stopped":
        raise RequestError(
            "the run has no outcome to record",
            where=f"model {model}",
            expected="a decision, or a quality report that stopped the run",
            got="a quality report that passed" if report else "neither",
            fix="run the steps before this one",
        )
    failed = [check for check in report["checks"] if check["severity"] == "error" and not check["passed"]]
    texts = [f"{' '.join(filter(None, (check['check'], check['column'])))}: {check['detail']}" for check in failed]
    return Decision(outcome="stopped", model=model, reason=f"the quality checks failed: {'; '.join(texts)}")


def _deployment(
    work: Recording, decision: Decision, deployed: DeployFacts, documents: dict[str, dict[str, Any]]
) -> dict[str, JsonValue]:
    """Return the new champion, and references to the documents that explain its promotion."""
    details: dict[str, JsonValue] = {"version": deployed.version, "previous_version": deployed.previous_version}
    index = decision.candidate_index
    assert index is not None, "only a candidate is promoted"
    if evaluation := documents.get("evaluation"):
        details["sha256"] = evaluation["candidates"][index]["sha256"]
        details["evaluation"] = one_artifact(work.references, "evaluation").model_dump(mode="json")
    if trainings := all_artifacts(work.references, "trainings"):
        details["training"] = trainings[index].model_dump(mode="json")
    return details


def _details(work: Recording, documents: dict[str, dict[str, Any]]) -> dict[str, JsonValue]:
    """Return the details of the entry; steps that the run did not reach have none."""
    facts = work.facts
    details: dict[str, JsonValue] = {}
    if facts.ingest:
        details["pin"] = facts.ingest.pin.model_dump(mode="json")
    if facts.compare_with_champion:
        details |= facts.compare_with_champion.model_dump(mode="json", include={"fingerprint", "changed"})
    if facts.approval:
        details["approver"] = facts.approval.approver
    if report := documents.get("report"):
        failed = [check for check in report["checks"] if not check["passed"]]
        details["quality"] = {**{name: report[name] for name in ("verdict", "rows", "quarantined")}, "failed": failed}
    if facts.preprocess:
        details["rows"] = facts.preprocess.as_values()
    if facts.split:
        details["parts"] = {**facts.split.rows}
    if evaluation := documents.get("evaluation"):
        details["candidates"] = [
            {name: candidate[name] for name in ("candidate", "sha256", "validation", "test")}
            for candidate in evaluation["candidates"]
        ]
    if facts.evaluate and (champion := facts.evaluate.champion):
        details["champion"] = champion.model_dump(mode="json", include={"version", "sha256", "error"})
    return details
