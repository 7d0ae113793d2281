"""The same pipeline on the same rows, by a plain script, by this project and by others, in turn on one machine.

make bench                                     everything, from five thousand to ten million rows
make bench SIZES=5k PEERS=plain,ours-cli ROUNDS=5

Every round gives every contestant a new folder, runs it, and runs it again unchanged. Medians go to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks import large_tables
from tests.benchmarks.peers.contestants import BIN, CONTESTANTS, HERE, QUIET, SAMPLE, Contestant, Run, bundle_of
from tests.benchmarks.peers.report import Measured, write

PROJECT = HERE.parents[2]
PLACE = PROJECT / ".workspace" / "bench"
SIZES = {"5k": (5_000, 100), "1m": (1_000_000, 10), "10m": (10_000_000, 0)}  # rows, trees; 0: up to the split
SIDES = {"plain": "pandas", "ours-cli": "ours"}  # of the benchmark of large tables


def main() -> None:
    """Race, and write down how it went."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"of {', '.join(SIZES)}")
    parser.add_argument("--peers", default=",".join(CONTESTANTS), help=f"of {', '.join(CONTESTANTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path, default=PROJECT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    sizes, peers = _reference(arguments.sizes, SIZES), _reference(arguments.peers, CONTESTANTS)
    PLACE.mkdir(parents=True, exist_ok=True)
    absent = {name: reason for name in peers if (reason := _install(CONTESTANTS[name].environment))}
    present = [name for name in peers if name not in absent]
    measured = [item for size in sizes for item in _race(size, present, arguments.rounds)]
    write(arguments.report, measured, {CONTESTANTS[name].title: reason for name, reason in absent.items()})


def _reference(listed: str, choices: Mapping[str, object]) -> list[str]:
    names = listed.split(",")
    if unknown := [name for name in names if name not in choices]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; expected some of {', '.join(choices)}")
    return names


def _install(environment: str | None) -> str | None:
    """Make a contestant's environment; why that can't be done, if it can't."""
    if environment is None:
        return None
    folder, wanted = PLACE / "environments" / environment, HERE / "requirements" / f"{environment}.txt"
    made_of = folder / "made-of"
    if made_of.is_file() and made_of.read_text() == wanted.read_text():
        return None
    _say(f"installing {environment}")
    for command in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder), "--requirements", str(wanted)],
    ):
        done = subprocess.run([str(BIN / "uv"), *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return " ".join(done.stderr.split())[:200]
    made_of.write_text(wanted.read_text())
    return None


def _race(size: str, names: list[str], rounds: int) -> list[Measured]:
    rows, trees = SIZES[size]
    if not trees:
        return _to_the_split(size, [name for name in names if name in SIDES], rounds)
    source, actual = _source(rows), []
    with contextlib.ExitStack() as servers:
        beside = {}
        for name in names:
            if server := CONTESTANTS[name].server:
                _say(f"starting what {CONTESTANTS[name].title} runs on")
                beside[name] = servers.enter_context(server(PLACE))
        for number in range(rounds):
            for name in names:
                folder = PLACE / "runs" / f"{size}-{name}-{number}"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                (folder / "task.json").write_text(json.dumps({"source": str(source), "trees": trees}))
                CONTESTANTS[name].prepare(folder)
                for again in (False, True):
                    seconds, megabytes = _once(CONTESTANTS[name], folder, beside.get(name, {}))
                    actual.append(Measured(CONTESTANTS[name].title, size, again, seconds, megabytes))
                    output = f"{seconds:.2f} s" if seconds is not None else f"failed, see {folder}/log"
                    _say(f"{size}, round {number + 1}, {CONTESTANTS[name].title}{', again' * again}: {output}")
    return actual


def _to_the_split(size: str, names: list[str], rounds: int) -> list[Measured]:
    """A table that a machine may not hold, as far as it need not be held."""
    actual = []
    folder = PLACE / "runs" / size
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    csv = folder / "customers.csv"
    large_tables.measure("generate", str(csv), str(folder), str(SIZES[size][0]))
    for number in range(rounds):
        for name in names:
            title = CONTESTANTS[name].title
            seconds, _, megabytes = dict(large_tables.measure_side(SIDES[name], csv))["all"]
            actual.append(Measured(title, size, False, seconds, megabytes))
            _say(f"{size}, round {number + 1}, {title}: {seconds:.2f} s, {megabytes} MB")
    shutil.rmtree(folder)
    return actual


def _once(contestant: Contestant, folder: Path, beside: Mapping[str, str] | Run) -> tuple[float | None, float | None]:
    """Seconds, and the megabytes of the largest of the processes; None for what is not known."""
    if callable(beside):
        return beside(folder), None
    environment = PLACE / "environments" / str(contestant.environment) / "bin"
    filled = {
        "folder": str(folder),
        "python": str(environment / "python"),
        "bin": str(environment),
        "bundle": bundle_of(folder),
    }
    own = {name: value.format_map(filled) for name, value in contestant.variables.items()}
    foreign = ("AIRFLOW", "MLFLOW", "ML_PIPELINES", "PREFECT", "PYTHON")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with (folder / "log").open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [part.format_map(filled) for part in contestant.command],
            env=clean | QUIET | dict(beside) | own,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    return (seconds, usage.ru_maxrss / 1024) if process.returncode == 0 else (None, None)


def _source(rows: int) -> Path:
    """A CSV file of so many customers: the sample's, drawn again and again, each with a key of its own."""
    import polars as pl

    sample = pl.read_csv(str(SAMPLE), infer_schema_length=None)
    if len(sample) == rows:
        return Path(str(SAMPLE))
    path = PLACE / f"customers-{rows}.csv"
    if not path.exists():
        drawn = sample.sample(rows, with_replacement=True, seed=9)
        keys = pl.int_range(rows).cast(pl.String).str.zfill(9)
        drawn.with_columns(pl.format("C{}", keys).alias("customer_id")).write_csv(path)
    return path


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
