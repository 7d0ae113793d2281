"""`ml-pipelines`: validate, run, look, clean up; the same work as in Airflow, without it.

Exit codes: 0 done, 1 the job could not be done, 2 wrong use of the command, 3 the run ended without a new champion
where `--require-promotion` asked for one.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ml_pipelines._utils.gc import limit_garbage_collection
from ml_pipelines._utils.process import user_name
from ml_pipelines.cli import batch as cli_batch
from ml_pipelines.cli import ledger as cli_ledger
from ml_pipelines.contracts import Promote, StepRequest, StepResult, describe_validation_error
from ml_pipelines.errors import MissingExtra, ModelError, PipelineError, RequestError, ServiceUnavailable, SpecError
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.training import PipelineSpec

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

SpecFile = Annotated[Path, typer.Argument(help="The YAML file that declares the pipeline.", show_default=False)]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="URI of the artifact store; else ML_PIPELINES_STORE or ./.ml-pipelines.")
]


def main() -> None:
    """Run the command line; an error of ours is told in a few lines, never as a traceback."""
    limit_garbage_collection()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except PipelineError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def validate(file: SpecFile) -> None:
    """Check a declaration: names, types and, where scikit-learn is installed, the estimators' parameters."""
    from ml_pipelines.spec.loader import declaration_kind, load_drift, load_scoring

    if (kind := declaration_kind(file)) != "training":
        declared = load_scoring(file) if kind == "scoring" else load_drift(file)
        told = f"{file}: valid. {kind.capitalize()} {declared.name}, of model {declared.model.name}."
        out.print(told, markup=False, soft_wrap=True)
        return
    spec, unchecked = _checked(file)
    candidates = ", ".join(candidate.name for candidate in spec.effective_candidates)
    told = f"{file}: valid. Pipeline {spec.name}, model {spec.model.name}, candidates {candidates}.{unchecked}"
    out.print(told, markup=False, soft_wrap=True)


@app.command()
def run(
    file: SpecFile,
    data_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the data repository.")] = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Train only this one; may be repeated.")] = None,
    promote: Annotated[Promote, typer.Option(help="auto: by the gate; hold: ask; never: only judge.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Compute every step again.")] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Answer yes if the gate holds the model; else the champion stays.")
    ] = False,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same name again is a retry.")] = None,
    store: StoreOption = None,
    require_promotion: Annotated[bool, typer.Option("--require-promotion", help="Exit 3 unless promoted.")] = False,
) -> None:
    """Run a pipeline in this process: the same steps as in Airflow, the same artifacts, the same result."""
    from ml_pipelines.runner.training import run_pipeline, validate_candidates
    from ml_pipelines.spec.loader import load_spec

    settings = _settings(store)
    try:
        spec = load_spec(str(file))
        validate_candidates(spec, settings.store)
    except (SpecError, ModelError):
        _checked(file)  # tells all mistakes at once, each with its line
        raise
    run_id = run_id or f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    with out.status("") as status:

        def on_done(label: str, result: StepResult) -> None:
            out.print(f"  {label:<40} {result.status:<9} {result.seconds:6.1f} s", markup=False)

        run_pipeline(
            spec,
            ConnectedServices(settings),
            store=settings.store,
            run_id=run_id,
            options=RunOptions(
                data_revision=data_revision, candidates=tuple(candidate or ()), promote=promote, force=force
            ),
            approve=lambda decision: user_name() if approve else None,
            on_start=lambda label: status.update(escape(f"{label} ...")),
            on_done=on_done,
        )
    outcome = _show(settings, spec.name, run_id)
    if require_promotion and outcome != "promoted":
        raise typer.Exit(3)


@app.command("run-step")
def run_one_step(
    request: Annotated[str, typer.Option(help="URI of a StepRequest as JSON.")],
    result: Annotated[
        str | None, typer.Option(help="URI where the StepResult goes, or the step's error; else standard output.")
    ] = None,
) -> None:
    """Run one step of a request; what a container executes."""
    from pydantic import ValidationError
    from upath import UPath

    from ml_pipelines._utils.failure import Failure
    from ml_pipelines.runner.step import run_step

    logging.getLogger("ml_pipelines").setLevel(logging.INFO)
    try:
        asked = StepRequest.model_validate_json(UPath(request).read_bytes())
    except Exception as exc:  # what vendors of storage raise has no base in common
        _raise_outage(exc, request)
        raise RequestError(
            "the request can't be read",
            where=request,
            expected="a StepRequest as JSON",
            got=describe_validation_error(exc) if isinstance(exc, ValidationError) else str(exc),
            fix="pass the URI of a file that a StepRequest was written to",
        ) from exc
    try:
        answer = run_step(asked, ConnectedServices(_settings(asked.store))).model_dump_json(indent=2)
    except PipelineError as error:
        if result is not None:
            _leave(result, Failure.from_error(error).model_dump_json(indent=2), then="correct --result")
        raise
    if result is None:
        print(answer)
    else:
        _leave(result, answer, then="correct --result; the step is done, so running it again is quick")


