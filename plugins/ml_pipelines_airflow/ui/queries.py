"""Queries of the pages to ledger and registry, limited to pipelines that the user may read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import PipelineError
from ml_pipelines.ports import Ledger, ModelVersion, Services
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.promotion.changes_since_champion import SPLIT_RULE
from ml_pipelines.promotion.deployment import THRESHOLD_TAG
from ml_pipelines.reporting.plots import HistoryPoint

__all__ = [
    "ALIASES",
    "AliasedVersion",
    "ModelPage",
    "history_of",
    "model_page",
    "models_of",
    "readable_entries",
    "report_of",
]

log = logging.getLogger(__name__)

ALIASES = ("champion", "challenger", "previous")
PAGE_SIZE = 20
HISTORY_SIZE = 200
MAX_READ = 2000  # entries read for a page, even if the user may read few of them
CHUNK_SIZE = 200

Readable = Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasedVersion:
    """A version that has an alias.

    Attributes:
        alias: name of the alias.
        version: number of the version.
        since: end of the run that set the alias; None if the ledger has no entry of it.
        url: page of the version in the model registry, if it has one.
        threshold: its tuned decision threshold; None for the usual one.
    """

    alias: str
    version: str
    since: str | None = None
    url: str | None = None
    threshold: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage:
    """The content of a model's page.

    Attributes:
        model: name of the model.
        latest: the newest entry.
        entries: a page of entries, the newest first.
        older: number below which the next page begins; None on the last page.
        aliases: versions that have an alias.
        registry_error: reason why the registry could not be queried.
        metric: metric of the history.
        history: metric of the deployed model after each run, oldest first.
    """

    model: str
    latest: LedgerEntry
    entries: Sequence[LedgerEntry]
    older: int | None = None
    aliases: Sequence[AliasedVersion] = ()
    registry_error: str | None = None
    metric: str | None = None
    history: Sequence[HistoryPoint] = field(default=())


def readable_entries(
    ledger: Ledger, model: str, readable: Readable, *, limit: int, before: int | None = None
) -> tuple[list[LedgerEntry], int | None]:
    """Return entries that the user may read, the newest first, and the number below which there are more."""
    entries: list[LedgerEntry] = []
    for entry in _entries(ledger, model, before, first=limit + 1):
        if entry.pipeline in readable:
            if len(entries) == limit:
                return entries, entries[-1].seq
            entries.append(entry)
    return entries, None


def _entries(ledger: Ledger, model: str, before: int | None, *, first: int) -> Iterator[LedgerEntry]:
    size, read = first, 0
    while read < MAX_READ:
        chunk = ledger.entries(model, limit=size, before=before)
        yield from chunk
        if len(chunk) < size:
            return
        before, read, size = chunk[-1].seq, read + size, CHUNK_SIZE


def models_of(ledger: Ledger, readable: Readable) -> list[ModelPage]:
    """Return the models that the user may see, by name, with the newest decision and the aliases of the ledger."""
    summaries = []
    for model in ledger.models():
        recent, _ = readable_entries(ledger, model, readable, limit=PAGE_SIZE)
        if recent:
            aliases = _by_ledger(recent)
            summaries.append(ModelPage(model=model, latest=recent[0], entries=recent, aliases=aliases))
    return summaries


def model_page(services: Services, model: str, readable: Readable, *, before: int | None = None) -> ModelPage | None:
    """Return the content of a model's page; None if the user may read no decision on it."""
    recent, _ = readable_entries(services.ledger, model, readable, limit=HISTORY_SIZE)
    if not recent:
        return None
    entries, older = readable_entries(services.ledger, model, readable, limit=PAGE_SIZE, before=before)
    aliases, registry_error = _by_registry(services, model, recent, readable)
    metric = next((entry.decision.metric for entry in recent if entry.decision.metric), None)
    return ModelPage(
        model=model,
        latest=recent[0],
        entries=entries,
        older=older,
        aliases=aliases,
        registry_error=registry_error,
        metric=metric,
        history=history_of(recent, metric) if metric else (),
    )


def _by_registry(
    services: Services, model: str, recent: Sequence[LedgerEntry], readable: Readable
) -> tuple[list[AliasedVersion], str | None]:
    """Return the aliases of a model; if the registry fails, those of the ledger and the error."""
    try:
        versions = {alias: services.registry.by_alias(model, alias) for alias in ALIASES}
    except PipelineError as exc:
        log.warning("the registry could not be queried for model %s: %s", model, exc)
        return _by_ledger(recent), exc.what
    return [
        AliasedVersion(
            alias=alias,
            version=version.version,
            since=_since(recent, alias, version.version),
            url=version.url,
            threshold=version.tags.get(THRESHOLD_TAG),
        )
        for alias, version in versions.items()
        if version is not None and _is_readable(version, readable)
    ], None


def _is_readable(version: ModelVersion, readable: Readable) -> bool:
    pipeline = version.tags.get("ml_pipelines.pipeline")
    return pipeline is None or pipeline in readable


def _by_ledger(recent: Sequence[LedgerEntry]) -> list[AliasedVersion]:
    """Return the aliases that the newest deployment set."""
    for entry in recent:
        versions = {"champion": entry.details.version, "previous": entry.details.previous_version}
        if versions["champion"] and not entry.details.replaced_by:
            return [
                AliasedVersion(alias=alias, version=str(version), since=_since(recent, alias, str(version)))
                for alias, version in versions.items()
                if version
            ]
    return []


def _since(recent: Sequence[LedgerEntry], alias: str, version: str) -> str | None:
    """Return the time of the newest entry that gave a version its alias."""
    name = {"champion": "version", "previous": "previous_version"}.get(alias)
    return next((entry.recorded_at for entry in recent if name and getattr(entry.details, name) == version), None)


def history_of(recent: Sequence[LedgerEntry], metric: str) -> list[HistoryPoint]:
    """Return the metric of the deployed model after each run, on the rows of that run; oldest first.

    A run with another split than the champion has no point: its test rows are others.
    """
    return [point for entry in reversed(recent) if (point := _history_point(entry, metric)) is not None]


def _history_point(entry: LedgerEntry, metric: str) -> HistoryPoint | None:
    decision = entry.decision
    if any(finding.check == SPLIT_RULE for finding in decision.findings):
        return None
    new = decision.outcome == "promoted"
    values, intervals = (
        (decision.metrics, decision.intervals) if new else (decision.champion_metrics, decision.champion_intervals)
    )
    value = values.get(metric)
    if value is None:
        return None
    return HistoryPoint(datetime.fromisoformat(entry.recorded_at), value, intervals.get(metric), new)


def report_of(entry: LedgerEntry) -> ArtifactRef | None:
    """Return the reference of a run's report."""
    return entry.details.report
