"""Tune the threshold of a candidate on the validation rows, and make it part of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from sklearn.pipeline import Pipeline

from ml_pipelines.data.column_expressions import column
from ml_pipelines.errors import DataError
from ml_pipelines.evaluation.target_schema import TargetSchema, encode_labels, validate_predictions
from ml_pipelines.evaluation.threshold import tune_threshold
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.records import TunedThreshold
from ml_pipelines.modeling.threshold import with_threshold
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.spec.threshold import Threshold

__all__ = ["require_two_labels", "tune_model"]


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


def tune_model(
    model: Pipeline,
    training: Mapping[str, Any],
    declared: Threshold | None,
    *,
    validation: pl.LazyFrame | None,
    label: str,
) -> tuple[Pipeline, TunedThreshold | None]:
    """Return the model with the tuned threshold; the model itself without a declared one.

    Args:
        model: the fitted pipeline.
        training: the training record, so far.
        declared: the objective of the threshold.
        validation: the validation rows; None without a declared threshold.
        label: column of the labels.
    """
    if declared is None or validation is None:
        return model, None
    labels = validation.select(column(label).alias("values")).collect()["values"].to_list()
    if not labels:
        raise DataError(
            "there are no validation rows to tune the threshold on", fix="raise split.validation, or add rows"
        )
    target = TargetSchema.of(training, labels)
    predicted = predict(model, model_frame(validation, training), training)
    probabilities = validate_predictions(target, predicted, len(labels))
    tuned = tune_threshold(encode_labels(target, labels), probabilities, declared)
    return with_threshold(model, tuned.value, training["positive"]), tuned
