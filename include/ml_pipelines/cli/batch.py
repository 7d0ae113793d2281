"""The commands of batch scoring and drift monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ml_pipelines.cli.common import (
    DataRevisionOption,
    ForceOption,
    RunIdOption,
    StoreOption,
    new_run_id,
    print_text,
    read_settings,
    step_progress,
)
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.services.connected import ConnectedServices

__all__ = ["drift", "score"]


def score(
    file: Annotated[Path, typer.Argument(help="The YAML file that declares the scoring pipeline.", show_default=False)],
    data_revision: DataRevisionOption = None,
    model_version: Annotated[str | None, typer.Option(help="Number or alias of the model version.")] = None,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Number of rows per shard.")] = None,
    force: ForceOption = False,
    run_id: RunIdOption = None,
    store: StoreOption = None,
) -> None:
    """Score a batch in this process, with the same steps and artifacts as in Airflow."""
    from ml_pipelines.runner.batch import run_scoring
    from ml_pipelines.spec.loader import load_scoring

    spec = load_scoring(file)
    settings = read_settings(store)
    with step_progress() as (on_start, on_done):
        result = run_scoring(
            spec,
            ConnectedServices(settings),
            store=settings.store,
            run_id=run_id or new_run_id(),
            options=RunOptions(
                data_revision=data_revision, model_version=model_version, shard_rows=shard_rows, force=force
            ),
            on_start=on_start,
            on_done=on_done,
        )
    summary = "{outcome}: {scored} of {rows} rows scored, {quarantined} quarantined, {failed} in failed shards"
    print_text(summary.format_map(result.values))
    print_text(f"scores      {result.outputs['scores'].uri}")
    if result.values["quarantined"]:
        print_text(f"quarantine  {result.outputs['quarantine'].uri}")


def drift(
    file: Annotated[Path, typer.Argument(help="The YAML file that declares the drift monitor.", show_default=False)],
    model_version: Annotated[
        str | None, typer.Option(help="Number or alias of the model version with the reference data.")
    ] = None,
    force: ForceOption = False,
    store: StoreOption = None,
) -> None:
    """Measure the drift of the last scored batch. Only the DAG triggers a training."""
    from ml_pipelines.runner.batch import run_drift
    from ml_pipelines.spec.loader import load_drift

    spec = load_drift(file)
    settings = read_settings(store)
    result = run_drift(
        spec,
        ConnectedServices(settings),
        store=settings.store,
        run_id=new_run_id(),
        options=RunOptions(model_version=model_version, force=force),
    )
    drifted = result.values["features"] or result.values["predictions"]
    verdict = "drifted" if drifted else "stable" if result.values["judged"] else "not judged"
    reason = str(result.values["reason"]).removeprefix(f"{verdict}: ")
    print_text(f"{verdict}: {reason}")
    print_text(f"report  {result.outputs['report'].uri}")
