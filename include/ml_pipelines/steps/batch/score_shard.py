"""Score the rows of one shard with the pinned model. The same shard and the same model are scored once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import Identity
from ml_pipelines.data.streaming import BAD_CELLS, REASON, aggregate, missing_expr
from ml_pipelines.errors import DataError, ModelError, PipelineError, RequestError
from ml_pipelines.evaluation.target_schema import THRESHOLD, TargetSchema, validate_predictions
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.pipeline.batch_parameters import ScoreShardParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import Services

__all__ = ["resolve", "score_shard"]


def resolve(parameters: ScoreShardParameters, inputs: References, services: Services, identity: Identity) -> Resolution:
    """The shard and the model, by their digests.

    Raises:
        RequestError: the request does not say which.
    """
    named = {"shard": parameters.shard, "model": parameters.model, "training": parameters.training}
    known: References = {name: ref for name, ref in named.items() if ref is not None}
    if missing := [name for name in named if name not in known]:
        raise RequestError(
            f"step score_shard is not told which {missing[0]}",
            where="step score_shard",
            expected="references of shard, model and training",
            got=", ".join(known) or "none",
            fix="make the parameters with for_shard",
        )
    return Resolution(inputs=known, values={"shard": parameters.index})


def score_shard(
    *,
    shard: pl.LazyFrame,
    model: Callable[[], Any],
    training: dict[str, Any],
    parameters: ScoreShardParameters,
    seed: int,
) -> StepOutput:
    """Score the rows that can be, and set the others aside. Every row is in exactly one of the two.

    Args:
        shard: the rows.
        model: loads the model, whose bytes are verified.
        training: its record; the model gets the columns that it was trained with.
        parameters: the key, and the columns to keep.
        seed: not used.

    Returns:
        `scores`: key, columns to keep, `prediction`, and of a classification `probability` (of the label that counts as
        a hit) or one `probability_<label>` each. `quarantine`: the other rows as they came, with their `_reason`.
        Values: `rows`, `scored`, `quarantined`, `quarantined_by_reason`.

    Raises:
        DataError: a column is of another type than in training.
        ModelError: the model fails to predict.
    """
    schema = shard.collect_schema()
    no_key = pl.when(missing_expr(parameters.key, schema[parameters.key])).then(pl.lit("key is missing"))
    told = [pl.col(BAD_CELLS)] if BAD_CELLS in schema.names() else []
    reasons = pl.concat_str(*told, no_key, separator="; ", ignore_nulls=True)
    judged = shard.with_columns(pl.when(reasons != "").then(reasons).alias(REASON))
    counts = dict(aggregate(judged.group_by(REASON).len().sort("len", REASON, descending=[True, False])).rows())
    good = judged.filter(pl.col(REASON).is_null()).drop(REASON, BAD_CELLS, strict=False).collect()
    assert len(good) == counts.pop(None, 0)
    kept = good.select(*dict.fromkeys([parameters.key, *parameters.keep]))
    scores = kept.hstack(_scores(good.lazy(), len(good), model, training, set(kept.columns)))
    bad = judged.filter(pl.col(REASON).is_not_null()).drop(BAD_CELLS, strict=False)
    quarantined = sum(counts.values())
    return StepOutput(
        outputs={"scores": scores.lazy(), "quarantine": bad},
        values={
            "rows": len(good) + quarantined,
            "scored": len(good),
            "quarantined": quarantined,
            "quarantined_by_reason": counts,
        },
    )


def _scores(
    rows: pl.LazyFrame, count: int, load: Callable[[], Any], training: dict[str, Any], taken: set[str]
) -> list[pl.Series]:
    target = TargetSchema.of(training, [])
    frame = feature_frame(rows, training["features"])
    columns = _columns(target, _predicted(target, load, training, frame) if count else _none(target))
    if clash := [column.name for column in columns if column.name in taken]:
        raise DataError(
            f"a column to keep is called {clash[0]!r}, as a column of the scores is",
            where="output.keep",
            fix="leave it out, or rename it in the data",
        )
    return columns


def _predicted(target: TargetSchema, load: Callable[[], Any], training: dict[str, Any], frame: Any) -> NDArray[Any]:
    model = load()
    try:
        return validate_predictions(target, predict(model, frame, training), len(frame))
    except PipelineError:
        raise
    except Exception as exc:  # an estimator may raise anything
        raise ModelError(
            "the model fails to predict",
            where=training["candidate"],
            got=f"{type(exc).__name__}: {exc}",
            fix="look at the shard's rows; if they are as in training, train the model again",
        ) from exc


def _none(target: TargetSchema) -> NDArray[Any]:
    return np.empty((0, len(target.classes)) if target.classes and not target.binary else (0,))


def _columns(target: TargetSchema, score: NDArray[Any]) -> list[pl.Series]:
    if not target.classes:
        return [pl.Series("prediction", score)]
    labels = pl.Series(target.classes)
    if target.binary:
        other = next(index for index, label in enumerate(target.classes) if label != target.positive)
        best = np.where(score >= THRESHOLD, 1 - other, other)
        return [labels.gather(best).alias("prediction"), pl.Series("probability", score)]
    each = [pl.Series(f"probability_{label}", score[:, index]) for index, label in enumerate(target.classes)]
    return [labels.gather(score.argmax(axis=1)).alias("prediction"), *each]
