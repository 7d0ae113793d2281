"""Train, evaluate, deploy and inspect models without Airflow: the same steps, artifacts and decisions.

Exit codes: 0 success, 1 error, 2 invalid usage, 3 the run promoted no model although `--require-promotion` was set.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ml_pipelines._utils.gc import limit_garbage_collection
from ml_pipelines._utils.process import user_name
from ml_pipelines.cli import batch as cli_batch
from ml_pipelines.cli import ledger as cli_ledger
from ml_pipelines.cli import scaffolding as cli_scaffolding
from ml_pipelines.cli.common import (
    DataRevisionOption,
    ForceOption,
    RunIdOption,
    StoreOption,
    new_run_id,
    out,
    print_text,
    read_settings,
    step_progress,
)
from ml_pipelines.contracts import Promote, StepRequest, describe_validation_error
from ml_pipelines.errors import MissingExtra, ModelError, PipelineError, RequestError, SpecError, TransientError
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.training import PipelineSpec

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(cli_scaffolding.init)
app.command()(cli_scaffolding.new)
err = Console(stderr=True, highlight=False, emoji=False)

SpecFile = Annotated[Path, typer.Argument(help="The YAML file that declares the pipeline.", show_default=False)]


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


@app.command()
def validate(file: SpecFile) -> None:
    """Validate a declaration: fields, types and rules; with scikit-learn installed also the estimators."""
    from ml_pipelines.spec.loader import declaration_kind, load_drift, load_scoring

    if (kind := declaration_kind(file)) != "training":
        declaration = load_scoring(file) if kind == "scoring" else load_drift(file)
        print_text(f"{file}: valid. {kind.capitalize()} {declaration.name}, model {declaration.model.name}.")
        return
    spec, note = _load_checked(file)
    candidates = ", ".join(candidate.name for candidate in spec.effective_candidates)
    print_text(f"{file}: valid. Training {spec.name}, model {spec.model.name}, candidates {candidates}.{note}")
    for key, value in spec.derived.items():
        print_text(f"  default of {key}: {value}")


@app.command()
def run(
    file: SpecFile,
    data_revision: DataRevisionOption = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Train this candidate only. Can be repeated.")] = None,
    promote: Annotated[Promote, typer.Option(help="auto: by the gate; hold: ask; never: evaluate only.")] = "auto",
    force: ForceOption = False,
    approve: Annotated[
        bool,
        typer.Option("--approve", help="Approve a model that the gate holds."),
    ] = False,
    run_id: RunIdOption = None,
    store: StoreOption = None,
    require_promotion: Annotated[
        bool, typer.Option("--require-promotion", help="Exit with 3 unless promoted.")
    ] = False,
) -> None:
    """Run a training pipeline in this process, with the same steps and artifacts as in Airflow."""
    from ml_pipelines.runner.training import run_pipeline, validate_candidates
    from ml_pipelines.spec.loader import load_spec

    settings = read_settings(store)
    try:
        spec = load_spec(str(file))
        validate_candidates(spec, settings.store)
    except (SpecError, ModelError):
        _load_checked(file)  # reports all issues with their lines
        raise
    run_id = run_id or new_run_id()
    with step_progress() as (on_start, on_done):
        run_pipeline(
            spec,
            ConnectedServices(settings),
            store=settings.store,
            run_id=run_id,
            options=RunOptions(
                data_revision=data_revision, candidates=tuple(candidate or ()), promote=promote, force=force
            ),
            approve=lambda decision: user_name() if approve else None,
            on_start=on_start,
            on_done=on_done,
        )
    outcome = _show(settings, spec.name, run_id)
    if require_promotion and outcome != "promoted":
        raise typer.Exit(3)


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


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    pipeline: Annotated[
        str | None, typer.Option(help="Name of the pipeline, if several pipelines have a run of this name.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Show the decision card of a run."""
    settings = read_settings(store)
    _show(settings, pipeline or _pipeline_of(settings.store, run_id), run_id)


def _pipeline_of(store: str, run_id: str) -> str:
    from ml_pipelines.store.artifact_store import ArtifactStore

    pipelines = ArtifactStore(store).pipelines(run_id)
    if len(pipelines) == 1:
        return pipelines[0]
    what = f"several pipelines have a run {run_id!r}" if pipelines else f"no pipeline has a run {run_id!r}"
    raise RequestError(
        what,
        where=store,
        expected=f"--pipeline {' or '.join(pipelines)}" if pipelines else "a run in this store",
        got=run_id,
        fix="pass --pipeline" if pipelines else "check the name of the run, or pass another --store",
    )


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


def _load_checked(file: Path) -> tuple[PipelineSpec, str]:
    """Return a training declaration, and a note if its estimators could not be checked."""
    from ml_pipelines._utils.imports import import_object
    from ml_pipelines.spec.loader import load_spec

    try:
        return load_spec(str(file), rules=import_object("ml_pipelines.modeling.spec_checks:find_library_issues")), ""
    except MissingExtra as missing:
        return load_spec(str(file)), f"\nNot checked: estimators, their parameters and patterns: {missing.what}."


def _show(settings: Settings, pipeline: str, run_id: str) -> Any:
    from ml_pipelines.runner.run_summary import run_card

    outcome, card = run_card(settings.store, ConnectedServices(settings).ledger, pipeline, run_id)
    out.print(card)
    return outcome
