"""Write the files of a pipeline or a project. No file is overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ml_pipelines.errors import RequestError

__all__ = ["declaration_path", "write_file", "write_pipeline"]

_DAGS = Path("dags")
_DAG_FILE = (
    '"""Training of {name}: an Airflow DAG from the YAML file with the same name."""\n\n'
    "from ml_pipelines_airflow import training_dag\n\n"
    "dag = training_dag(__file__)\n"
)


def declaration_path(folder: Path | None, name: str) -> Path:
    """Return the path of a new declaration: in the folder, by default `dags` of the working directory if it exists.

    Raises:
        RequestError: the folder does not exist, or has a file of this name.
    """
    folder = folder if folder is not None else _DAGS if _DAGS.is_dir() else Path()
    if not folder.is_dir():
        raise RequestError("the folder does not exist", where=str(folder), fix="create it, or pass another --folder")
    path = folder / f"{name}.yaml"
    if path.exists():
        raise _exists(path)
    return path


def write_pipeline(path: Path, declaration: str) -> Iterator[Path]:
    """Write a declaration and, in a folder `dags`, its DAG file. Yields the written paths.

    Args:
        path: of the YAML file.
        declaration: text of the YAML file.

    Raises:
        RequestError: the declaration exists, or can't be written.
    """
    write_file(path, declaration)
    yield path
    dag_file = path.with_suffix(".py")
    # Elsewhere a module with the name of the data could replace one of another package.
    if path.resolve().parent.name == _DAGS.name and not dag_file.exists():
        write_file(dag_file, _DAG_FILE.format(name=path.stem))
        yield dag_file


def write_file(path: Path, text: str) -> None:
    """Write a new file.

    Raises:
        RequestError: the file exists, or can't be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise _exists(path) from exc
    except OSError as exc:
        fix = "correct the path, or its permissions"
        raise RequestError("the file can't be written", where=str(path), got=exc.strerror or str(exc), fix=fix) from exc


def _exists(path: Path) -> RequestError:
    return RequestError("the file exists", where=str(path), fix="remove it, or pass another --name or --folder")
