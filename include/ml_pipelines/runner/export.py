"""Export the artifacts of a run into a new folder: split, predictions, model and report."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.streaming import count_rows
from ml_pipelines.errors import ArtifactMissing, RequestError
from ml_pipelines.escaping import escape_markdown
from ml_pipelines.evaluation.held_out_predictions import read_predictions
from ml_pipelines.evaluation.prediction_columns import prediction_columns
from ml_pipelines.evaluation.target_schema import TargetSchema, validate_predictions
from ml_pipelines.modeling.estimators import estimator_errors
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.serialization import load_model
from ml_pipelines.modeling.threshold import threshold_of
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.ports import Services
from ml_pipelines.runner.run_artifacts import RunArtifacts, find_run_artifacts, missing_artifact
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["ExportedFile", "export_run"]

_PREDICTED = ("validation", "test")
_README = "README.md"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file of an export. `rows` and `columns` are those of a table."""

    name: str
    content: str
    rows: int | None = None
    columns: int | None = None


def export_run(store: str, services: Services, pipeline: str, run_id: str, folder: Path) -> list[ExportedFile]:
    """Write split, predictions, model and report of a run into a new folder.

    The digests of all artifacts are verified first. The folder appears with all its files, or not at all.

    Args:
        store: URI of the artifact store.
        services: the services with the ledger.
        pipeline: name of the pipeline.
        run_id: name of the run.
        folder: the folder to create.

    Raises:
        RequestError: the folder exists or can't be written, or the run did not evaluate its candidates.
        ArtifactMissing: an artifact was removed from the store.
        ArtifactCorrupt: an artifact was changed after it was stored.
        PipelineError: the model fails to predict.
    """
    _require_new(folder)
    artifacts = ArtifactStore(store)
    run = find_run_artifacts(artifacts, services.ledger, pipeline, run_id)
    with artifacts.scratch() as scratch:
        parts = {part: _verified(artifacts, ref, scratch, f"the {part} table", run) for part, ref in run.parts.items()}
        model = _verified(artifacts, run.model, scratch, "the model", run)
        report = _verified(artifacts, run.report, scratch, "the report", run) if run.report else None
        held_out = _verified(artifacts, run.predictions, scratch, "the predictions", run)
        predictions = _predictions(run, parts, artifacts.read(run.model), held_out)
        with _new_folder(folder) as staging:
            files = [_copy_table(parts[part], staging, part, run.parts[part]) for part in parts]
            files.append(_write_predictions(predictions, staging))
            files.append(_copy(model, staging, f"model{model.suffix}", f"model of the candidate {run.winner}"))
            if report:
                files.append(_copy(report, staging, "report.html", "report of the run"))
            files.append(_write_readme(run, files, staging))
    return files


def _verified(store: ArtifactStore, ref: ArtifactRef, scratch: str, name: str, run: RunArtifacts) -> Path:
    """Return the path of an artifact whose bytes have the recorded digest."""
    try:
        return Path(store.local_path(ref, scratch))
    except ArtifactMissing as exc:
        raise missing_artifact(exc, name, run.run_id) from exc


def _predictions(run: RunArtifacts, parts: dict[str, Path], model: bytes, held_out: Path) -> pl.DataFrame:
    """Return the predictions of the selected candidate that its evaluation uses.

    Those for the validation rows are of the model before a refit on these rows. The columns are the part, the columns
    of the data that are no input of the model, and the predictions.
    """
    estimator = load_model(model)
    target = TargetSchema.of(run.training, []).with_threshold(threshold_of(estimator))
    validation, test = (pl.scan_parquet(parts[part], glob=False) for part in _PREDICTED)
    before = read_predictions(target, pl.scan_parquet(held_out, glob=False), count_rows(validation))
    scored = {"validation": (validation, before), "test": (test, _predict(run, estimator, target, test))}
    tables = [_table(run, part, table, prediction_columns(target, score)) for part, (table, score) in scored.items()]
    return pl.concat(tables, how="vertical_relaxed")


