"""Train, evaluate, deploy and inspect models without Airflow: the same steps, artifacts and decisions.

Exit codes: 0 success, 1 error, 2 invalid usage, 3 the run promoted no model although `--require-promotion` was set.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ml_pipelines._utils.garbage_collection import limit_garbage_collection
from ml_pipelines.cli import batch as cli_batch
from ml_pipelines.cli import export as cli_export
from ml_pipelines.cli import ledger as cli_ledger
from ml_pipelines.cli import scaffolding as cli_scaffolding
from ml_pipelines.cli import training as cli_training
from ml_pipelines.cli.common import (
    StoreOption,
    out,
    print_text,
    read_settings,
)
from ml_pipelines.contracts import StepRequest, describe_validation_error
from ml_pipelines.errors import MissingExtra, PipelineError, RequestError, TransientError
from ml_pipelines.escaping import visible
from ml_pipelines.services.connected import ConnectedServices

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(cli_scaffolding.init)
app.command()(cli_scaffolding.new)
app.command()(cli_training.validate)
app.command()(cli_training.run)
err = Console(stderr=True, highlight=False, emoji=False)


def main() -> None:
    """Run the command line. An error of this package is printed without a traceback."""
    limit_garbage_collection()
    _log_to_terminal()
    try:
        app()
    except PipelineError as error:
        err.print(Text.assemble((type(error).__name__, "bold red"), f": {error}"), soft_wrap=True)
        sys.exit(1)


class _Formatter(logging.Formatter):
    """Writes control and format characters of a record as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), lines=True)


def _log_to_terminal() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ml_pipelines.user_code").setLevel(logging.INFO)  # prints of user code


@app.command("run-step")
def run_one_step(
    request: Annotated[str, typer.Option(help="URI of a StepRequest as JSON.")],
    result: Annotated[
        str | None,
        typer.Option(help="URI for the StepResult or the error.  [default: standard output]"),
    ] = None,
) -> None:
    """Run one step. Containers execute this command."""
    from pydantic import ValidationError
    from upath import UPath

    from ml_pipelines._utils.error_json import Failure
    from ml_pipelines.runner.step import run_step

    logging.getLogger("ml_pipelines").setLevel(logging.INFO)
    try:
        step_request = StepRequest.model_validate_json(UPath(request).read_bytes())
    except Exception as exc:  # the exceptions of storage libraries have no common base
        _raise_outage(exc, request)
        raise RequestError(
            "the request can't be read",
            where=request,
            expected="a StepRequest as JSON",
            got=describe_validation_error(exc) if isinstance(exc, ValidationError) else str(exc),
            fix="pass the URI of a file with a StepRequest",
        ) from exc
    try:
        document = run_step(step_request, ConnectedServices(read_settings(step_request.store))).model_dump_json(
            indent=2
        )
    except PipelineError as error:
        if result is not None:
            _write_result(result, Failure.from_error(error).model_dump_json(indent=2), fix="correct --result")
        raise
    if result is None:
        print(document)
    else:
        _write_result(result, document, fix="correct --result; the result of the step is cached")


def _write_result(result: str, document: str, *, fix: str) -> None:
    from upath import UPath

    try:
        UPath(result).write_text(document)
    except Exception as exc:  # as for the request
        _raise_outage(exc, result)
        raise RequestError(
            "the result can't be written",
            where=result,
            expected="the URI of a writable file",
            got=str(exc),
            fix=fix,
        ) from exc


def _raise_outage(exc: Exception, where: str) -> None:
    """Raise a storage error that the request did not cause: a server is away, or a package is missing."""
    from ml_pipelines.adapters.files.download import storage_error

    if isinstance(error := storage_error(exc, where), TransientError | MissingExtra):
        raise error from exc


app.command()(cli_training.show)
app.command()(cli_export.export)


@app.command()
def doctor(store: StoreOption = None) -> None:
    """Check this machine: packages, artifact store, MLflow and git."""
    from ml_pipelines.services.diagnostics import run_diagnostics

    findings = run_diagnostics(read_settings(store))
    for finding in findings:
        out.print(f"{'[green]ok[/]  ' if finding.ok else '[red]FAIL[/]'} {finding.what:<22}", end="")
        print_text(finding.detail)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


app.command()(cli_batch.score)
app.command()(cli_batch.drift)
app.command()(cli_ledger.why)
app.command()(cli_ledger.history)
app.command()(cli_ledger.rollback)
app.add_typer(cli_ledger.ledger_app, name="ledger")
app.add_typer(cli_ledger.gate_app, name="gate")

store_app = typer.Typer(no_args_is_help=True, help="Maintain the artifact store.")
app.add_typer(store_app, name="store")


@store_app.command()
def prune(
    keep_days: Annotated[float, typer.Option(help="Age in days up to which runs and results are kept.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the amount.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove old runs, and the results and artifacts that no remaining run references.

    Artifacts of model versions that were deployed stay, as the ledger references them.
    """
    from ml_pipelines.promotion.retained_artifacts import referenced_artifacts
    from ml_pipelines.store.artifact_store import ArtifactStore
    from ml_pipelines.store.retention import prune as remove

    settings = read_settings(store)
    keep = referenced_artifacts(ConnectedServices(settings).ledger)
    report = remove(ArtifactStore(settings.store), keep_days=keep_days, keep=keep, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    out.print(
        f"{verb} {report.runs} runs, {report.manifests} results, {report.objects} artifacts "
        f"({report.bytes / 1e6:.1f} MB), {report.leftovers} temporary files of ended processes",
        soft_wrap=True,
    )
