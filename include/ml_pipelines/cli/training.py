"""The commands that validate a declaration, run a training and show a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ml_pipelines._utils.process import user_name
from ml_pipelines.cli.common import (
    DataRevisionOption,
    ForceOption,
    RunIdOption,
    StoreOption,
    find_pipeline,
    new_run_id,
    out,
    print_text,
    read_settings,
    step_progress,
)
from ml_pipelines.contracts import Promote
from ml_pipelines.errors import MissingExtra, ModelError, SpecError
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.training import PipelineSpec

__all__ = ["run", "show", "validate"]

SpecFile = Annotated[Path, typer.Argument(help="The YAML file that declares the pipeline.", show_default=False)]


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
    until: Annotated[
        str | None, typer.Option(help="End after this step, such as evaluate. Registers and records nothing.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Run again after each change of the files, by default until evaluate."),
    ] = False,
) -> None:
    """Run a training pipeline in this process, with the same steps and artifacts as in Airflow."""
    from ml_pipelines.runner.training import run_pipeline

    if watch:
        until = until or "evaluate"
    if until is not None:
        _check_until(until, conflicts=approve or require_promotion)
    settings = read_settings(store)
    if watch:
        from ml_pipelines.cli.watch import watch_training

        if force or run_id is not None:
            raise typer.BadParameter("--force and --run-id have no effect with it", param_hint="--watch")
        watch_training(file, settings.store, _arguments(str(until), candidate or [], data_revision))
        return
    spec = _load_runnable(file, settings.store)
    run_id = run_id or new_run_id()
    with step_progress() as (on_start, on_done):
        results = run_pipeline(
            spec,
            ConnectedServices(settings),
            store=settings.store,
            run_id=run_id,
            options=RunOptions(
                data_revision=data_revision, candidates=tuple(candidate or ()), promote=promote, force=force
            ),
            approve=lambda decision: user_name() if approve else None,
            until=until,
            on_start=on_start,
            on_done=on_done,
        )
    if until is not None:
        from ml_pipelines.runner.partial_summary import partial_run_card

        out.print(partial_run_card(spec, settings.store, run_id, until, results))
        return
    outcome = _show(settings, spec.name, run_id)
    if require_promotion and outcome != "promoted":
        raise typer.Exit(3)


def _arguments(until: str, candidates: list[str], data_revision: str | None) -> list[str]:
    """Return the arguments of each run with `--watch`."""
    names = [word for name in candidates for word in ("--candidate", name)]
    return ["--until", until, *names, *(["--data-revision", data_revision] if data_revision else [])]


def _check_until(until: str, *, conflicts: bool) -> None:
    from ml_pipelines.pipeline.step_table import require_last_step

    if conflicts:
        raise typer.BadParameter(
            "a partial run promotes no model, so --approve and --require-promotion have no effect",
            param_hint="--until",
        )
    require_last_step(until)


def _load_runnable(file: Path, store: str) -> PipelineSpec:
    """Return a declaration whose candidates can be built."""
    from ml_pipelines.runner.training import validate_candidates
    from ml_pipelines.spec.loader import load_spec

    try:
        spec = load_spec(str(file))
        validate_candidates(spec, store)
    except (SpecError, ModelError):
        _load_checked(file)  # reports all issues with their lines
        raise
    return spec


def show(
    run_id: Annotated[str, typer.Argument(help="Name of the run.", show_default=False)],
    pipeline: Annotated[
        str | None, typer.Option(help="Name of the pipeline, if several pipelines have a run of this name.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Show the decision card of a run."""
    settings = read_settings(store)
    _show(settings, pipeline or find_pipeline(settings.store, run_id), run_id)


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
