"""The commands that create a first declaration and an empty project."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from ml_pipelines.cli.common import StoreOption, out, print_text, read_settings
from ml_pipelines.escaping import visible
from ml_pipelines.reporting.findings import findings_table
from ml_pipelines.services.connected import ConnectedServices

if TYPE_CHECKING:
    from ml_pipelines.scaffolding.draft import Draft

__all__ = ["init", "new"]


def init(
    data: Annotated[
        str, typer.Argument(help="A CSV or Parquet file, its URI, a query or a path in DVC.", show_default=False)
    ],
    target: Annotated[str, typer.Option(help="Column to predict.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="Name of pipeline, model and file.  [default: that of the data]")
    ] = None,
    task: Annotated[
        Literal["classification", "regression"] | None,
        typer.Option(help="What the model predicts.  [default: by the target]"),
    ] = None,
    sql: Annotated[str | None, typer.Option(help="DATA is a query: name of the connection that runs it.")] = None,
    dvc: Annotated[str | None, typer.Option(help="DATA is tracked by DVC: its git repository.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the declaration.  [default: dags if it exists, else .]")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write the declaration without a question.")] = False,
    store: StoreOption = None,
) -> None:
    """Write a first declaration for a table: types, key, split, metric and checks, each with its reason.

    The first steps of a run verify it. No file is overwritten.
    """
    from ml_pipelines.scaffolding import files
    from ml_pipelines.scaffolding.draft import DraftRequest, draft_declaration
    from ml_pipelines.scaffolding.sources import declare_source, pipeline_name

    section = declare_source(data, sql=sql, dvc=dvc)
    path = files.declaration_path(folder, pipeline_name(data, name, is_query=sql is not None))
    request = DraftRequest(section=section, target=target, path=path, task=task)
    with _stages() as (on_stage, on_rows):
        services = ConnectedServices(read_settings(store))
        draft = draft_declaration(request, services, on_stage=on_stage, on_rows=on_rows)
    _show_choices(draft)
    if draft.report.findings:
        out.print(Text("\nfindings", style="bold"))
        out.print(findings_table(draft.report.findings))
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Write {path}?", default=True, abort=True)
    for written in files.write_pipeline(path, draft.text):
        print_text(f"wrote {written}")
    print_text(f"next: ml-pipelines run {shlex.quote(str(path))}")


@contextmanager
def _stages() -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """Show the current work and the number of rows. Yields the callbacks `on_stage` and `on_rows` of a draft."""
    rows, stage = 0, ""
    with out.status("") as status:

        def show() -> None:
            status.update(Text(visible(f"{stage} ... {rows:,} rows" if rows else f"{stage} ...")))

        def on_stage(text: str) -> None:
            nonlocal rows, stage
            rows, stage = 0, text
            show()

        def on_rows(count: int) -> None:
            nonlocal rows
            rows += count
            show()

        yield on_stage, on_rows


def _show_choices(draft: Draft) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("Key", "Choice", "Reason"):
        table.add_column(title, overflow="fold")
    for choice in draft.choices:
        table.add_row(*(Text(visible(text)) for text in choice))
    out.print(table)


def new(folder: Annotated[Path, typer.Argument(help="A new or empty folder.", show_default=False)]) -> None:
    """Create an empty project: folders for DAGs, plugins and tests, with a test that imports all DAGs."""
    from ml_pipelines.scaffolding.project import create_project

    for path in create_project(folder):
        print_text(f"wrote {path}")
    print_text(f"next: cd {shlex.quote(str(folder))} && git init && ml-pipelines init DATA --target COLUMN")
