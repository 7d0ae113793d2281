"""The command that exports a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ml_pipelines.cli.common import StoreOption, find_pipeline, out, print_text, read_settings
from ml_pipelines.errors import RequestError
from ml_pipelines.escaping import visible
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["export"]

_LATEST = "latest"


def export(
    run_id: Annotated[
        str,
        typer.Argument(help="Name of the run, or `latest` for the last run with an evaluation.", show_default=False),
    ],
    to: Annotated[Path | None, typer.Option(help="New folder for the files.  [default: PIPELINE-RUN]")] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Name of the pipeline, if several pipelines have a run of this name.")
    ] = None,
    code: Annotated[
        Path | None, typer.Option(help="Folder of the declaration, if the model uses code beside it.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write the split, the predictions, the model and the report of a run into a new folder.

    The digests of all files are verified first. Nothing is overwritten.
    """
    from ml_pipelines.runner.export import export_run
    from ml_pipelines.spec.code_folder_import import use_code_folder

    settings = read_settings(store)
    pipeline, run_id = _find_run(settings.store, run_id, pipeline)
    if code is not None:
        use_code_folder(code)
    folder = to or Path(f"{pipeline}-{run_id}".replace("/", "-").replace(":", "-"))
    files = export_run(settings.store, ConnectedServices(settings), pipeline, run_id, folder)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("file", "content"):
        table.add_column(title, overflow="fold")
    for title in ("rows", "columns"):
        table.add_column(title, justify="right")
    for file in files:
        sizes = ["" if number is None else f"{number:,}" for number in (file.rows, file.columns)]
        table.add_row(file.name, Text(visible(file.content)), *sizes)
    print_text(f"run {run_id} of {pipeline}: wrote {folder}")
    out.print(table)


def _find_run(store: str, run_id: str, pipeline: str | None) -> tuple[str, str]:
    if run_id != _LATEST:
        return pipeline or find_pipeline(store, run_id), run_id
    run = ArtifactStore(store).latest_run("evaluate", pipeline)
    if run is None:
        raise RequestError(
            "no run has an evaluation",
            where=store,
            expected="a run that evaluated its candidates",
            fix="run a pipeline first, or pass another --store",
        )
    return run
