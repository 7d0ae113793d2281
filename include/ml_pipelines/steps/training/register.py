"""Register the best candidate: the very file that was evaluated, as a version that may serve."""

from __future__ import annotations

import json
from typing import Any, cast

from ml_pipelines.contracts import ArtifactRef, DataPin, Decision, JsonValue
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.parameters import RegisterParameters
from ml_pipelines.pipeline.step import Publication
from ml_pipelines.ports import Services, TrackedModel
from ml_pipelines.promotion.deployment import TRAINING_TAG

__all__ = ["publish"]


def publish(work: Publication, services: Services) -> dict[str, JsonValue]:
    """Register the candidate that the decision names, and point `challenger` at it.

    Returns:
        `version`, `model_uri` and `url`.

    Raises:
        RequestError: the decision does not let a model serve.
        ServiceUnavailable: the registry does not answer.
    """
    model = cast("RegisterParameters", work.parameters).model
    decision = Decision.model_validate_json(services.read(cast("ArtifactRef", work.references["decision"])))
    if decision.outcome not in ("promoted", "held") or decision.candidate_index is None:
        raise RequestError(
            "this run's model may not be registered",
            where=f"model {model}",
            expected="a decision with outcome promoted or held",
            got=f"{decision.outcome}: {decision.reason}",
            fix="leave the step out for this run",
        )
    pin = DataPin.model_validate(cast("dict[str, Any]", work.facts["ingest"])["pin"])
    artifact = cast("tuple[ArtifactRef, ...]", work.references["models"])[decision.candidate_index]
    values = cast("list[dict[str, Any]]", work.facts["train"])[decision.candidate_index]
    tracked = TrackedModel(values["mlflow_run_id"], values["model_uri"], values.get("mlflow_url"))
    training = cast("tuple[ArtifactRef, ...]", work.references["trainings"])[decision.candidate_index]
    compared = cast("dict[str, Any]", work.facts.get("compare_with_champion", {}))
    tags = _tags(decision, artifact, pin, values.get("key"), compared.get("fingerprint"))
    tags[TRAINING_TAG] = training.model_dump_json()
    version = services.registry.register(model, tracked, artifact, work.identity, tags)
    services.registry.set_alias(model, version.version, "challenger")
    return {"version": version.version, "model_uri": tracked.model_uri, "url": version.url}


def _tags(
    decision: Decision, artifact: ArtifactRef, pin: DataPin, key: str | None, fingerprint: dict[str, str] | None
) -> dict[str, str]:
    """What a reader of the registry needs to find everything else again; facts that are not known are left out."""
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
