"""Look-ups before an evaluation and effects after it. Importing this module does not import the ML libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines.contracts import ArtifactRef, Identity, JsonValue
from ml_pipelines.errors import PipelineError, RequestError, StoreError, TransientError, UserCodeError
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.pipeline.facts import EvaluatedChampion, FactsForEvaluation
from ml_pipelines.pipeline.step import Publication, References, Resolution, all_artifacts, one_artifact
from ml_pipelines.pipeline.step_parameters import EvaluateParameters
from ml_pipelines.pipeline.user_code import changed_sources, source_digests
from ml_pipelines.ports import ModelVersion, Services, TrackedModel
from ml_pipelines.promotion.champion import champion_before_run, champion_record
from ml_pipelines.promotion.model_files import find_record
from ml_pipelines.spec.metric_table import distributions_of

__all__ = ["publish", "resolve"]


def resolve(parameters: EvaluateParameters, inputs: References, services: Services, identity: Identity) -> Resolution:
    """Find today's champion, which is scored on the same rows; if it is one of the candidates, it is so already.

    Returns:
        The champion's model as input `champion`, if it can be had; value `champion` with its version, sha256, index
        among the candidates, tags, and the error that keeps it from being scored.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    digests = [ref.sha256 for ref in all_artifacts(inputs, "models")]
    champion = champion_before_run(services.registry, parameters.model, identity)
    others = distributions_of((*parameters.other_metrics, *parameters.report_metrics))
    facts: dict[str, JsonValue] = {"metric_distributions": {**others}} if others else {}
    if champion is None:
        return Resolution(key_facts=facts, values={"champion": None}, prepare=lambda _: {"digests": digests})
    digest = champion.artifact.sha256 if champion.artifact else None
    index = digests.index(digest) if digest in digests else None
    ref, error = (None, None) if index is not None else _fetched(champion, services)
    compared = EvaluatedChampion(version=champion.version, sha256=digest, candidate_index=index, error=error)
    # Its digest is who it is, so that moving it to another version costs nothing; without one, the version is.
    status: dict[str, JsonValue] = {"identity": digest or f"version {champion.version}", "error": error}
    record = champion_record(services, champion) if ref else {}
    split, transform = record.get("split"), _transform(record)
    if ref:
        facts["champion_split"] = json_digest(split)
    if transform:
        facts["champion_transform"] = json_digest([transform, _changes(transform["transform"])])
    if preprocessing := record.get("preprocessing"):
        facts["champion_preprocessing"] = json_digest(_changes(preprocessing))
    return Resolution(
        inputs={"champion": ref} if ref else {},
        key_facts=facts if ref else {**facts, "champion": status},
        values={"champion": compared.model_dump(mode="json")},
        prepare=lambda _: {
            "digests": digests,
            "champion_status": status,
            "champion_split": split,
            "champion_transform": transform,
        },
    )


def _transform(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the transform of a training record with the features that it computes; None without one."""
    return {name: record[name] for name in ("transform", "features")} if record.get("transform") else None


def _changes(code: Mapping[str, Any]) -> list[str]:
    """Return why the sources of code in a record are not those of its training: the evaluation depends on it."""
    try:
        return changed_sources(code["sources"], source_digests([code["path"]]))
    except UserCodeError as exc:
        return [exc.summary]


def publish(work: Publication[EvaluateParameters, FactsForEvaluation], services: Services) -> dict[str, JsonValue]:
    """Add metrics, figures and the evaluation itself to each candidate's tracked run."""
    from ml_pipelines.reporting.figure_export import export_figures

    text = services.read(one_artifact(work.references, "evaluation"))
    evaluation = Evaluation.model_validate_json(text)
    facts = {trained.candidate: trained for trained in work.facts.train}
    if missing := [one.candidate for one in evaluation.candidates if one.candidate not in facts]:
        raise RequestError(
            "the candidates' trainings are not the evaluated ones",
            expected=f"facts of the training of {missing[0]}",
            got=", ".join(facts) or "none",
            fix="give the values of every train task",
        )
    for candidate in evaluation.candidates:
        trained = facts[candidate.candidate]
        tracked = TrackedModel(trained.tracking_run_id, trained.model_uri, trained.tracking_url)
        metrics = {
            f"{part}_{name}": value
            for part, values in (("validation", candidate.validation), ("test", candidate.test))
            for name, value in values.items()
            if value is not None
        }
        drawn = export_figures(candidate.model_dump(mode="json"), evaluation.dummy.test)
        services.tracking.log_evaluation(tracked, metrics, drawn, {"evaluation.json": text.decode()})
    return {}


def _fetched(champion: ModelVersion, services: Services) -> tuple[ArtifactRef | None, str | None]:
    """The champion's model in this store, or why it can't be had."""
    if champion.artifact is None:
        return None, f"version {champion.version} was not registered by a pipeline, so its model file is not known"
    record = find_record(services.ledger, champion)
    if record is not None and record.sha256 != champion.artifact.sha256:
        return None, f"the tag of version {champion.version} names another model file than the ledger"
    try:
        services.read(champion.artifact)
    except StoreError:
        # Trained in another store, or cleaned away here: the registry keeps its own copy.
        try:
            return services.copy_artifact(champion.artifact, services.registry.fetch(champion)), None
        except TransientError:
            raise
        except PipelineError as exc:
            return None, exc.summary
    return champion.artifact, None
