"""Register the selected candidate: the evaluated file becomes a version of the model registry."""

from __future__ import annotations

import json

from ml_pipelines.contracts import ArtifactRef, DataPin, Decision, JsonValue
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.candidate_failures import FAILED
from ml_pipelines.pipeline.facts import FactsForRegistration, RegisterFacts
from ml_pipelines.pipeline.step import Publication, all_artifacts
from ml_pipelines.pipeline.step_parameters import RegisterParameters
from ml_pipelines.ports import Services, TrackedModel
from ml_pipelines.promotion.deployment import THRESHOLD_TAG, TRAINING_TAG
from ml_pipelines.promotion.model_files import new_record

__all__ = ["publish"]

_ARTIFACTS = ("models", "trainings")


def publish(work: Publication[RegisterParameters, FactsForRegistration], services: Services) -> dict[str, JsonValue]:
    """Register the winner of the decision and point the alias `challenger` at the new version.

    Returns:
        The values of :class:`RegisterFacts`.

    Raises:
        RequestError: the outcome of the decision is neither promoted nor held.
        ArtifactCorrupt: the registry serves another model file than the run evaluated.
        RegistryError: a client that loads the registered folder could run other code.
        ServiceUnavailable: the registry does not answer.
    """
    model, decision = work.parameters.model, work.facts.decide.decision
    if decision.outcome not in ("promoted", "held") or decision.candidate_index is None:
        raise RequestError(
            "the decision does not allow this run to register a model",
            where=f"model {model}",
            expected="a decision with outcome promoted or held",
            got=f"{decision.outcome}: {decision.reason}",
            fix="leave out the step register for this run",
        )
    artifact, training = (all_artifacts(work.references, name)[decision.candidate_index] for name in _ARTIFACTS)
    trained = work.facts.train[decision.candidate_index]
    tracked = TrackedModel(trained.tracking_run_id, trained.model_uri, trained.tracking_url)
    compared = work.facts.compare_with_champion
    fingerprint = compared.fingerprint if compared else None
    if fingerprint and decision.failures:
        fingerprint = fingerprint | {FAILED: ", ".join(failure.candidate for failure in decision.failures)}
    tags = _tags(decision, artifact, work.facts.ingest.pin, trained.key, fingerprint)
    tags[TRAINING_TAG] = training.model_dump_json()
    if decision.threshold is not None:
        tags[THRESHOLD_TAG] = str(decision.threshold)
    version = services.registry.register(model, tracked, artifact, work.identity, tags)
    registered = new_record(services.registry, services.ledger, version, training)
    services.registry.set_alias(model, version.version, "challenger")
    facts = RegisterFacts(version=version.version, model_uri=tracked.model_uri, url=version.url, registered=registered)
    return facts.as_values()


def _tags(
    decision: Decision, artifact: ArtifactRef, pin: DataPin, key: str, fingerprint: dict[str, str] | None
) -> dict[str, str]:
    """Return the tags that lead from the version to its data, training and decision; unknown facts have no tag."""
    tags = {
        "artifact": artifact.model_dump_json(),
        "key": key,
        "candidate": decision.candidate,
        "data_digest": pin.digest,
        "data_revision": pin.revision,
        "metric": decision.metric,
        "fingerprint": json.dumps(fingerprint, sort_keys=True) if fingerprint else None,
        **{f"test_{name}": value for name, value in decision.metrics.items()},
    }
    return {f"ml_pipelines.{name}": str(value) for name, value in tags.items() if value is not None}
