"""Parse a folder of DAGs as Airflow does, and print the result as JSON: `parse_worker.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "parse_folder"]

# The DAG processor would import these packages in each parse; only tasks need them.
HEAVY = (
    *(
        "catboost",
        "dvc",
        "lightgbm",
        "matplotlib",
        "mlflow",
        "numpy",
        "pandas",
        "pandera",
        "polars",
        "pyarrow",
        "scipy",
    ),
    *("sklearn", "skops", "tensorflow", "torch", "xgboost"),
)


def main() -> None:
    """Print the result of `parse_folder` as the last line."""
    result = parse_folder(Path(sys.argv[1]))
    sys.stderr.flush()
    print(json.dumps(result), flush=True)


def parse_folder(folder: Path) -> dict[str, Any]:
    """Parse all files of a folder and check their DAGs.

    Returns:
        `files`: a list of `{file, dags, tasks, seconds}`; `faults`: error text by file, including errors of
        declarations; `heavy`: names of imported packages that only tasks need.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.file import list_py_file_paths

    before = set(sys.modules)
    paths = [Path(path) for path in list_py_file_paths(folder, safe_mode=False)]
    bag = DagBag(dag_folder=str(folder))
    faults = {_name(Path(file), folder): text for file, text in bag.import_errors.items()}
    of_file: dict[str, list[str]] = {}
    for dag in sorted(bag.dags.values(), key=lambda dag: str(dag.dag_id)):
        of_file.setdefault(_name(Path(dag.fileloc), folder), []).append(dag.dag_id)
    files = [
        {
            "file": name,
            "dags": of_file.get(name, []),
            "tasks": stat.task_num,
            "seconds": stat.duration.total_seconds(),
        }
        for stat in bag.dagbag_stats
        for name in [stat.file.lstrip("/")]
    ]
    faults |= _not_serialised(bag, folder) | _without_dags(paths, files, faults, folder)
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    faults |= _declaration_errors(bag, folder)  # last, because it imports heavy packages
    return {
        "files": sorted(files, key=lambda row: str(row["file"])),
        "faults": faults,
        "heavy": sorted(loaded & set(HEAVY)),
    }


def _not_serialised(bag: Any, folder: Path) -> dict[str, str]:
    """Return the errors that the DAG processor would report when it stores a DAG."""
    from airflow.serialization.serialized_objects import DagSerialization

    faults = {}
    for dag in bag.dags.values():
        try:
            DagSerialization.to_dict(dag)
        # Airflow reports any exception as an import error of the file.
        except Exception as exc:
            faults[_name(Path(dag.fileloc), folder)] = f"{dag.dag_id} can't be serialised: {exc}"
    return faults


def _without_dags(paths: list[Path], files: list[Any], faults: dict[str, str], folder: Path) -> dict[str, str]:
    with_dags = {row["file"] for row in files if row["dags"]}
    names = {_name(path, folder) for path in paths} - with_dags - set(faults)
    return dict.fromkeys(
        names,
        "the file defines no DAG; Airflow skips a file without both words, dag and airflow. "
        "List files without a DAG in .airflowignore",
    )


def _declaration_errors(bag: Any, folder: Path) -> dict[str, str]:
    """Return errors in declarations that only the ML libraries detect, such as wrong parameters of an estimator."""
    from ml_pipelines.errors import MissingExtra, SpecError
    from ml_pipelines.modeling.spec_checks import find_library_issues
    from ml_pipelines.spec.loader import load_spec
    from ml_pipelines.spec.task_steps import task_of
    from ml_pipelines_airflow.tasks.training import run_steps

    faults = {}
    for dag in bag.dags.values():
        declaration = Path(dag.fileloc).with_suffix(".yaml")
        is_training = getattr(dag.task_dict.get(task_of("ingest")), "python_callable", None) is run_steps
        if is_training and declaration.is_file():
            try:
                load_spec(declaration, rules=find_library_issues)
            except SpecError as exc:
                faults[_name(Path(dag.fileloc), folder)] = str(exc)
            except MissingExtra:  # scikit-learn is installed only on workers
                break
    return faults


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


if __name__ == "__main__":
    main()
