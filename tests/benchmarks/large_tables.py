"""Compare time and peak memory of the steps up to the split with pandas, each step in a fresh process.

The column `seconds` is wall time, `busy` is processor time, which is more reliable on a busy machine.

.venv/bin/python tests/benchmarks/large_tables.py --rows 1000000 10000000
.venv/bin/python tests/benchmarks/large_tables.py --rows 30000000 --only ours --folder /somewhere/with/space
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OURS = ("ingest", "check_quality", "preprocess", "split")
PANDAS = ("read and write Parquet", "quality", "preprocess", "split")
SIDES = {"pandas": PANDAS, "ours": OURS}
_BATCH_ROWS = 500_000


def generate(path: Path, rows: int) -> None:
    """Write customers as CSV, about 105 bytes a row: 12 columns of all types, some cells missing."""
    import numpy as np
    import polars as pl

    with path.open("wb") as file:
        for start in range(0, rows, _BATCH_ROWS):
            count = min(_BATCH_ROWS, rows - start)
            rng = np.random.default_rng(start)
            amount = rng.gamma(2.0, 40.0, count)
            batch = pl.DataFrame(
                {
                    "customer_id": [f"C{number:09}" for number in range(start, start + count)],
                    "signed_up": (np.datetime64("2019-01-01") + rng.integers(0, 2500, count)).astype("datetime64[D]"),
                    "last_seen": np.datetime64("2026-01-01T00:00:00", "us")
                    + (rng.integers(0, 2 * 10**7, count) * 10**6),
                    "country": rng.choice(["DE", "FR", "IT", "PL", "ES", "AT"], count),
                    "plan": rng.choice(["basic", "standard", "premium"], count),
                    "amount": np.where(rng.random(count) < 0.02, np.nan, amount.round(2) + 0.01),
                    "score": np.where(rng.random(count) < 0.02, np.nan, rng.random(count)),
                    "balance": rng.normal(0, 1000, count).round(2),
                    "visits": rng.integers(0, 500, count),
                    "age": rng.integers(18, 90, count),
                    "active": rng.random(count) < 0.7,
                    "label": (amount + rng.normal(0, 40, count) > 150).astype(int),
                }
            )
            batch.with_columns(pl.col("amount", "score").fill_nan(None)).write_csv(
                file, include_header=start == 0, datetime_format="%Y-%m-%dT%H:%M:%S"
            )


def our_step(step: str, csv: Path, folder: Path) -> None:
    """Run a step on the results of the earlier steps in a folder, as a container does."""
    from ml_pipelines.contracts import Identity, StepRequest, StepResult
    from ml_pipelines.pipeline.training import TRAINING_STEPS
    from ml_pipelines.pipeline.wiring import upstream_steps, wire_inputs
    from ml_pipelines.runner.step import run_step
    from ml_pipelines.runner.training import step_parameters
    from ml_pipelines.services.connected import ConnectedServices
    from ml_pipelines.services.settings import Settings
    from ml_pipelines.spec.training import PipelineSpec

    spec = PipelineSpec.model_validate(
        {
            "name": "large",
            "model": {"name": "large", "task": "classification"},
            "data": {
                "file": {"path": str(csv)},
                "key": "customer_id",
                "target": "label",
                "columns": {"amount": {"type": "float", "above": 0, "on_fail": "quarantine"}},
            },
            "candidates": [{"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}],
            "gate": {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}},
        }
    )
    results: dict[str, Any] = {
        name: StepResult.model_validate_json(path.read_bytes())
        for name in upstream_steps(step)
        if (path := folder / f"{name}.json").exists()
    }
    request = StepRequest(
        step=step,
        parameters=step_parameters(spec, step).model_dump(mode="json"),
        **wire_inputs(TRAINING_STEPS[step], results),
        seed=spec.seed,
        store=f"file://{folder}/store",
        identity=Identity(pipeline="large", run_id="one", task_id=step),
        force=True,
    )
    settings = Settings.from_environment(
        os.environ
        | {
            "ML_PIPELINES_STORE": request.store,
            "MLFLOW_TRACKING_URI": "sqlite://",
            "ML_PIPELINES_LEDGER": f"sqlite:///{folder}/ledger.db",
        }
    )
    result = run_step(request, ConnectedServices(settings))
    (folder / f"{step}.json").write_text(result.model_dump_json())


def pandas_step(step: str, csv: Path, folder: Path) -> None:
    """Do the same as a pandas script, with the whole table in memory."""
    import numpy as np
    import pandas as pd

    if step == "read and write Parquet":
        table = pd.read_csv(csv, parse_dates=["signed_up", "last_seen"])
        table.to_parquet(folder / "raw.parquet")
    elif step == "quality":
        table = pd.read_parquet(folder / "raw.parquet")
        table.isna().mean(), table.nunique() > 1, table["customer_id"].duplicated().sum(), (table["amount"] <= 0).sum()
    elif step == "preprocess":
        table = pd.read_parquet(folder / "raw.parquet")
        bad = (table["amount"] <= 0) | table["label"].isna()
        table[~bad].to_parquet(folder / "clean.parquet")
        table[bad].to_parquet(folder / "quarantine.parquet")
    else:
        table = pd.read_parquet(folder / "clean.parquet")
        draw = np.random.default_rng(1).random(len(table))
        for name, low, high in (("test", 0, 0.2), ("validation", 0.2, 0.35), ("train", 0.35, 1)):
            table[(draw >= low) & (draw < high)].to_parquet(folder / f"{name}.parquet")


def measure_side(side: str, csv: Path) -> Iterator[tuple[str, tuple[float, float, int]]]:
    """Yield each step of a side with the result of :func:`measure`, and the sum of all steps as `all`."""
    results = []
    for step in SIDES[side]:
        results.append(measure(f"{side}:{step}", str(csv), str(csv.parent), "0"))
        yield step, results[-1]
    seconds, busy, peaks = zip(*results, strict=True)
    yield "all", (sum(seconds), sum(busy), max(peaks))


def measure(*task: str) -> tuple[float, float, int]:
    """Return wall seconds, processor seconds and peak megabytes of a task in a new process, without the imports."""
    command = [sys.executable, __file__, "--task", *task]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, busy, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, busy, peak


def run_task(name: str, csv: str, folder: str, rows: str) -> None:
    """Run a task in the process of :func:`measure` and print the result."""
    side, _, step = name.partition(":")
    if side == "generate":
        generate(Path(csv), int(rows))
    else:
        import pandas  # noqa: F401
        import polars  # noqa: F401

    started, busy = time.perf_counter(), time.process_time()
    if side == "ours":
        our_step(step, Path(csv), Path(folder))
    elif side == "pandas":
        pandas_step(step, Path(csv), Path(folder))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    # Kilobytes, but bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(json.dumps([seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--only", choices=["ours", "pandas"], default=None)
    parser.add_argument("--folder", default=None, help="parent folder of the tables, which are removed at the end")
    parser.add_argument("--task", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run_task(*options.task)
        return
    print(f"{'rows':>11} {'side':<7} {'step':<24} {'seconds':>8} {'busy':>8} {'peak MB':>8}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            csv = Path(name, "customers.csv")
            measure("generate", str(csv), name, str(rows))
            for side in SIDES:
                if options.only in (None, side):
                    for step, (seconds, busy, peak) in measure_side(side, csv):
                        print(f"{rows:>11,} {side:<7} {step:<24} {seconds:>8.2f} {busy:>8.2f} {peak:>8}", flush=True)


if __name__ == "__main__":
    main()
