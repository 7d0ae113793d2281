"""Compare the run with the champion's training; without a change the run ends before it computes anything.

A *fingerprint* holds one digest for each component of a decision: `data`, `code`, `parameters`, `environment` and
`gate`. The step `register` writes it to a tag of the version. With user code it also holds `sources`, the digest of
each function, so that a later run can name the function that changed. With candidates that failed it also holds their
names. The next run then tries them again, also if nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines.contracts import ArtifactRef, DataPin, JsonValue
from ml_pipelines.pipeline.cache_key import code_digests, package_versions
from ml_pipelines.pipeline.candidate_failures import FAILED
from ml_pipelines.pipeline.facts import CompareFacts, FactsForComparison
from ml_pipelines.pipeline.step import Publication, one_artifact
from ml_pipelines.pipeline.step_parameters import CompareWithChampionParameters
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.user_code import changed_sources, short_digests, source_digests
from ml_pipelines.ports import ModelVersion, Services
from ml_pipelines.promotion.champion import champion_before_run

__all__ = ["COMPONENTS", "TAG", "publish"]

COMPONENTS = ("data", "code", "parameters", "environment", "gate")
TAG = "ml_pipelines.fingerprint"

Fingerprint = dict[str, str]


def publish(
    work: Publication[CompareWithChampionParameters, FactsForComparison], services: Services
) -> dict[str, JsonValue]:
    """Compare the run's fingerprint with the champion's.

    Returns:
        The values of :class:`CompareFacts`.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    parameters = work.parameters
    fingerprint = _fingerprint(parameters, work.facts.ingest.pin, one_artifact(work.references, "table"))
    champion = champion_before_run(services.registry, parameters.model, work.identity)
    earlier = _stored_fingerprint(champion)
    changed = None
    if earlier is not None:
        changed = tuple(name for name in COMPONENTS if earlier.get(name) != fingerprint[name])
    again = _reason_to_compute(earlier, force=parameters.force)
    return CompareFacts(
        verdict="no_change" if changed == () and not again else "go_on",
        fingerprint=fingerprint,
        changed=changed,
        champion_version=champion.version if champion else None,
        reason=_reason(champion, changed, _sources(earlier, fingerprint), again),
    ).as_values()


def _fingerprint(parameters: CompareWithChampionParameters, pin: DataPin, table: ArtifactRef) -> Fingerprint:
    computing = [step for step in TRAINING_STEPS.values() if step.compute]
    components: dict[str, Any] = {
        # A source without digests, such as SQL, is identified by the digest of its rows.
        "data": pin.digest or table.sha256,
        "code": [code_digests(step) for step in computing],
        "parameters": parameters.model_dump(mode="json", exclude={"gate", "model", "force"}),
        "environment": [package_versions(step) for step in computing],
        "gate": parameters.gate.model_dump(mode="json", exclude={"approval"}),
    }
    if sources := source_digests(parameters.code):
        components["code"].append(sources)
        components["environment"].append(package_versions(TRAINING_STEPS["train"], parameters.code))
    short = short_digests(sources)
    return {name: json_digest(components[name]) for name in COMPONENTS} | ({"sources": short} if short else {})


def _sources(before: Fingerprint | None, now: Fingerprint) -> str:
    """Return the functions that changed since the champion, in brackets; empty without one."""
    try:
        old, new = (json.loads((fingerprint or {}).get("sources", "{}")) for fingerprint in (before, now))
        changes = changed_sources(old, new)
    except (AttributeError, TypeError, ValueError):  # the tag of the champion has another form
        return ""
    return f" ({'; '.join(changes)})" if changes else ""


def _stored_fingerprint(champion: ModelVersion | None) -> Fingerprint | None:
    """Return the champion's fingerprint; None without a champion or a readable tag."""
    try:
        fingerprint = json.loads(champion.tags[TAG]) if champion else None
    except (KeyError, ValueError):
        return None
    return fingerprint if isinstance(fingerprint, dict) else None


def _reason_to_compute(earlier: Fingerprint | None, *, force: bool) -> str:
    """Return why the run computes although nothing has changed; empty if it does not."""
    if force:
        return "the run computes because of the option force"
    failed = (earlier or {}).get(FAILED)
    return f"the run tries the candidates again that failed in the champion's run: {failed}" if failed else ""


def _reason(champion: ModelVersion | None, changed: tuple[str, ...] | None, sources: str, again: str) -> str:
    if champion is None:
        return "there is no champion yet"
    since = f"since version {champion.version}, the champion"
    if changed is None:
        return f"version {champion.version}, the champion, has no fingerprint, so the changes are unknown"
    if changed:
        return f"{_and([name + sources * (name == 'code') for name in changed])} changed {since}"
    same = f"nothing has changed {since}: {_and(COMPONENTS)} are the same"
    return f"{same}; {again}" if again else same


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
