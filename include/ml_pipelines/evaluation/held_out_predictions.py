"""The predictions of a candidate for the validation rows, before it is fitted again with these rows.

The selection of the candidate and its threshold use these predictions, so they come from a model that has not learned
from the validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from ml_pipelines.data.column_expressions import column
from ml_pipelines.errors import DataError
from ml_pipelines.evaluation.target_schema import TargetSchema, encode_labels, validate_predictions
from ml_pipelines.evaluation.threshold import tune_threshold
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.records import TunedThreshold
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.spec.threshold import Threshold

__all__ = ["predict_held_out", "predictions_table", "read_predictions", "require_two_labels", "tune_held_out"]

Array = NDArray[Any]


def require_two_labels(declared: Threshold | None, target: str, labels: int) -> None:
    """Raise DataError if a threshold is declared and the target has not exactly two labels."""
    if declared is not None and labels != 2:
        raise DataError(
            f"threshold needs two labels, and the target {target!r} has {labels}",
            where="threshold",
            expected="two labels",
            got=f"{labels} labels",
            fix="remove threshold, or send the rows of other labels to quarantine",
        )


def predict_held_out(
    model: Pipeline, training: Mapping[str, Any], validation: pl.LazyFrame, *, label: str
) -> tuple[TargetSchema, Array, Array]:
    """Predict the validation rows.

    Args:
        model: the pipeline, fitted on the training rows.
        training: its training record, so far.
        validation: the validation rows.
        label: column of the labels.

    Returns:
        The schema of the target, the encoded labels, and the predictions.

    Raises:
        DataError: there are no rows.
        ModelError: the predictions have the wrong shape, or are not finite.
    """
    labels = validation.select(column(label).alias("values")).collect()["values"].to_list()
    if not labels:
        raise DataError("there are no validation rows", expected="at least one", fix="raise split.validation")
    target = TargetSchema.of(training, labels)
    predicted = predict(model, model_frame(validation, training), training)
    validate_predictions(target, predicted, len(labels))
    return target, encode_labels(target, labels), predicted


def tune_held_out(
    target: TargetSchema, truth: Array, predictions: Array, declared: Threshold | None
) -> TunedThreshold | None:
    """Return the threshold with the best objective on the validation rows; None without a declared one."""
    return tune_threshold(truth, validate_predictions(target, predictions, len(truth)), declared) if declared else None


def predictions_table(predictions: Array) -> pl.LazyFrame:
    """Return predictions of shape (rows,) or (rows, classes) as a table with one column, or one for each class."""
    columns = predictions.reshape(len(predictions), -1).astype(np.float64)
    return pl.LazyFrame({f"prediction_{index}": columns[:, index] for index in range(columns.shape[1])})


def read_predictions(target: TargetSchema, table: pl.LazyFrame, rows: int) -> Array:
    """Return the predictions of a table for `rows` rows, with a column of zeros for each unseen label.

    Raises:
        ModelError: the table does not belong to these rows.
    """
    columns = table.collect().to_numpy()
    of_classes = bool(target.classes) and not target.binary
    return validate_predictions(target, columns if of_classes else columns[:, 0], rows)
