"""The commands about what a model's ledger tells: why a version serves, what served when, and going back."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ml_pipelines.contracts import Identity, LedgerEntry
from ml_pipelines.errors import PipelineError, RequestError
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings

__all__ = ["gate_app", "history", "ledger_app", "rollback", "verify", "why"]

out = Console(highlight=False)
gate_app = typer.Typer(help="Try other rules.", no_args_is_help=True)
ledger_app = typer.Typer(no_args_is_help=True, help="Look after the ledger.")

Model = Annotated[str, typer.Argument(help="Name in the registry.", show_default=False)]
_SHOWN = 30


def why(
    version: Annotated[
        str, typer.Argument(help="MODEL, MODEL@ALIAS or MODEL:VERSION; alone, the champion.", show_default=False)
    ],
) -> None:
    """Show how a version came to serve: the decision card of its promotion, and what brought it back."""
    services = _services()
    model, number = _parsed(services, version)
    found = [entry for entry in _changes(services, model) if entry.details.version == number]
    if not found:
        known = sorted({entry.details.version for entry in _changes(services, model) if entry.details.version})
        raise RequestError(
            f"no entry tells how version {number} of {model} came to serve",
            where=f"model {model}",
            expected=f"one of the versions {', '.join(known)}" if known else "a model with entries in the ledger",
            got=f"version {number}",
            fix="name a version that serves or has served; `ml-pipelines history` lists them",
        )
    _warn_if_moved(services, model)
    promoted = next((entry for entry in found if entry.decision.outcome == "promoted"), None)
    for entry in dict.fromkeys(entry.seq for entry in (found[0], promoted or found[0])):
        _show_card(services, next(each for each in found if each.seq == entry))


def history(
    model: Model,
    at: Annotated[str | None, typer.Option(help="What served then: a date (its end) or a time, UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many entries to show.")] = _SHOWN,
) -> None:
    """List what became of a model's runs, the newest first; with --at, what served at a moment."""
    from ml_pipelines.promotion.history import champion_at

    services = _services()
    if at is not None:
        moment = _moment(at)
        entry = champion_at(services.ledger, model, moment)
        number = entry.details.version if entry else None
        if entry is None or number is None:
            out.print(f"{model}: nothing served on {moment:%Y-%m-%d %H:%M} UTC that the ledger knows of", markup=False)
            return
        since = _when(entry)
        out.print(f"{model}: version {number} served on {moment:%Y-%m-%d %H:%M} UTC, since {since}", markup=False)
        _show_card(services, entry)
        return
    entries = services.ledger.entries(model, limit=limit)
    if not entries:
        raise RequestError(
            f"the ledger has no entry of model {model!r}",
            expected=f"a model that has one: {', '.join(services.ledger.models()) or 'none yet'}",
            got=model,
            fix="name a model by its name in the registry; ML_PIPELINES_LEDGER names another ledger",
        )
    out.print(_table(entries))
    _warn_if_moved(services, model)


def rollback(
    model: Model,
    reason: Annotated[str, typer.Option(help="Why; it goes into the ledger.", show_default=False)],
    to: Annotated[str, typer.Option(help="A version, or the one that served before.")] = "previous",
    run_id: Annotated[str | None, typer.Option(help="Name of this change; the same name again is a retry.")] = None,
) -> None:
    """Let an earlier version serve again, after it has proved to predict what it did at training.

    What served until now is not promoted again by itself.
    """
    from ml_pipelines.promotion.transitions import roll_back, rollback_version

    if not reason.strip():
        raise RequestError("a rollback needs a reason", expected="--reason TEXT", fix="say why; the ledger keeps it")
    services = _services()
    identity = Identity(
        pipeline="rollback",
        run_id=run_id or f"cli__{getpass.getuser()}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
        task_id="rollback",
    )
    entry = roll_back(
        services, model, lambda _: rollback_version(services, model, to), reason=reason, identity=identity
    )
    _show_card(services, entry)


@gate_app.callback()
def _gate() -> None:
    """Try other rules."""


@gate_app.command()
def backtest(
    rules: Annotated[str, typer.Option(help="A declaration, or a YAML file with the section gate alone.")],
    model: Annotated[str, typer.Option(help="Name in the registry.")],
) -> None:
    """Judge past runs again by other rules, and list the decisions that flip. Nothing is changed."""
    from ml_pipelines.promotion.backtest import backtest as replay
    from ml_pipelines.promotion.backtest import load_gate

    services = _services()
    gate = load_gate(rules, services.ledger, model)
    replayed = list(replay(services.ledger, model, gate))
    flips = [each for each in replayed if each.flips]
    if flips:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("entry", "when (UTC)", "was", "would be"):
            table.add_column(name, no_wrap=True, justify="right" if name == "entry" else "left")
        for name in ("run", "why"):
            table.add_column(name, overflow="fold")
        for each in flips:
            outcomes = (each.was.replace("_", " "), each.now.outcome.replace("_", " "))
            told = (escape(each.entry.run_id), escape(each.now.reason))
            table.add_row(str(each.entry.seq), _when(each.entry), *outcomes, *told)
        out.print(table)
    out.print(f"{len(flips)} of {len(replayed)} decisions on {model} flip", markup=False)