def _predict(run: RunArtifacts, estimator: Any, target: TargetSchema, table: pl.LazyFrame) -> NDArray[Any]:
    frame = model_frame(table, run.training)
    fix = "install the versions of the packages that the training record lists"
    with estimator_errors("the model fails to predict", where=run.winner, params={}, fix=fix):
        return validate_predictions(target, predict(estimator, frame, run.training), len(frame))


def _table(run: RunArtifacts, part: str, table: pl.LazyFrame, predictions: list[pl.Series]) -> pl.DataFrame:
    rows = table.select(column(name) for name in _other_columns(table, run.training)).collect()
    columns = [pl.Series("part", [part] * len(predictions[0]), dtype=pl.String), *predictions]
    first, *others = (series.alias(_free_name(series.name, rows.columns)) for series in columns)
    return pl.DataFrame([first, *rows, *others])


def _other_columns(table: pl.LazyFrame, training: dict[str, Any]) -> list[str]:
    """Return the columns that the model does not read, such as key and target."""
    transform = training.get("transform")
    inputs = {feature["name"] for feature in (transform["inputs"] if transform else training["features"])}
    return [name for name in table.collect_schema().names() if name not in inputs]


def _free_name(name: str, taken: list[str]) -> str:
    """Return the name, with `_` after it until no column of the data has it."""
    while name in taken:
        name += "_"
    return name


def _copy_table(path: Path, folder: Path, part: str, ref: ArtifactRef) -> ExportedFile:
    columns = len(pl.scan_parquet(path, glob=False).collect_schema())
    name = f"{part}.parquet"
    shutil.copyfile(path, folder / name)
    return ExportedFile(name, f"{part} rows of the split", ref.rows, columns)


def _write_predictions(predictions: pl.DataFrame, folder: Path) -> ExportedFile:
    name = "predictions.parquet"
    predictions.write_parquet(folder / name)
    content = f"predictions of the model for the {' and '.join(_PREDICTED)} rows"
    return ExportedFile(name, content, len(predictions), predictions.width)


def _copy(path: Path, folder: Path, name: str, content: str) -> ExportedFile:
    shutil.copyfile(path, folder / name)
    return ExportedFile(name, content)


def _write_readme(run: RunArtifacts, files: list[ExportedFile], folder: Path) -> ExportedFile:
    lines = [
        f"# Run {escape_markdown(run.run_id)} of {escape_markdown(run.pipeline)}",
        "",
        "| File | Content | Rows | Columns |",
        "|---|---|---|---|",
        *(
            f"| {file.name} | {escape_markdown(file.content)} | {_count(file.rows)} | {_count(file.columns)} |"
            for file in files
        ),
        "",
    ]
    if run.report is None:
        lines += ["The run has no report, because it ended before its decision.", ""]
    (folder / _README).write_text("\n".join(lines), encoding="utf-8")
    return ExportedFile(_README, "this table")


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _require_new(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise _exists(folder)


def _exists(folder: Path) -> RequestError:
    return RequestError(
        "the folder of the export exists",
        where=str(folder),
        expected="a folder that does not exist",
        fix="pass another folder with --to; an export overwrites nothing",
    )


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes the new one at the end; an error removes it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-", ignore_cleanup_errors=True) as temporary:
            staging = Path(temporary, folder.name)
            staging.mkdir()
            yield staging
            folder.mkdir()  # fails if another process has created it
            staging.replace(folder)  # replaces only the empty folder
    except FileExistsError as exc:
        raise _exists(folder) from exc
    except (OSError, ValueError) as exc:
        got = getattr(exc, "strerror", None) or str(exc)
        raise RequestError(
            "the export can't be written",
            where=str(folder),
            expected="a folder that this process can create",
            got=got,
            fix="pass another folder with --to, or correct its permissions",
        ) from exc
