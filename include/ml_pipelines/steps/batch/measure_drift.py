"""How far the last batch that was scored has moved from what the model has learned from, and its predictions with it.

Features are compared with the profile that the training kept of them; predictions with those of the first batch on
record that the same version has scored, since a training keeps none.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl

from ml_pipelines.contracts import Identity, JsonValue, StepResult
from ml_pipelines.data.drift import FeatureDrift, compare_profiles
from ml_pipelines.data.profile import profile_column, profile_features
from ml_pipelines.errors import DataError
from ml_pipelines.modeling.features import feature_frame
from ml_pipelines.pipeline.batch_parameters import MeasureDriftParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import Services
from ml_pipelines.promotion.champion import scoring_version
from ml_pipelines.promotion.deployment import training_record_ref
from ml_pipelines.reporting.drift_report import DriftReportData, render_drift_report

__all__ = ["measure_drift", "resolve"]

MAX_ROWS = 200_000
"""Of a larger batch, rows at equal distances: the index of so many moves by less than a thousandth."""

Scored = tuple[str, StepResult, StepResult]  # run, and there the results of ingest_batch and collect_scores


def resolve(
    parameters: MeasureDriftParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """Find the last batch that has scores, the training to compare it with, and the first batch of the same version.

    Returns:
        Values `batch`, the run that has scored it, `version`, whose training is compared with, and `scored_with`.

    Raises:
        DataError: nothing has been scored.
        RegistryError: there is no such version, or nothing tells how it was trained.
    """
    version = scoring_version(services.registry, parameters.model)
    # As many as are kept: `ml-pipelines store prune` bounds them.
    found = [run for name in services.runs(parameters.watch) if (run := _scored(services, parameters.watch, name))]
    if not found:
        raise DataError(
            f"{parameters.watch} has scored nothing yet",
            where="watch",
            expected="a run of that batch scoring whose scores were collected",
            fix="correct the name of the scoring's DAG, or run it first",
        )
    name, batch, collected = found[0]
    scored_with = _version_of(batch)
    first = next((each for each in reversed(found[1:]) if _version_of(each[1]) == scored_with), None)
    told: dict[str, JsonValue] = {"batch": name, "version": version.version, "scored_with": scored_with}
    facts = {**told, "model": version.model, "watch": parameters.watch, "first": first[0] if first else None}
    return Resolution(
        inputs={
            "table": batch.outputs["table"],
            "scores": collected.outputs["scores"],
            "training": training_record_ref(version),
            **({"baseline": first[2].outputs["scores"]} if first else {}),
        },
        key_facts=facts,
        values=told,
        prepare=lambda _: {"about": facts},
    )


def measure_drift(
    *,
    table: pl.LazyFrame,
    scores: pl.LazyFrame,
    training: dict[str, Any],
    about: dict[str, Any],
    parameters: MeasureDriftParameters,
    seed: int,
    baseline: pl.LazyFrame | None = None,
) -> StepOutput:
    """Compare a batch with a training, and its predictions with those of an earlier batch.

    Args:
        table: the batch, as it was scored.
        scores: its scores.
        training: record of the training.
        about: which batch, model and version these are, for people.
        parameters: from where on a batch has drifted.
        seed: not used.
        baseline: scores of the earlier batch, if there is one.

    Returns:
        Outputs `report` and `drift`. Values: `rows`; `judged`, False of too few rows; `features` and `predictions`,
        whether these have drifted; `drifted`, the features that have; `largest`, the largest index of a feature;
        `prediction_index`, None if there is no earlier batch; `reason`, a sentence.
    """
    limits = parameters.limits
    rows = _rows(table)
    found = compare_profiles(
        training["profile"],
        profile_features(feature_frame(_some(table, rows), training["features"]), training["features"]),
    )
    moved = [each.feature for each in found if each.index is None or each.index >= limits.index]
    predicted = None if baseline is None else _predictions(baseline, scores)
    judged = rows >= limits.min_rows
    values: dict[str, JsonValue] = {
        "rows": rows,
        "judged": judged,
        "features": judged and len(moved) >= limits.features,
        "predictions": judged and predicted is not None and (predicted.index or 0.0) >= limits.index,
        "drifted": [*moved],
        "largest": max((each.index for each in found if each.index is not None), default=None),
        "prediction_index": predicted.index if predicted else None,
    }
    values["reason"] = _sentence(values, len(found), parameters)
    page = render_drift_report(
        DriftReportData(about=about, values=values, limit=limits.index, features=found, predictions=predicted)
    )
    document: dict[str, Any] = {"values": values, "about": about, "features": [_plain(each) for each in found]}
    document["predictions"] = _plain(predicted) if predicted else None
    return StepOutput(outputs={"report": page, "drift": document}, values=values)


def _scored(services: Services, pipeline: str, run_id: str) -> Scored | None:
    """What a run has scored, None if it did not come so far or there were no rows."""
    records = services.tasks(Identity(pipeline=pipeline, run_id=run_id, task_id="collect_scores"))
    results = {record.result.step: record.result for record in records}
    batch, collected = results.get("ingest_batch"), results.get("collect_scores")
    if batch is None or collected is None or collected.values["outcome"] == "empty":
        return None
    return run_id, batch, collected


def _version_of(batch: StepResult) -> str:
    model = batch.values["model"]
    assert isinstance(model, dict)
    return str(model["version"])


def _rows(table: pl.LazyFrame) -> int:
    return int(table.select(pl.len()).collect().item())


def _some(table: pl.LazyFrame, rows: int) -> pl.LazyFrame:
    return table.gather_every(-(-rows // MAX_ROWS)) if rows > MAX_ROWS else table


def _predictions(then: pl.LazyFrame, now: pl.LazyFrame) -> FeatureDrift:
    (compared,) = compare_profiles({"predictions": _predicted(then)}, {"predictions": _predicted(now)})
    return compared


def _predicted(scores: pl.LazyFrame) -> dict[str, Any]:
    """The profile of the probabilities of a hit, of the predicted numbers, or of the predicted labels."""
    names = scores.collect_schema().names()
    several = any(name.startswith("probability_") for name in names)
    column = "probability" if "probability" in names else "prediction"
    found = _some(scores.select(column), _rows(scores)).collect()[column]
    if several or not found.dtype.is_numeric():
        return profile_column(pd.Series(found.cast(pl.String).to_list(), dtype=object), "string")
    return profile_column(pd.Series(found.cast(pl.Float64).to_numpy()), "float")


def _sentence(values: dict[str, Any], features: int, parameters: MeasureDriftParameters) -> str:
    limits = parameters.limits
    if not values["judged"]:
        return f"not judged: {values['rows']} rows are fewer than the {limits.min_rows} that limits.min_rows asks for"
    index = values["prediction_index"]
    of_predictions = "" if index is None else f"; the predictions have an index of {index:.3f}"
    return f"{len(values['drifted'])} of {features} features have drifted{of_predictions}"


def _plain(found: FeatureDrift) -> dict[str, Any]:
    return {"feature": found.feature, "index": found.index, "reference": found.reference, "current": found.current}