@ledger_app.command()
def verify(model: Annotated[str | None, typer.Argument(help="Only this one.", show_default=False)] = None) -> None:
    """See that no entry was altered, removed or put elsewhere, and that the registry agrees. Exit 1 if not.

    Keep the last line's number and hash elsewhere: they prove later that nobody has written the whole chain anew.
    """
    services = _services()
    models = services.ledger.models()
    if model is not None and model not in models:
        raise RequestError(
            f"the ledger has no entry of model {model!r}",
            expected=f"a model that has one: {', '.join(models) or 'none yet'}",
            got=model,
            fix="name a model by its name in the registry; ML_PIPELINES_LEDGER names another ledger",
        )
    sound = [_verified(services, each) for each in models if model in (None, each)]
    if not models:
        out.print("the ledger has no entries")
    if not all(sound):
        raise typer.Exit(1)


def _verified(services: ConnectedServices, model: str) -> bool:
    flaws = services.ledger.verify(model)
    for flaw in flaws:
        out.print(f"[red]{escape(model)}[/]: {escape(flaw)}", soft_wrap=True)
    if flaws:
        return False
    agrees = not _warn_if_moved(services, model)
    (last,) = services.ledger.entries(model, limit=1)
    out.print(f"[green]{escape(model)}[/]: {last.seq} entries, whole; the last has hash {last.hash}", soft_wrap=True)
    return agrees


def _warn_if_moved(services: ConnectedServices, model: str) -> bool:
    """Tell if the registry does not agree with the ledger. A registry that can't be asked is told and no finding."""
    from ml_pipelines.promotion.history import find_external_change

    try:
        found = find_external_change(services.registry, services.ledger, model)
    except PipelineError as error:
        out.print(f"[yellow]{escape(model)}[/]: the registry could not be asked: {escape(error.what)}", soft_wrap=True)
        return False
    if found is not None:
        out.print(f"[yellow]{escape(model)}[/]: {escape(found.sentence)}", soft_wrap=True)
    return found is not None


def _services() -> ConnectedServices:
    return ConnectedServices(Settings.from_environment())


def _changes(services: ConnectedServices, model: str) -> list[LedgerEntry]:
    """The entries after which another version served, the newest first."""
    from ml_pipelines.promotion.history import iter_entries

    return [entry for entry in iter_entries(services.ledger, model) if entry.details.version]


def _parsed(services: ConnectedServices, text: str) -> tuple[str, str]:
    """Model and version of `MODEL`, `MODEL@ALIAS` or `MODEL:VERSION`."""
    from ml_pipelines.promotion.transitions import version_by_alias

    model, colon, number = text.partition(":")
    if colon:
        return model, number
    model, _, alias = text.partition("@")
    fix = "name a version, as MODEL:VERSION, or another alias"
    return model, version_by_alias(services.registry, model, alias or "champion", fix=fix).version


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise RequestError(
            "--at is no date",
            expected="a date or time such as 2026-03-31 or 2026-03-31T12:00",
            got=text,
            fix="correct it",
        ) from exc
    if len(text) <= len("2026-03-31"):
        moment = datetime.combine(moment, time.max)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _show_card(services: ConnectedServices, entry: LedgerEntry) -> None:
    from ml_pipelines.reporting.decision_card import decision_card

    lines = [("entry", f"{entry.seq} of {_when(entry)}"), ("run", f"{entry.run_id} of {entry.pipeline}")]
    if entry.run_url:
        lines.append(("page", entry.run_url))
    evaluation = _evaluation(services, entry)
    out.print(decision_card(entry.decision, entry.details, evaluation=evaluation, where_next=lines))


def _evaluation(services: ConnectedServices, entry: LedgerEntry) -> dict[str, Any] | None:
    """The evaluation that a decision rests on; None if there was none, or it can't be had any more."""
    from ml_pipelines._utils.canonical_json import load_json

    if entry.details.evaluation is None:
        return None
    try:
        return dict(load_json(services.read(entry.details.evaluation)))
    except PipelineError as error:
        out.print(f"[yellow]the evaluation is not shown[/]: {escape(error.what)}", soft_wrap=True)
        return None


def _table(entries: tuple[LedgerEntry, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entry", "when (UTC)", "outcome", "serves", "metric"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("entry", "serves") else "left")
    table.add_column("run", overflow="fold")
    table.add_column("why", overflow="fold")
    superseded = {entry.supersedes for entry in entries}
    for entry in entries:
        decision, metric = entry.decision, entry.decision.metric
        value = decision.metrics.get(metric) if metric else None
        table.add_row(
            str(entry.seq),
            _when(entry),
            decision.outcome.replace("_", " "),
            entry.details.version or "",
            f"{metric} {value:.3f}" if value is not None else "",
            escape(entry.run_id),
            escape(decision.reason),
            style="dim" if entry.seq in superseded else "",
        )
    return table


def _when(entry: LedgerEntry) -> str:
    return f"{datetime.fromisoformat(entry.recorded_at).astimezone(UTC):%Y-%m-%d %H:%M}"
