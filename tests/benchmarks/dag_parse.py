"""What a DAG costs the DAG processor: ours beside a bare one of as many PythonOperators, in turn, in one process.

And what of that is reading the declaration.

.venv/bin/python tests/benchmarks/dag_parse.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

import ml_pipelines_airflow.dag_builders.training  # noqa: F401  imported once by a processor, not per file
from ml_pipelines.spec.loader import load_spec

DAG_FILE = Path(__file__).parents[2] / "dags" / "ml_training_pipeline.py"
ROUNDS = 200

BARE = '''"""A bare Airflow DAG."""
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

with DAG("bare"):
    tasks = [PythonOperator(task_id=f"task_{number}", python_callable=print) for number in range(14)]
    for upstream, downstream in zip(tasks, tasks[1:]):
        upstream >> downstream
'''


def milliseconds(file: str, *, serialise: bool) -> float:
    """CPU time to parse a file, and to serialise its DAG as the DAG processor does next."""
    started = time.process_time()
    bag = DagBag(dag_folder=file, collect_dags=False)
    bag.process_file(file)
    if serialise:
        for dag in bag.dags.values():
            DagSerialization.to_dict(dag)
    assert not bag.import_errors, bag.import_errors
    return (time.process_time() - started) * 1000


def milliseconds_to_read(declaration: str) -> float:
    """CPU time to read and check a declaration."""
    started = time.process_time()
    load_spec(declaration)
    return (time.process_time() - started) * 1000


def main() -> None:
    """Print the least and the median time, and their ratios."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        for serialise in (False, True):
            times: dict[str, list[float]] = {str(DAG_FILE): [], str(bare): []}
            for _ in range(ROUNDS):
                for file, measured in times.items():
                    measured.append(milliseconds(file, serialise=serialise))
            what = "parse and serialise" if serialise else "parse"
            for how in (min, statistics.median):
                ours, other = (how(measured) for measured in times.values())
                ratio = f"ratio {ours / other:.2f}"
                print(f"{what:<20} {how.__name__:<6} ours {ours:5.1f} ms, bare {other:5.1f} ms, {ratio}")
    declaration = str(DAG_FILE.with_suffix(".yaml"))
    reading = [milliseconds_to_read(declaration) for _ in range(ROUNDS)]
    print(f"read the declaration: min {min(reading):.2f} ms, median {statistics.median(reading):.2f} ms")


if __name__ == "__main__":
    main()
