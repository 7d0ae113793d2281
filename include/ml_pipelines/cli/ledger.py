"""The commands that read the ledger of a model, and the rollback."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, time
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ml_pipelines.cli.common import out, print_note, print_text
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import PipelineError, RequestError
from ml_pipelines.escaping import visible
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings

__all__ = ["gate_app", "history", "ledger_app", "rollback", "verify", "why"]

gate_app = typer.Typer(help="Evaluate other rules of the gate.", no_args_is_help=True)
ledger_app = typer.Typer(no_args_is_help=True, help="Maintain the ledger.")

Model = Annotated[str, typer.Argument(help="Name in the registry.", show_default=False)]
_DEFAULT_LIMIT = 30
_MAX_FINDINGS = 3  # of an entry in the list; the card shows more


def why(
    version: Annotated[
        str, typer.Argument(help="MODEL (its champion), MODEL@ALIAS or MODEL:VERSION.", show_default=False)
    ],
) -> None:
    """Explain why a version was promoted: the decision card of its promotion, and of its rollback if there was one."""
    services = _services()
    model, number = _parsed(services, version)
    entries = [entry for entry in _changes(services, model) if entry.details.version == number]
    if not entries:
        versions = sorted({entry.details.version for entry in _changes(services, model) if entry.details.version})
        raise RequestError(
            f"the ledger has no promotion of version {number} of {model}",
            where=f"model {model}",
            expected=f"one of the versions {', '.join(versions)}" if versions else "a model with entries in the ledger",
            got=f"version {number}",
            fix="name a version that was the champion; `ml-pipelines history` lists them",
        )
    _warn_if_moved(services, model)
    promoted = next((entry for entry in entries if entry.decision.outcome == "promoted"), None)
    shown = {entry.seq: entry for entry in (entries[0], promoted or entries[0])}  # once, if they are the same
    for entry in shown.values():
        _show_card(services, entry)


def history(
    model: Model,
    at: Annotated[str | None, typer.Option(help="Show the champion at this time (UTC); a date means its end.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of entries.")] = _DEFAULT_LIMIT,
) -> None:
    """List the outcomes of the runs of a model, newest first; with --at, show the champion at a time."""
    from ml_pipelines.promotion.history import champion_at

    services = _services()
    if at is not None:
        moment = _moment(at)
        entry = champion_at(services.ledger, model, moment)
        number = entry.details.version if entry else None
        if entry is None or number is None:
            print_text(f"{model}: the ledger has no champion on {moment:%Y-%m-%d %H:%M} UTC")
            return
        since = _when(entry)
        print_text(f"{model}: version {number} was the champion on {moment:%Y-%m-%d %H:%M} UTC, since {since}")
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
    reason: Annotated[str, typer.Option(help="Reason, for the ledger.", show_default=False)],
    to: Annotated[str, typer.Option(help="A version, or `previous`.")] = "previous",
    run_id: Annotated[str | None, typer.Option(help="Name of the rollback; the same name is a retry.")] = None,
) -> None:
    """Make an earlier version the champion again, after a smoke test of its predictions.

    The replaced version is not promoted again automatically.
    """
    from ml_pipelines.promotion.transitions import roll_back, rollback_version

    if not reason.strip():
        raise RequestError("a rollback needs a reason", expected="--reason TEXT", fix="pass the reason for the ledger")
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
    """Evaluate other rules of the gate."""


@gate_app.command()
def backtest(
    rules: Annotated[str, typer.Option(help="A declaration, or a YAML file with only the section gate.")],
    model: Annotated[str, typer.Option(help="Name in the registry.")],
) -> None:
    """Evaluate past runs by other rules and list the decisions that change. Stores nothing."""
    from ml_pipelines.promotion.backtest import backtest as replay
    from ml_pipelines.promotion.backtest import load_gate

    services = _services()
    gate = load_gate(rules, services.ledger, model)
    replayed = list(replay(services.ledger, model, gate))
    flips = [decision for decision in replayed if decision.flips]
    if flips:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("entry", "when (UTC)", "was", "would be"):
            table.add_column(name, no_wrap=True, justify="right" if name == "entry" else "left")
        for name in ("run", "why"):
            table.add_column(name, overflow="fold")
        for flip in flips:
            outcomes = (flip.was.replace("_", " "), flip.now.outcome.replace("_", " "))
            texts = (Text(visible(flip.entry.run_id)), Text(visible(flip.now.reason)))
            table.add_row(str(flip.entry.seq), _when(flip.entry), *outcomes, *texts)
        out.print(table)
    print_text(f"{len(flips)} of {len(replayed)} decisions on {model} change")


@ledger_app.command()
def verify(
    model: Annotated[
        str | None, typer.Argument(help="Name in the registry; by default all.", show_default=False)
    ] = None,
) -> None:
    """Verify the hash chain of the ledger, and that the registry agrees with it. Exits with 1 if not.

    Store the printed number and hash elsewhere: they reveal a chain that was rewritten as a whole.
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
    intact = [_verified(services, name) for name in models if model in (None, name)]
    if not models:
        out.print("the ledger has no entries")
    if not all(intact):
        raise typer.Exit(1)


