"""The commands that score a batch and measure its drift without Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ml_pipelines.contracts import StepResult
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings

__all__ = ["drift", "score"]

out = Console(highlight=False)

StoreOption = Annotated[
    str | None, typer.Option("--store", help="URI of the artifact store; else ML_PIPELINES_STORE or ./.ml-pipelines.")
]


def score(
    file: Annotated[Path, typer.Argument(help="The YAML file that declares the scoring.", show_default=False)],
    data_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the data repository.")] = None,
    model_version: Annotated[str | None, typer.Option(help="Number or alias of the version to score with.")] = None,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Rows of a shard.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute every step again.")] = False,
    run_id: Annotated[str | None, typer.Option(help="Name of the run; the same name again is a retry.")] = None,
    store: StoreOption = None,
) -> None:
    """Score a batch in this process: the same steps as in Airflow, the same artifacts, the same scores."""
    from ml_pipelines.runner.batch import run_scoring
    from ml_pipelines.spec.loader import load_scoring

    spec = load_scoring(file)
    settings = Settings.from_environment().at(store)
    with out.status("") as status:

        def on_done(label: str, result: StepResult) -> None:
            out.print(f"  {label:<40} {result.status:<9} {result.seconds:6.1f} s", markup=False)

        result = run_scoring(
            spec,
            ConnectedServices(settings),
            store=settings.store,
            run_id=run_id or f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
            options=RunOptions(
                data_revision=data_revision, model_version=model_version, shard_rows=shard_rows, force=force
            ),
            on_start=lambda label: status.update(escape(f"{label} ...")),
            on_done=on_done,
        )
    told = "{outcome}: {scored} of {rows} rows scored, {quarantined} set aside, {failed} in shards that failed"
    out.print(told.format_map(result.values), markup=False, soft_wrap=True)
    out.print(f"scores      {result.outputs['scores'].uri}", markup=False, soft_wrap=True)
    if result.values["quarantined"]:
        out.print(f"quarantine  {result.outputs['quarantine'].uri}", markup=False, soft_wrap=True)


def drift(
    file: Annotated[Path, typer.Argument(help="The YAML file that declares the watch.", show_default=False)],
    model_version: Annotated[
        str | None, typer.Option(help="Number or alias of the version whose training is compared with.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute it again.")] = False,
    store: StoreOption = None,
) -> None:
    """Measure how far the last scored batch has drifted; calls for no training, which is for the DAG to do."""
    from ml_pipelines.runner.batch import run_drift
    from ml_pipelines.spec.loader import load_drift

    spec = load_drift(file)
    settings = Settings.from_environment().at(store)
    result = run_drift(
        spec,
        ConnectedServices(settings),
        store=settings.store,
        run_id=f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
        options=RunOptions(model_version=model_version, force=force),
    )
    drifted = result.values["features"] or result.values["predictions"]
    verdict = "drifted" if drifted else "stable" if result.values["judged"] else "not judged"
    reason = str(result.values["reason"]).removeprefix(f"{verdict}: ")
    out.print(f"{verdict}: {reason}", markup=False, soft_wrap=True)
    out.print(f"report  {result.outputs['report'].uri}", markup=False, soft_wrap=True)
