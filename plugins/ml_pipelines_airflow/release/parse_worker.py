"""Parse a folder of DAGs as Airflow does, in a process that does nothing else, and say as JSON what came of it.

Usage: parse.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "parsed"]

# What trains has no place in a DAG file: the DAG processor would import it again for every parse.
HEAVY = (
    *("dvc", "lightgbm", "matplotlib", "mlflow", "numpy", "pandas", "pandera", "polars", "pyarrow", "scipy"),
    *("sklearn", "skops", "tensorflow", "torch", "xgboost"),
)


def main() -> None:
    """Print what `parsed` finds, as the last line."""
    found = parsed(Path(sys.argv[1]))
    sys.stderr.flush()
    print(json.dumps(found), flush=True)


def parsed(folder: Path) -> dict[str, Any]:
    """Every file with its DAGs and seconds, what can't be imported or serialised, and what was loaded too much.

    Returns:
        `files`: a list of `{file, dags, tasks, seconds}`; `faults`: text by file, also of what is declared beside it;
        `heavy`: names of packages.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.file import list_py_file_paths

    before = set(sys.modules)
    every = [Path(path) for path in list_py_file_paths(folder, safe_mode=False)]
    bag = DagBag(dag_folder=str(folder))
    faults = {_name(Path(file), folder): text for file, text in bag.import_errors.items()}
    of_file: dict[str, list[str]] = {}
    for dag in sorted(bag.dags.values(), key=lambda each: str(each.dag_id)):
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
    faults |= _not_serialised(bag, folder) | _without_dags(every, files, faults, folder)
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    faults |= _mistakes(bag, folder)  # last, as it loads what parsing must not
    return {
        "files": sorted(files, key=lambda each: str(each["file"])),
        "faults": faults,
        "heavy": sorted(loaded & set(HEAVY)),
    }


def _not_serialised(bag: Any, folder: Path) -> dict[str, str]:
    """What the DAG processor would find out only when it writes a DAG down."""
    from airflow.serialization.serialized_objects import DagSerialization

    faults = {}
    for dag in bag.dags.values():
        try:
            DagSerialization.to_dict(dag)
        # Whatever it is, Airflow tells it as an import error of the file.
        except Exception as exc:
            faults[_name(Path(dag.fileloc), folder)] = f"{dag.dag_id} can't be serialised: {exc}"
    return faults


def _without_dags(every: list[Path], files: list[Any], faults: dict[str, str], folder: Path) -> dict[str, str]:
    with_dags = {each["file"] for each in files if each["dags"]}
    names = {_name(path, folder) for path in every} - with_dags - set(faults)
    return dict.fromkeys(
        names,
        "there is no DAG in it; Airflow passes over a file without both words, dag and airflow. "
        "Name what is no DAG file in .airflowignore",
    )


def _mistakes(bag: Any, folder: Path) -> dict[str, str]:
    """What a declaration has wrong that only libraries know: a task would find out, and the DAG processor never."""
    from ml_pipelines.errors import MissingExtra, SpecError
    from ml_pipelines.modeling.spec_checks import find_library_issues
    from ml_pipelines.spec.loader import load_spec
    from ml_pipelines_airflow.tasks.training import TASK_IDS, run_task

    faults = {}
    for dag in bag.dags.values():
        declared = Path(dag.fileloc).with_suffix(".yaml")
        ours = getattr(dag.task_dict.get(TASK_IDS["ingest"]), "python_callable", None) is run_task
        if ours and declared.is_file():
            try:
                load_spec(declared, rules=find_library_issues)
            except SpecError as exc:
                faults[_name(Path(dag.fileloc), folder)] = str(exc)
            except MissingExtra:  # scikit-learn is only where tasks run
                break
    return faults


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


if __name__ == "__main__":
    main()
