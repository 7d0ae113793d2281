"""Is there anything new since the champion was trained? If not, the run is over before it has begun to compute.

A *fingerprint* is five digests of all that a decision rests on: `data`, `code`, `parameters`, `environment` and `gate`.
The champion's is a tag of its version, written when it was registered.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from ml_pipelines.contracts import ArtifactRef, DataPin, JsonValue
from ml_pipelines.pipeline.cache_key import code_digests, package_versions
from ml_pipelines.pipeline.parameters import CompareWithChampionParameters
from ml_pipelines.pipeline.step import Publication
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.ports import ModelVersion, Services
from ml_pipelines.promotion.champion import champion_before_run

__all__ = ["PARTS", "TAG", "publish"]

PARTS = ("data", "code", "parameters", "environment", "gate")
TAG = "ml_pipelines.fingerprint"

Fingerprint = dict[str, str]


def publish(work: Publication, services: Services) -> dict[str, JsonValue]:
    """Compare the run's fingerprint with the champion's.

    Returns:
        `verdict`, which is `no_change` or `go_on`; `fingerprint`; `changed`, the parts that differ, None if that is not
        known; `champion_version`; and `reason`, a sentence.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    parameters = cast("CompareWithChampionParameters", work.parameters)
    pin = DataPin.model_validate(cast("dict[str, Any]", work.facts["ingest"])["pin"])
    ours = _fingerprint(parameters, pin, cast("ArtifactRef", work.references["table"]))
    champion = champion_before_run(services.registry, parameters.model, work.identity)
    theirs = _known(champion)
    changed = None if theirs is None else [part for part in PARTS if theirs.get(part) != ours[part]]
    verdict = "no_change" if changed == [] and not parameters.force else "go_on"
    return {
        "verdict": verdict,
        "fingerprint": {**ours},
        "changed": cast("JsonValue", changed),
        "champion_version": champion.version if champion else None,
        "reason": _sentence(champion, changed, force=parameters.force),
    }


def _fingerprint(parameters: CompareWithChampionParameters, pin: DataPin, table: ArtifactRef) -> Fingerprint:
    computing = [step for step in TRAINING_STEPS.values() if step.compute]
    told = parameters.model_dump(mode="json", exclude={"gate", "model", "force"})
    parts: dict[str, Any] = {
        # Rows that no source tells apart by a digest are told apart by themselves.
        "data": pin.digest or table.sha256,
        "code": [code_digests(step) for step in computing],
        "parameters": told,
        "environment": [package_versions(step) for step in computing],
        "gate": parameters.gate.model_dump(mode="json", exclude={"approval"}),
    }
    return {name: _sha256(parts[name]) for name in PARTS}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _known(champion: ModelVersion | None) -> Fingerprint | None:
    """The champion's fingerprint, None if there is none that can be read."""
    try:
        found = json.loads(champion.tags[TAG]) if champion else None
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _sentence(champion: ModelVersion | None, changed: list[str] | None, *, force: bool) -> str:
    if champion is None:
        return "there is no champion yet"
    since = f"since version {champion.version}, the champion"
    if changed is None:
        return f"what has changed {since}, is not known: it carries no fingerprint"
    if changed:
        return f"{_and(changed)} changed {since}"
    same = f"nothing has changed {since}: {_and(list(PARTS))} are the same"
    return f"{same}; this run was told to compute nevertheless" if force else same


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
