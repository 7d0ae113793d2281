"""Options, output and progress display that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.escaping import visible
from ml_pipelines.services.settings import Settings

__all__ = [
    "DataRevisionOption",
    "ForceOption",
    "RunIdOption",
    "StoreOption",
    "find_pipeline",
    "new_run_id",
    "out",
    "print_note",
    "print_text",
    "read_settings",
    "step_progress",
]

out = Console(highlight=False, emoji=False)

DataRevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of the data repository.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Compute all steps again, even if they are cached.")]
RunIdOption = Annotated[
    str | None, typer.Option(help="Name of the run. A run with the same name is a retry.  [default: from the time]")
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="URI of the artifact store.  [default: ML_PIPELINES_STORE or ./.ml-pipelines]"),
]


def print_text(text: str) -> None:
    """Print a text without markup, control characters, and line breaks at the width of the terminal."""
    out.print(visible(text, lines=True), markup=False, soft_wrap=True)


def print_note(name: str, text: str, colour: str) -> None:
    """Print a text after a coloured name."""
    out.print(Text.assemble((visible(name), colour), f": {visible(text)}"), soft_wrap=True)


def read_settings(store: str | None = None) -> Settings:
    """Return the settings of the environment, with another artifact store if one is named."""
    return Settings.from_environment().at(store)


def new_run_id() -> str:
    """Return a name for a run that starts now."""
    return f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"


def find_pipeline(store: str, run_id: str) -> str:
    """Return the name of the pipeline that has a run.

    Raises:
        RequestError: no pipeline has a run of this name, or several have one.
    """
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


@contextmanager
def step_progress() -> Iterator[tuple[Callable[[str], None], Callable[[str, StepResult], None]]]:
    """Show the current step. Yields the callbacks `on_start` and `on_done` of the runners."""
    with out.status("") as status:

        def on_start(label: str) -> None:
            status.update(Text(visible(f"{label} ...")))

        def on_done(label: str, result: StepResult) -> None:
            out.print(f"  {visible(label):<40} {result.status:<9} {result.seconds:6.1f} s", markup=False)

        yield on_start, on_done
