"""Write down what became of a run: exactly one ledger entry, however the run went."""

from __future__ import annotations

from typing import Any, cast

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, Decision, JsonValue
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.parameters import RecordParameters
from ml_pipelines.pipeline.step import Publication
from ml_pipelines.ports import Services
from ml_pipelines.promotion.hash_chain import is_same_record
from ml_pipelines.promotion.transitions import record_outside_move
from ml_pipelines.steps.publish_report import publish_report

__all__ = ["publish"]

ABANDONED_SECONDS = 3600.0  # an open tracking run this old belongs to a process that is gone


def publish(work: Publication, services: Services) -> dict[str, JsonValue]:
    """Record the final decision, and close what killed tasks left open.

    If somebody else has moved the champion meanwhile, that is written down first.

    Returns:
        `outcome`, `reason`, `candidate`, `version` and `previous_version`.

    Raises:
        RequestError: the run has neither a decision nor a reason to have stopped, or its decision was not carried out.
    """
    documents: dict[str, dict[str, Any]] = {
        name: load_json(services.read(cast("ArtifactRef", work.references[name])))
        for name in ("decision", "report", "evaluation")
        if name in work.references
    }
    decision = _final(work, documents)
    deployed = cast("dict[str, JsonValue]", work.facts["deploy"]) if decision.outcome == "promoted" else {}
    if not deployed:  # else the deploy step has looked, before it moved the alias itself
        record_outside_move(services, decision.model)
    versions = {name: deployed.get(name) for name in ("version", "previous_version")}
    details = (_served(work, decision, versions, documents) if deployed else {}) | _details(work, documents)
    details["report"] = _told_before(work, services, decision, details) or publish_report(
        work, services, decision, details
    ).model_dump(mode="json")
    services.ledger.record(work.identity, decision, details)
    if decision.outcome != "no_change":  # such a run asks no more of the tracking server than it must
        services.tracking.close_abandoned(work.identity.pipeline, ABANDONED_SECONDS)
    return {"outcome": decision.outcome, "reason": decision.reason, "candidate": decision.candidate, **versions}


def _told_before(work: Publication, services: Services, decision: Decision, details: dict[str, JsonValue]) -> JsonValue:
    """The report of an earlier try that came to the same end: only the times in a new one would differ."""
    earlier = services.ledger.entry(work.identity.pipeline, work.identity.run_id)
    report = earlier.details.get("report") if earlier else None
    return report if earlier and is_same_record(earlier, decision, {**details, "report": report}) else None


def _final(work: Publication, documents: dict[str, dict[str, Any]]) -> Decision:
    if "decision" not in documents:
        compared = cast("dict[str, Any]", work.facts.get("compare_with_champion", {}))
        if compared.get("verdict") == "no_change":
            return _unchanged(cast("RecordParameters", work.parameters).model, compared)
        return _stopped(cast("RecordParameters", work.parameters).model, documents.get("report"))
    decision = Decision.model_validate(documents["decision"])
    deployed = "deploy" in work.facts
    if decision.outcome == "held":
        approved = {"outcome": "promoted", "reason": f"a person approved. {decision.reason}"}
        kept = {"reason": f"no person approved. {decision.reason}"}
        return decision.model_copy(update=approved if deployed else kept)
    if decision.outcome == "promoted" and not deployed:
        raise RequestError(
            "what was decided is not what was done",
            where=f"run {work.identity.run_id}",
            expected="a deployed model, since the decision is to promote it",
            got="none",
            fix="run the deploy step first",
        )
    return decision


def _unchanged(model: str, compared: dict[str, Any]) -> Decision:
    """Nothing was computed, since nothing has changed since the champion."""
    version = compared["champion_version"]
    return Decision(outcome="no_change", model=model, reason=compared["reason"], champion_version=version)


def _stopped(model: str, report: dict[str, Any] | None) -> Decision:
    if report is None or report["verdict"] != "stopped":
        raise RequestError(
            "there is nothing to record",
            where=f"model {model}",
            expected="a decision, or a quality report that stopped the run",
            got="a quality report that passed" if report else "neither",
            fix="run the steps before this one",
        )
    failed = [check for check in report["checks"] if check["severity"] == "error" and not check["passed"]]
    told = [f"{' '.join(filter(None, (check['check'], check['column'])))}: {check['detail']}" for check in failed]
    return Decision(outcome="stopped", model=model, reason=f"the quality checks failed: {'; '.join(told)}")


def _served(
    work: Publication,
    decision: Decision,
    versions: dict[str, JsonValue],
    documents: dict[str, dict[str, Any]],
) -> dict[str, JsonValue]:
    """What serves now, and the documents that show how it came to."""
    told = dict(versions)
    index = cast("int", decision.candidate_index)
    if evaluation := documents.get("evaluation"):
        told["sha256"] = evaluation["candidates"][index]["sha256"]
        told["evaluation"] = cast("ArtifactRef", work.references["evaluation"]).model_dump(mode="json")
    if trainings := cast("tuple[ArtifactRef, ...] | None", work.references.get("trainings")):
        told["training"] = trainings[index].model_dump(mode="json")
    return told


def _details(work: Publication, documents: dict[str, dict[str, Any]]) -> dict[str, JsonValue]:
    """What a reader of the ledger asks next. What the run did not get to is left out."""
    facts = cast("dict[str, Any]", work.facts)
    details: dict[str, JsonValue] = {}
    if "ingest" in facts:
        details["pin"] = facts["ingest"]["pin"]
    if compared := facts.get("compare_with_champion"):
        details |= {name: compared[name] for name in ("fingerprint", "changed")}
    if approval := facts.get("approval"):
        details["approver"] = approval["approver"]
    if report := documents.get("report"):
        failed = [check for check in report["checks"] if not check["passed"]]
        details["quality"] = {
            **{name: report[name] for name in ("verdict", "rows", "quarantined")},
            "failed": cast("JsonValue", failed),
        }
    if "preprocess" in facts:
        counted = ("rows_in", "kept", "quarantined", "quarantined_by_reason")
        details["rows"] = {name: facts["preprocess"][name] for name in counted}
    if "split" in facts:
        details["parts"] = facts["split"]["rows"]
    if evaluation := documents.get("evaluation"):
        details["candidates"] = [
            {name: candidate[name] for name in ("candidate", "sha256", "validation", "test")}
            for candidate in evaluation["candidates"]
        ]
    if champion := facts.get("evaluate", {}).get("champion"):
        details["champion"] = {name: champion[name] for name in ("version", "sha256", "error")}
    return details
