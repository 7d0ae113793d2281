"""One table of all scores, if enough rows have one. Every row of the batch is accounted for, or there is no table."""

from __future__ import annotations

import polars as pl

from ml_pipelines.contracts import Identity, JsonValue
from ml_pipelines.data.streaming import REASON, aggregate
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import CollectScoresParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import Services

__all__ = ["collect_scores", "resolve"]

_SHOWN = 20


def resolve(
    parameters: CollectScoresParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """The tables of the shards that did not fail, by their digests, and which shards these are."""
    return Resolution(
        inputs={
            "scores": tuple(each.scores for each in parameters.done),
            "quarantines": tuple(each.quarantine for each in parameters.done),
        },
        key_facts={"done": [each.index for each in parameters.done]},
    )


def collect_scores(
    *, scores: list[pl.LazyFrame], quarantines: list[pl.LazyFrame], parameters: CollectScoresParameters, seed: int
) -> StepOutput:
    """Join the shards' tables, in the order of the rows.

    Args:
        scores: of the shards that did not fail.
        quarantines: the rows that these have set aside.
        parameters: what was planned, and who has scored.
        seed: not used.

    Returns:
        `scores`, with `model`, `model_version` and `data` in every row, and `quarantine`. Values: `outcome`, which is
        `complete`, `partial` or `empty` (there were no rows); `rows`, `scored`, `quarantined`, `failed`,
        `failed_shards` and `quarantined_by_reason`.

    Raises:
        DataError: fewer rows have a score than must; says which shards have failed. Or the rows do not add up.
    """
    rows, scored = sum(parameters.planned), _count(scores)
    set_aside = (
        pl.concat(quarantines, how="diagonal_relaxed") if quarantines else pl.LazyFrame(schema={REASON: pl.String})
    )
    reasons = dict(aggregate(set_aside.group_by(REASON).len().sort("len", REASON, descending=[True, False])).rows())
    quarantined = sum(reasons.values())
    done = {each.index for each in parameters.done}
    failed = [index for index in range(len(parameters.planned)) if index not in done]
    lost = sum(parameters.planned[index] for index in failed)
    if rows != scored + quarantined + lost:
        raise DataError(
            "the rows of the shards do not add up",
            expected=f"{rows} rows, as planned",
            got=f"{scored} scored, {quarantined} set aside, {lost} in shards that failed",
            fix="run the batch again with force, which computes every step anew",
        )
    values = {"rows": rows, "scored": scored, "quarantined": quarantined, "failed": lost}
    if rows and scored < parameters.min_scored * rows:
        raise _too_few(values, failed, reasons, parameters)
    outcome = "empty" if rows == 0 else "complete" if scored == rows else "partial"
    source = {"model": parameters.model, "model_version": parameters.version, "data": parameters.data}
    table = pl.concat(scores) if scores else pl.LazyFrame(schema={parameters.key: pl.String, "prediction": pl.String})
    table = table.with_columns(pl.lit(value, pl.String).alias(name) for name, value in source.items())
    told: dict[str, JsonValue] = {"failed_shards": [*failed], "quarantined_by_reason": {**reasons}}
    return StepOutput(outputs={"scores": table, "quarantine": set_aside}, values={"outcome": outcome, **values, **told})


def _count(tables: list[pl.LazyFrame]) -> int:
    return sum(int(table.select(pl.len()).collect().item()) for table in tables)


def _too_few(
    values: dict[str, int], failed: list[int], reasons: dict[str, int], parameters: CollectScoresParameters
) -> DataError:
    parts = [f"{values['scored']} of {values['rows']} rows have a score"]
    if failed:
        named = ", ".join(_named(index, parameters.planned) for index in failed[:_SHOWN])
        more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        parts.append(f"failed: {named}{more}")
    parts += [f"{count} rows set aside: {reason}" for reason, count in list(reasons.items())[:5]]
    return DataError(
        "too few rows could be scored",
        where=f"model {parameters.model} version {parameters.version}",
        expected=f"at least {parameters.min_scored:.1%} of the rows, as min_scored says",
        got="; ".join(parts),
        fix=(
            "mend what the shards' tasks tell and clear those that failed: the others are found in the store"
            if failed
            else "correct these rows at the source, or lower min_scored if the other rows may do without them"
        ),
    )


def _named(index: int, planned: tuple[int, ...]) -> str:
    first = sum(planned[:index])
    return f"shard {index} (rows {first + 1} to {first + planned[index]})"
