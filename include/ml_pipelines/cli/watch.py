"""Run a training again whenever one of its files changes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ml_pipelines.cli import warm_process
from ml_pipelines.cli.common import new_run_id, out, print_note, print_text
from ml_pipelines.errors import MissingExtra, PipelineError
from ml_pipelines.runner.run_difference import RunFigures, read_figures, run_difference
from ml_pipelines.runner.watched_files import Stamps, file_stamps, watched_files
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["watch_training"]

_CHECK_MILLISECONDS = 30_000  # also a file system without events is noticed
_DEBOUNCE_MILLISECONDS = 400
_END_SECONDS = 20.0


def watch_training(file: Path, store: str, arguments: Sequence[str]) -> None:
    """Run a training now and after each change of its declaration, user code or local data, until Ctrl-C.

    Each run has its own process, which imports the user code again. An error of a run is printed, and the next change
    starts another run.

    Args:
        file: the declaration.
        store: URI of the artifact store.
        arguments: further arguments of `ml-pipelines run`.

    Raises:
        MissingExtra: the package that waits for changes is not installed.
    """
    _require_watchfiles()
    watched = _Watched(file)
    before: RunFigures | None = None
    with suppress(KeyboardInterrupt), _sigterm_as_interrupt():
        process = warm_process.start()
        try:
            for number, stamps in enumerate(watched.changes(), start=1):
                run_id = f"{new_run_id()}__{number}"
                before = before or _latest(store, watched.spec)
                command = ["run", str(file), "--store", store, "--run-id", run_id, *arguments]
                code = warm_process.run_command(process, command)
                process = warm_process.start()
                if code == 0 and watched.spec is not None:
                    before = _show_difference(store, watched.spec, run_id, before)
                print_text(f"waiting for a change of {len(stamps)} files; Ctrl-C ends")
        finally:
            _end(process)


class _Watched:
    """The declaration and its files. A declaration with errors leaves the earlier files watched."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.spec: PipelineSpec | None = None
        self.files = frozenset({file.parent.resolve() / file.name})

    def changes(self) -> Iterator[Stamps]:
        """Yield the stamps of the files now, and after each change."""
        stamps = self._read()
        while True:
            yield stamps
            earlier, stamps = stamps, self._wait(stamps)
            print_text(f"\nchanged: {', '.join(sorted(_changed(earlier, stamps)))}")

    def _read(self) -> Stamps:
        with suppress(PipelineError):  # the run reports it
            self.spec = load_spec(self.file)
            self.files = watched_files(self.file, self.spec)
        return file_stamps(self.files)

    def _wait(self, stamps: Stamps) -> Stamps:
        """Return the stamps of the files after the next change."""
        from watchfiles import watch

        if file_stamps(self.files) != stamps:  # a change during the run
            return self._read()
        names = {path.name for path in self.files}
        for _ in watch(
            *{_existing_folder(path) for path in self.files},
            watch_filter=lambda _, path: Path(path).name in names,
            recursive=False,
            debounce=_DEBOUNCE_MILLISECONDS,
            rust_timeout=_CHECK_MILLISECONDS,
            yield_on_timeout=True,
        ):
            if file_stamps(self.files) != stamps:
                return self._read()
        return stamps


def _changed(before: Stamps, after: Stamps) -> set[str]:
    return {path.name for path in after if after[path] != before.get(path)} | {
        path.name for path in before if path not in after
    }


def _existing_folder(path: Path) -> Path:
    return next(folder for folder in path.parents if folder.is_dir())


def _latest(store: str, spec: PipelineSpec | None) -> RunFigures | None:
    """Return the figures of the last run with an evaluation."""
    if spec is None:
        return None
    artifacts = ArtifactStore(store)
    run = artifacts.latest_run("evaluate", spec.name)
    return read_figures(artifacts, *run) if run else None


def _show_difference(store: str, spec: PipelineSpec, run_id: str, before: RunFigures | None) -> RunFigures:
    after = read_figures(ArtifactStore(store), spec.name, run_id)
    out.print(f"difference to {before.run_id}" if before else "no earlier run", style="bold", markup=False)
    for label, text in run_difference(before, after):
        print_note(f"  {label}", text, "cyan")
    return after


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process: one that waits by its standard input, one that runs by an interrupt."""
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the watch as Ctrl-C does."""
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _require_watchfiles() -> None:
    from importlib.util import find_spec

    if find_spec("watchfiles") is None:
        raise MissingExtra(
            "the package 'watchfiles' is not installed",
            where="ml-pipelines run --watch",
            fix='install the extra that provides it: pip install "airflow-provider-ml-pipelines[watch]"',
        )
