"""Join the scores of all shards into one table, if enough rows have a score and no row is lost."""

from __future__ import annotations

import polars as pl

from ml_pipelines.contracts import Identity, JsonValue
from ml_pipelines.data.column_expressions import REASON
from ml_pipelines.data.streaming import aggregate, count_rows
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import CollectScoresParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import Services

__all__ = ["collect_scores", "resolve"]

_MAX_LISTED_SHARDS = 20


def resolve(
    parameters: CollectScoresParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """Return the references of the tables of the shards that did not fail, and the numbers of these shards."""
    return Resolution(
        inputs={
            "scores": tuple(shard.scores for shard in parameters.done),
            "quarantines": tuple(shard.quarantine for shard in parameters.done),
        },
        key_facts={"done": [shard.index for shard in parameters.done]},
    )


def collect_scores(
    *, scores: list[pl.LazyFrame], quarantines: list[pl.LazyFrame], parameters: CollectScoresParameters, seed: int
) -> StepOutput:
    """Join the tables of the shards, in the order of the rows.

    Args:
        scores: of the shards that did not fail.
        quarantines: their rows without a score.
        parameters: the rows of each planned shard, and the shards that did not fail.
        seed: not used.

    Returns:
        `scores`, with `model`, `model_version` and `data` in every row, and `quarantine`. Values: `outcome`, which is
        `complete`, `partial` or `empty` (no rows); `rows`, `scored`, `quarantined`, `failed`, `failed_shards` and
        `quarantined_by_reason`.

    Raises:
        DataError: fewer rows have a score than `min_scored` requires, or the rows of the shards do not add up.
    """
    rows, scored = sum(parameters.planned), sum(map(count_rows, scores))
    quarantine = (
        pl.concat(quarantines, how="diagonal_relaxed") if quarantines else pl.LazyFrame(schema={REASON: pl.String})
    )
    reasons = dict(aggregate(quarantine.group_by(REASON).len().sort("len", REASON, descending=[True, False])).rows())
    quarantined = sum(reasons.values())
    done = {shard.index for shard in parameters.done}
    failed = [index for index in range(len(parameters.planned)) if index not in done]
    lost = sum(parameters.planned[index] for index in failed)
    if rows != scored + quarantined + lost:
        raise DataError(
            "the rows of the shards do not add up",
            expected=f"{rows} rows, as planned",
            got=f"{scored} scored, {quarantined} in quarantine, {lost} in failed shards",
            fix="run the batch again with force, which computes every step again",
        )
    values = {"rows": rows, "scored": scored, "quarantined": quarantined, "failed": lost}
    if rows and scored < parameters.min_scored * rows:
        raise _too_few(values, failed, reasons, parameters)
    outcome = "empty" if rows == 0 else "complete" if scored == rows else "partial"
    source = {"model": parameters.model, "model_version": parameters.version, "data": parameters.data}
    table = pl.concat(scores) if scores else pl.LazyFrame(schema={parameters.key: pl.String, "prediction": pl.String})
    table = table.with_columns(pl.lit(value, pl.String).alias(name) for name, value in source.items())
    details: dict[str, JsonValue] = {"failed_shards": [*failed], "quarantined_by_reason": {**reasons}}
    return StepOutput(
        outputs={"scores": table, "quarantine": quarantine},
        values={"outcome": outcome, **values, **details},
        rows={("scores",): scored, ("quarantine",): quarantined},
    )


def _too_few(
    values: dict[str, int], failed: list[int], reasons: dict[str, int], parameters: CollectScoresParameters
) -> DataError:
    parts = [f"{values['scored']} of {values['rows']} rows have a score"]
    if failed:
        listed = ", ".join(_shard_name(index, parameters.planned) for index in failed[:_MAX_LISTED_SHARDS])
        more = f" and {len(failed) - _MAX_LISTED_SHARDS} more" if len(failed) > _MAX_LISTED_SHARDS else ""
        parts.append(f"failed: {listed}{more}")
    parts += [f"{count} rows in quarantine: {reason}" for reason, count in list(reasons.items())[:5]]
    return DataError(
        "too few rows have a score",
        where=f"model {parameters.model} version {parameters.version}",
        expected=f"at least {parameters.min_scored:.1%} of the rows, the declared min_scored",
        got="; ".join(parts),
        fix=(
            "fix the errors in the logs of the failed shards and clear their tasks; the other shards are cache hits"
            if failed
            else "correct these rows at the source, or lower min_scored if the scores may lack them"
        ),
    )


def _shard_name(index: int, planned: tuple[int, ...]) -> str:
    first = sum(planned[:index])
    return f"shard {index} (rows {first + 1} to {first + planned[index]})"