def _leave(result: str, document: str, *, then: str) -> None:
    """Write what became of a step to where it was asked for."""
    from upath import UPath

    try:
        UPath(result).write_text(document)
    except Exception as exc:  # as when a request is read
        _raise_outage(exc, result)
        raise RequestError(
            "the result can't be written",
            where=result,
            expected="the URI of a file that may be written",
            got=str(exc),
            fix=then,
        ) from exc


def _raise_outage(exc: Exception, where: str) -> None:
    """Raise what is worth another try, or lacks a package; who asked is not to blame for it."""
    from ml_pipelines.adapters.files.download import storage_error

    if isinstance(error := storage_error(exc, where), ServiceUnavailable | MissingExtra):
        raise error from exc


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    pipeline: Annotated[
        str | None, typer.Option(help="Name of the pipeline, if several have a run of this name.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Show the decision card of a run."""
    settings = _settings(store)
    _show(settings, pipeline or _pipeline_of(settings.store, run_id), run_id)


def _pipeline_of(store: str, run_id: str) -> str:
    from ml_pipelines.store.artifact_store import ArtifactStore

    found = ArtifactStore(store).pipelines(run_id)
    if len(found) == 1:
        return found[0]
    what = f"several pipelines have a run {run_id!r}" if found else f"no pipeline has a run {run_id!r}"
    raise RequestError(
        what,
        where=store,
        expected=f"--pipeline {' or '.join(found)}" if found else "a run that this store has on record",
        got=run_id,
        fix="name the pipeline" if found else "name a run as it was told when it ran; --store names another store",
    )


@app.command()
def doctor(store: StoreOption = None) -> None:
    """Check that this machine can do the work: packages, store, MLflow, git."""
    from ml_pipelines.services.diagnostics import run_diagnostics

    findings = run_diagnostics(_settings(store))
    for finding in findings:
        out.print(f"{'[green]ok[/]  ' if finding.ok else '[red]FAIL[/]'} {finding.what:<22}", end="")
        out.print(finding.detail, markup=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


app.command()(cli_batch.score)
app.command()(cli_batch.drift)
app.command()(cli_ledger.why)
app.command()(cli_ledger.history)
app.command()(cli_ledger.rollback)
app.add_typer(cli_ledger.ledger_app, name="ledger")
app.add_typer(cli_ledger.gate_app, name="gate")

store_app = typer.Typer(no_args_is_help=True, help="Look after the artifact store.")
app.add_typer(store_app, name="store")


@store_app.command()
def prune(
    keep_days: Annotated[float, typer.Option(help="How long runs and results are kept.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, only say what would go.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove runs older than some days, and the results and artifacts that nothing needs any more.

    What the ledger refers to of versions that came to serve stays.
    """
    from ml_pipelines.promotion.retained import referenced_artifacts
    from ml_pipelines.store.artifact_store import ArtifactStore
    from ml_pipelines.store.retention import prune as remove

    settings = _settings(store)
    keep = referenced_artifacts(ConnectedServices(settings).ledger)
    report = remove(ArtifactStore(settings.store), keep_days=keep_days, keep=keep, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    out.print(
        f"{verb} {report.runs} runs, {report.manifests} results, {report.objects} artifacts "
        f"({report.bytes / 1e6:.1f} MB), {report.leftovers} leftovers of dead processes",
        soft_wrap=True,
    )


def _checked(file: Path) -> tuple[PipelineSpec, str]:
    """A training's declaration, and what was not checked, as a line to add to others."""
    from ml_pipelines._utils.imports import import_object
    from ml_pipelines.spec.loader import load_spec

    try:
        return load_spec(str(file), rules=import_object("ml_pipelines.modeling.spec_checks:find_library_issues")), ""
    except MissingExtra as missing:
        told = f"\nEstimators, their parameters and patterns were not checked: {missing.what}."
        return load_spec(str(file)), told


def _settings(store: str | None) -> Settings:
    return Settings.from_environment().at(store)


def _show(settings: Settings, pipeline: str, run_id: str) -> Any:
    from ml_pipelines.runner.run_summary import run_card

    outcome, card = run_card(settings.store, ConnectedServices(settings).ledger, pipeline, run_id)
    out.print(card)
    return outcome
