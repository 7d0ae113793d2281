"""What the pages show, read from ledger and registry: only of pipelines that the user may see."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ml_pipelines.contracts import ArtifactRef, LedgerEntry
from ml_pipelines.errors import PipelineError
from ml_pipelines.ports import Ledger, ModelVersion, Services
from ml_pipelines.reporting.plots import HistoryPoint

__all__ = [
    "ALIASES",
    "ModelPage",
    "Serving",
    "history_of",
    "model_page",
    "models_of",
    "readable_entries",
    "report_of",
]

log = logging.getLogger(__name__)

ALIASES = ("champion", "challenger", "previous")
PER_PAGE = 20
IN_HISTORY = 200
MOST_READ = 2000  # entries read for a page, however few of them the user may see
_CHUNK = 200

Readable = Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A version that an alias points to.

    Attributes:
        alias: which one.
        version: its number.
        since: when the run ended that made it so, None if no entry of the ledger tells.
        url: its page in MLflow, if there is one.
    """

    alias: str
    version: str
    since: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage:
    """What is shown of a model.

    Attributes:
        model: its name.
        latest: the newest entry.
        entries: a page of entries, the newest first.
        older: number below which the next page begins, None if there is none.
        serving: what the aliases point to.
        trouble: why the registry could not be asked.
        metric: which the moments are of.
        moments: oldest first.
    """

    model: str
    latest: LedgerEntry
    entries: Sequence[LedgerEntry]
    older: int | None = None
    serving: Sequence[Serving] = ()
    trouble: str | None = None
    metric: str | None = None
    moments: Sequence[HistoryPoint] = field(default=())


def readable_entries(
    ledger: Ledger, model: str, readable: Readable, *, limit: int, before: int | None = None
) -> tuple[list[LedgerEntry], int | None]:
    """Entries of pipelines that the user may see, the newest first, and below which number there are more."""
    found: list[LedgerEntry] = []
    for entry in _entries(ledger, model, before, first=limit + 1):
        if entry.pipeline in readable:
            if len(found) == limit:
                return found, found[-1].seq
            found.append(entry)
    return found, None


def _entries(ledger: Ledger, model: str, before: int | None, *, first: int) -> Iterator[LedgerEntry]:
    size, read = first, 0
    while read < MOST_READ:
        chunk = ledger.entries(model, limit=size, before=before)
        yield from chunk
        if len(chunk) < size:
            return
        before, read, size = chunk[-1].seq, read + size, _CHUNK


def models_of(ledger: Ledger, readable: Readable) -> list[ModelPage]:
    """The models that the user may see, by name: the newest decision on each, and what serves as the ledger tells."""
    found = []
    for model in ledger.models():
        recent, _ = readable_entries(ledger, model, readable, limit=PER_PAGE)
        if recent:
            serving = _by_ledger(recent)
            found.append(ModelPage(model=model, latest=recent[0], entries=recent, serving=serving))
    return found


def model_page(services: Services, model: str, readable: Readable, *, before: int | None = None) -> ModelPage | None:
    """What is shown of a model; None if the user may see nothing of it."""
    recent, _ = readable_entries(services.ledger, model, readable, limit=IN_HISTORY)
    if not recent:
        return None
    entries, older = readable_entries(services.ledger, model, readable, limit=PER_PAGE, before=before)
    serving, trouble = _by_registry(services, model, recent, readable)
    metric = next((entry.decision.metric for entry in recent if entry.decision.metric), None)
    return ModelPage(
        model=model,
        latest=recent[0],
        entries=entries,
        older=older,
        serving=serving,
        trouble=trouble,
        metric=metric,
        moments=history_of(recent, metric) if metric else (),
    )


def _by_registry(
    services: Services, model: str, recent: Sequence[LedgerEntry], readable: Readable
) -> tuple[list[Serving], str | None]:
    """What a model's aliases point to, or what is known of it without the registry, and why that can't be asked."""
    try:
        versions = {alias: services.registry.by_alias(model, alias) for alias in ALIASES}
    except PipelineError as exc:
        log.warning("the registry can't be asked about %s: %s", model, exc)
        return _by_ledger(recent), exc.what
    return [
        Serving(alias=alias, version=version.version, since=_since(recent, alias, version.version), url=version.url)
        for alias, version in versions.items()
        if version is not None and _may_see(version, readable)
    ], None


def _may_see(version: ModelVersion, readable: Readable) -> bool:
    pipeline = version.tags.get("ml_pipelines.pipeline")
    return pipeline is None or pipeline in readable


def _by_ledger(recent: Sequence[LedgerEntry]) -> list[Serving]:
    for entry in recent:
        told = [("champion", entry.details.version), ("previous", entry.details.previous_version)]
        if told[0][1]:
            return [
                Serving(alias=alias, version=str(version), since=_since(recent, alias, str(version)))
                for alias, version in told
                if version
            ]
    return []


def _since(recent: Sequence[LedgerEntry], alias: str, version: str) -> str | None:
    """When the newest entry was made that says so."""
    name = {"champion": "version", "previous": "previous_version"}.get(alias)
    return next((entry.recorded_at for entry in recent if name and getattr(entry.details, name) == version), None)


def history_of(recent: Sequence[LedgerEntry], metric: str) -> list[HistoryPoint]:
    """The metric of what served after each run, on that run's rows; oldest first."""
    return [moment for entry in reversed(recent) if (moment := _moment(entry, metric)) is not None]


def _moment(entry: LedgerEntry, metric: str) -> HistoryPoint | None:
    decision = entry.decision
    new = decision.outcome == "promoted"
    values, intervals = (
        (decision.metrics, decision.intervals) if new else (decision.champion_metrics, decision.champion_intervals)
    )
    value = values.get(metric)
    if value is None:
        return None
    return HistoryPoint(datetime.fromisoformat(entry.recorded_at), value, intervals.get(metric), new)


def report_of(entry: LedgerEntry) -> ArtifactRef | None:
    """Where a run's report is."""
    return entry.details.report
