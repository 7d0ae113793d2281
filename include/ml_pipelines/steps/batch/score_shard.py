"""Score the rows of one shard with the pinned model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import Identity
from ml_pipelines.data.bad_cells import row_reason
from ml_pipelines.data.canonical_keys import inexact_key
from ml_pipelines.data.column_expressions import BAD_CELLS, REASON, column, missing_cell
from ml_pipelines.data.streaming import aggregate, count_rows
from ml_pipelines.errors import DataError, RequestError
from ml_pipelines.evaluation.prediction_columns import prediction_columns
from ml_pipelines.evaluation.target_schema import TargetSchema, validate_predictions
from ml_pipelines.modeling.estimators import estimator_errors
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.modeling.threshold import threshold_of
from ml_pipelines.modeling.user_transform import transform_rows
from ml_pipelines.pipeline.batch_parameters import ScoreShardParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import Services

__all__ = ["resolve", "score_shard"]


def resolve(parameters: ScoreShardParameters, inputs: References, services: Services, identity: Identity) -> Resolution:
    """Return the references of the shard, the model and its training.

    Raises:
        RequestError: the parameters lack one of them.
    """
    candidates = {"shard": parameters.shard, "model": parameters.model, "training": parameters.training}
    references: References = {name: ref for name, ref in candidates.items() if ref is not None}
    if missing := [name for name in candidates if name not in references]:
        raise RequestError(
            f"the parameters of score_shard have no {missing[0]}",
            where="step score_shard",
            expected="references of shard, model and training",
            got=", ".join(references) or "none",
            fix="create the parameters with for_shard",
        )
    return Resolution(inputs=references, values={"shard": parameters.index})


def score_shard(
    *,
    shard: pl.LazyFrame,
    model: Callable[[], Any],
    training: dict[str, Any],
    parameters: ScoreShardParameters,
    seed: int,
) -> StepOutput:
    """Score the valid rows and send the others to quarantine. Every row is in exactly one of the two outputs.

    Args:
        shard: the rows.
        model: loads the model, whose bytes are verified.
        training: record of its training, with the columns that the model needs.
        parameters: the key, and the columns to keep.
        seed: not used.

    Returns:
        `scores`: key, columns to keep, `prediction`, and in a classification `probability` (of the positive class) or
        one `probability_<label>` for each class. `quarantine`: the other rows, unchanged, with their `_reason`.
        Values: `rows`, `scored`, `quarantined`, `quarantined_by_reason`.

    Raises:
        DataError: a column is of another type than in training.
        ModelError: the model fails to predict.
        UserCodeError: the transform fails, or is not that of the training.
    """
    judged = shard.with_columns(_reason(shard.collect_schema(), parameters.key))
    judged, features = _transformed(judged, training.get("transform"))
    counts = dict(aggregate(judged.group_by(REASON).len().sort("len", REASON, descending=[True, False])).rows())
    good = judged.filter(pl.col(REASON).is_null()).drop(REASON, BAD_CELLS, strict=False).collect()
    counts.pop(None, None)
    kept = good.select(column(name) for name in dict.fromkeys([parameters.key, *parameters.keep]))
    scores = kept.hstack(_scores(good if features is None else features, model, training, kept.columns))
    bad = judged.filter(pl.col(REASON).is_not_null())
    quarantined = sum(counts.values())
    return StepOutput(
        outputs={"scores": scores.lazy(), "quarantine": bad},
        values={
            "rows": len(good) + quarantined,
            "scored": len(good),
            "quarantined": quarantined,
            "quarantined_by_reason": counts,
        },
        rows={("quarantine",): quarantined, ("scores", "quarantine"): count_rows(shard)},
    )


def _reason(schema: pl.Schema, key: str) -> pl.Expr:
    """Return why a row goes to quarantine, null for the others: bad cells, the reason of plan_shards, a missing key."""
    reasons = [row_reason()] if BAD_CELLS in schema else []
    reasons += [pl.col(REASON)] if REASON in schema else []
    reasons.append(pl.when(missing_cell(key, schema[key])).then(pl.lit("key is missing")))
    if schema[key].is_float():
        reasons.append(pl.when(inexact_key(key)).then(pl.lit("key is a float that has lost digits")))
    reason = pl.concat_str(*reasons, separator="; ", ignore_nulls=True)
    return pl.when(reason != "").then(reason).alias(REASON)


def _transformed(judged: pl.LazyFrame, transform: Mapping[str, Any] | None) -> tuple[pl.LazyFrame, pl.DataFrame | None]:
    """Add the reason of each row that the transform has no value for, and return the features of the other valid rows.

    Without a transform or valid rows there are no features.
    """
    if transform is None:
        return judged, None
    rows = judged.collect()
    valid = rows[REASON].is_null()
    if not valid.any():
        return judged, None
    result = transform_rows(rows.filter(valid).lazy(), transform)
    reasons = pl.Series([f"{transform['path']} {text}" if text else None for text in result.reasons], dtype=pl.String)
    reason = rows[REASON].scatter(valid.arg_true(), reasons)
    return rows.with_columns(reason).lazy(), result.table.collect().filter(reasons.is_null())


def _scores(
    rows: pl.DataFrame, load: Callable[[], Any], training: dict[str, Any], reserved: Collection[str]
) -> list[pl.Series]:
    target = TargetSchema.of(training, [])
    columns = prediction_columns(*(_predict(target, load, training, rows) if len(rows) else _no_predictions(target)))
    if duplicates := [series.name for series in columns if series.name in reserved]:
        raise DataError(
            f"the column to keep {duplicates[0]!r} has the name of a column of the scores",
            where="output.keep",
            fix="leave it out, or rename it in the data",
        )
    return columns


def _predict(
    target: TargetSchema, load: Callable[[], Any], training: dict[str, Any], rows: pl.DataFrame
) -> tuple[TargetSchema, NDArray[Any]]:
    """Return the predictions, and the target with the threshold of the model."""
    frame = feature_frame(rows.lazy(), training["features"])
    model = load()
    fix = "compare the rows of the shard with those of the training; if they are alike, train the model again"
    with estimator_errors("the model fails to predict", where=training["candidate"], params={}, fix=fix):
        predictions = validate_predictions(target, predict(model, frame, training), len(frame))
    return target.with_threshold(threshold_of(model)), predictions


def _no_predictions(target: TargetSchema) -> tuple[TargetSchema, NDArray[Any]]:
    return target, np.empty((0, len(target.classes)) if target.classes and not target.binary else (0,))
