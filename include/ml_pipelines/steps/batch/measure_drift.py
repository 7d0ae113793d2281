"""Measure how far the last scored batch has drifted from the training of the model, and its predictions with it.

Features are compared with the profile in the training's record. The record has no predictions, so these are compared
with the earliest batch in the store that the same version scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import polars as pl

from ml_pipelines.contracts import Identity, JsonValue, StepResult
from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.drift import FeatureDrift, compare_profiles
from ml_pipelines.data.feature_profile import FeatureProfile, parse_profiles
from ml_pipelines.data.profile import profile_column, profile_features
from ml_pipelines.data.streaming import count_rows
from ml_pipelines.errors import DataError
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.pipeline.batch_parameters import MeasureDriftParameters
from ml_pipelines.pipeline.step import References, Resolution, StepOutput
from ml_pipelines.ports import Services
from ml_pipelines.promotion.champion import scoring_version
from ml_pipelines.promotion.model_files import RUN_END_SECONDS, recorded_version
from ml_pipelines.reporting.drift_report import DriftReportData, render_drift_report

__all__ = ["MAX_ROWS", "measure_drift", "resolve"]

MAX_ROWS = 200_000
"""How many rows of a batch are compared, at equal distances: more rows change the index by less than 0.001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScoredBatch:
    """A run of the batch scoring, with the results of two of its steps."""

    run_id: str
    ingested: StepResult
    collected: StepResult

    @property
    def version(self) -> str:
        """The version of the model that scored the batch."""
        model = self.ingested.values["model"]
        assert isinstance(model, dict)
        return str(model["version"])


def resolve(
    parameters: MeasureDriftParameters, inputs: References, services: Services, identity: Identity
) -> Resolution:
    """Find the last batch with scores, the training to compare it with, and the first batch of the same version.

    Returns:
        Values `batch`, the run that scored it; `version`, whose training it is compared with; and `scored_with`, the
        version that scored it.

    Raises:
        DataError: no batch has scores.
        RegistryError: the version does not exist, or has no record of its training.
    """
    version = scoring_version(services.registry, parameters.model)
    record = recorded_version(services.ledger, version, wait_seconds=RUN_END_SECONDS)
    # All runs in the store: `ml-pipelines store prune` limits their number.
    runs = (_scored_batch(services, parameters.watch, run_id) for run_id in services.runs(parameters.watch))
    batches = [batch for batch in runs if batch is not None]
    if not batches:
        raise DataError(
            f"{parameters.watch} has no scored batch",
            where="watch",
            expected="a run of that batch scoring with collected scores",
            fix="correct the name of the scoring's DAG, or run it first",
        )
    last = batches[0]
    first = next((batch for batch in reversed(batches[1:]) if batch.version == last.version), None)
    values: dict[str, JsonValue] = {"batch": last.run_id, "version": version.version, "scored_with": last.version}
    key_facts = {
        **values,
        "model": version.model,
        "watch": parameters.watch,
        "first": first.run_id if first else None,
    }
    return Resolution(
        inputs={
            "table": last.ingested.outputs["table"],
            "scores": last.collected.outputs["scores"],
            "training": record.training,
            **({"baseline": first.collected.outputs["scores"]} if first else {}),
        },
        key_facts=key_facts,
        values=values,
        prepare=lambda _: {"about": key_facts},
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
        table: the rows of the batch.
        scores: their scores.
        training: record of the training.
        about: the batch, the model and the version, for the report.
        parameters: the limits from which on a batch has drifted.
        seed: not used.
        baseline: scores of the earlier batch; None without one.

    Returns:
        Outputs `report` and `drift`. Values: `rows`; `judged`, False if there are too few rows; `features` and
        `predictions`, whether these have drifted; `drifted`, the names of the features that have drifted; `largest`,
        the largest index of a feature; `prediction_index`, None without an earlier batch; `reason`, a sentence.
    """
    limits = parameters.limits
    rows = count_rows(table)
    frame = model_frame(_sample(table, rows), training)
    drifts = compare_profiles(parse_profiles(training["profile"]), profile_features(frame, training["features"]))
    drifted = [drift.feature for drift in drifts if drift.index is None or drift.index >= limits.index]
    predictions = None if baseline is None else _prediction_drift(baseline, scores)
    judged = rows >= limits.min_rows
    values: dict[str, JsonValue] = {
        "rows": rows,
        "judged": judged,
        "features": judged and len(drifted) >= limits.features,
        "predictions": judged and predictions is not None and (predictions.index or 0.0) >= limits.index,
        "drifted": [*drifted],
        "largest": max((drift.index for drift in drifts if drift.index is not None), default=None),
        "prediction_index": predictions.index if predictions else None,
        "reason": (
            _summary(len(drifted), len(drifts), predictions)
            if judged
            else f"not judged: {rows} rows are fewer than limits.min_rows ({limits.min_rows})"
        ),
    }
    data = DriftReportData(about=about, values=values, limit=limits.index, features=drifts, predictions=predictions)
    document = {
        "values": values,
        "about": about,
        "features": [drift.model_dump(mode="json") for drift in drifts],
        "predictions": predictions.model_dump(mode="json") if predictions else None,
    }
    return StepOutput(outputs={"report": render_drift_report(data), "drift": document}, values=values)


def _scored_batch(services: Services, pipeline: str, run_id: str) -> _ScoredBatch | None:
    """Return the batch of a run; None if the run has no scores, or the batch had no rows."""
    records = services.tasks(Identity(pipeline=pipeline, run_id=run_id, task_id="collect_scores"))
    results = {record.result.step: record.result for record in records}
    ingested, collected = results.get("ingest_batch"), results.get("collect_scores")
    if ingested is None or collected is None or collected.values["outcome"] == "empty":
        return None
    return _ScoredBatch(run_id=run_id, ingested=ingested, collected=collected)


def _sample(table: pl.LazyFrame, rows: int) -> pl.LazyFrame:
    return table.gather_every(-(-rows // MAX_ROWS)) if rows > MAX_ROWS else table


def _prediction_drift(baseline: pl.LazyFrame, scores: pl.LazyFrame) -> FeatureDrift:
    name = "predictions"
    (drift,) = compare_profiles({name: _profile_predictions(baseline)}, {name: _profile_predictions(scores)})
    return drift


def _profile_predictions(scores: pl.LazyFrame) -> FeatureProfile:
    """Return the profile of the probabilities of the positive class, or of the predicted numbers or labels."""
    names = scores.collect_schema().names()
    multiclass = any(name.startswith("probability_") for name in names)
    name = "probability" if "probability" in names else "prediction"
    predictions = _sample(scores.select(column(name)), count_rows(scores)).collect()[name]
    if multiclass or not predictions.dtype.is_numeric():
        return profile_column(pd.Series(predictions.cast(pl.String).to_list(), dtype=object), "string")
    return profile_column(pd.Series(predictions.cast(pl.Float64).to_numpy()), "float")


def _summary(drifted: int, features: int, predictions: FeatureDrift | None) -> str:
    index = None if predictions is None else predictions.index
    of_predictions = "" if index is None else f"; the predictions have an index of {index:.3f}"
    return f"{drifted} of {features} features have drifted{of_predictions}"