def _verified(services: ConnectedServices, model: str) -> bool:
    problems = services.ledger.verify(model)
    for problem in problems:
        print_note(model, problem, "red")
    if problems:
        return False
    agrees = not _warn_if_moved(services, model)
    (last,) = services.ledger.entries(model, limit=1)
    print_note(model, f"{last.seq} entries, intact; the last has hash {last.hash}", "green")
    return agrees


def _warn_if_moved(services: ConnectedServices, model: str) -> bool:
    """Print a warning if the registry disagrees with the ledger, or does not answer. Return whether it disagrees."""
    from ml_pipelines.promotion.history import find_external_change

    try:
        change = find_external_change(services.registry, services.ledger, model)
    except PipelineError as error:
        print_note(model, f"the registry does not answer: {error.what}", "yellow")
        return False
    if change is not None:
        print_note(model, change.sentence, "yellow")
    return change is not None


def _services() -> ConnectedServices:
    return ConnectedServices(Settings.from_environment())


def _changes(services: ConnectedServices, model: str) -> list[LedgerEntry]:
    """Return the entries that changed the champion, newest first."""
    from ml_pipelines.promotion.history import iter_entries

    return [entry for entry in iter_entries(services.ledger, model) if entry.details.version]


def _parsed(services: ConnectedServices, text: str) -> tuple[str, str]:
    """Return model and version of `MODEL`, `MODEL@ALIAS` or `MODEL:VERSION`."""
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
            "--at is not a date or time",
            expected="a date or time such as 2026-03-31 or 2026-03-31T12:00",
            got=text,
            fix="correct --at",
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
    """Return the evaluation of a decision; None if it has none, or it can't be read."""
    from ml_pipelines._utils.canonical_json import load_json

    if entry.details.evaluation is None:
        return None
    try:
        return dict(load_json(services.read(entry.details.evaluation)))
    except PipelineError as error:
        print_note("the evaluation can't be read", error.what, "yellow")
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
            Text(visible(f"{metric} {value:.3f}") if value is not None else ""),
            Text(visible(entry.run_id)),
            _explanation(decision),
            style="dim" if entry.seq in superseded else "",
        )
    return table


def _explanation(decision: Decision) -> Text:
    """Return the reason of a decision, and its first findings with their remedies."""
    from ml_pipelines.reporting.findings import SEVERITIES, finding_text

    text = Text(visible(decision.reason))
    for finding in decision.findings[:_MAX_FINDINGS]:
        label, colour, _ = SEVERITIES[finding.severity]
        text.append("\n").append(label, style=colour).append(f" {finding_text(finding)}")
    if (more := len(decision.findings) - _MAX_FINDINGS) > 0:
        text.append(f"\nand {more} more findings", style="dim")
    return text


def _when(entry: LedgerEntry) -> str:
    return f"{datetime.fromisoformat(entry.recorded_at).astimezone(UTC):%Y-%m-%d %H:%M}"
