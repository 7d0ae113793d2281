"""Train one candidate: its preprocessing and its estimator as one scikit-learn Pipeline, with a training record."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from ml_pipelines import __version__
from ml_pipelines._utils.distributions import find_distribution
from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.feature_profile import dump_profiles
from ml_pipelines.data.profile import profile_features
from ml_pipelines.data.split_record import SplitRecord
from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.evaluation.held_out_predictions import (
    predict_held_out,
    predictions_table,
    require_two_labels,
    tune_held_out,
)
from ml_pipelines.modeling.early_stopping import adapt_early_stopping
from ml_pipelines.modeling.estimators import build_estimator, estimator_errors
from ml_pipelines.modeling.extract_target import extract_target
from ml_pipelines.modeling.features import feature_dtypes, feature_frame, frame_to_records, predict
from ml_pipelines.modeling.importances import permutation_importances, sample_rows
from ml_pipelines.modeling.pickled_models import is_pickled
from ml_pipelines.modeling.preprocessing import build_preprocessor
from ml_pipelines.modeling.records import TrainingRecord, TunedThreshold
from ml_pipelines.modeling.search_results import best_parameters, discard_search_results
from ml_pipelines.modeling.threshold import with_threshold
from ml_pipelines.modeling.trusted_types import trusted_types
from ml_pipelines.modeling.user_preprocessing import build_user_preprocessing, check_storable, record_preprocessing
from ml_pipelines.modeling.user_transform import input_columns, record_transform, transform_table
from ml_pipelines.modeling.weights_and_calibration import calibrate, model_options, row_weights
from ml_pipelines.pipeline.facts import FactsForTraining
from ml_pipelines.pipeline.step import Publication, StepOutput, one_artifact
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.ports import Services, Training
from ml_pipelines.spec.code_packages import top_level

__all__ = ["publish", "train"]

SMOKE_ROWS = 10
_MODULES = ("sklearn", "numpy", "scipy", "pandas", "skops")


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A fitted pipeline, the rows that it has learned from, and its training record so far."""

    model: Pipeline
    frame: pd.DataFrame
    y: NDArray[Any]
    training: dict[str, Any]


def train(
    *,
    table: pl.LazyFrame,
    split: dict[str, Any],
    parameters: TrainParameters,
    seed: int,
    validation: pl.LazyFrame | None = None,
) -> StepOutput:
    """Fit a candidate on all columns but key, group and target.

    A model that is fitted on the training rows predicts the validation rows, for the selection and the threshold. With
    `refit`, the same procedure then fits the model of the output on the training and validation rows: preprocessing,
    search, calibration and early stopping. The threshold stays.

    Args:
        table: training rows, without missing targets.
        split: the rule of the split, a :class:`~ml_pipelines.data.split_record.SplitRecord`.
        parameters: the candidate, and the encoding of columns as features.
        seed: of the estimator and its preprocessing.
        validation: validation rows; None to only fit the training rows.

    Returns:
        Outputs `model`, a fitted Pipeline for the frames of :mod:`ml_pipelines.modeling.features`, `training`, a
        :class:`TrainingRecord`, and `predictions` for the validation rows. Values `candidate`, `rows` of the last fit,
        and `features`, the number of columns.

    Raises:
        DataError: the table has no rows, no features, or a target that the task can't use.
        ModelError: the candidate can't be built or fitted, or can't predict.
    """
    rule = SplitRecord.model_validate(split)
    fitted, threshold = _fit_rows(table, rule, parameters, seed), None
    outputs: dict[str, Any] = {}
    if validation is not None:
        threshold, outputs["predictions"] = _held_out(fitted, validation, parameters)
        if parameters.refit:
            del fitted  # so that two fits are never in memory at once
            fitted = _fit_rows(
                pl.concat([table, validation]), rule.model_copy(update={"refit": True}), parameters, seed
            )
    outputs |= _described(fitted, threshold, parameters, seed)
    training = outputs["training"]
    values: dict[str, JsonValue] = {name: training[name] for name in ("candidate", "rows")}
    return StepOutput(outputs=outputs, values={**values, "features": len(training["features"])})


def _fit_rows(table: pl.LazyFrame, rule: SplitRecord, parameters: TrainParameters, seed: int) -> _Fitted:
    """Fit the candidate on all rows of a table."""
    y, positive = _target(table, parameters, rule)
    require_two_labels(parameters.threshold, parameters.target, len(np.unique(y)))
    transform = record_transform(parameters.features.transform, _inputs(table, parameters))
    rows = transform_table(table, transform)
    features = _features(rows, parameters)
    frame = feature_frame(rows, features)
    estimator = build_estimator(parameters.candidate, task=parameters.task, seed=seed)
    adapted = adapt_early_stopping(estimator, y, classes=parameters.task == "classification")
    folds = _folds(y, parameters, seed)
    preprocessing = record_preprocessing(parameters.features.preprocessing)
    if preprocessing is None:
        outliers = parameters.features.outliers
        columns = build_preprocessor(features, task=parameters.task, outliers=outliers, folds=folds)
    else:
        columns = build_user_preprocessing(preprocessing, estimator=estimator, seed=seed)
    model = Pipeline([("features", columns), ("model", calibrate(parameters.candidate, estimator, folds))])
    caught = _fit(model, frame, y, parameters)
    if preprocessing is not None:
        check_storable(model["features"])
    with _estimator_errors(parameters, "predict"):
        classes = model.classes_.tolist() if parameters.task == "classification" else None
        settings = _settings(parameters, estimator)
    training: dict[str, Any] = {
        **settings,
        "classes": classes,
        "positive": positive,
        "rows": len(y),
        "split": rule,
        "features": features,
        "transform": transform,
        "preprocessing": preprocessing,
        "formats": {name: form for name, form in parameters.formats.items() if name in table.collect_schema()},
        "warnings": [*([adapted] if adapted else []), *caught],
    }
    return _Fitted(model, frame, y, training)


def _held_out(
    fitted: _Fitted, validation: pl.LazyFrame, parameters: TrainParameters
) -> tuple[TunedThreshold | None, pl.LazyFrame]:
    """Return the tuned threshold, and the predictions for the validation rows."""
    with _estimator_errors(parameters, "predict the validation rows"):
        target, truth, predicted = predict_held_out(fitted.model, fitted.training, validation, label=parameters.target)
        return tune_held_out(target, truth, predicted, parameters.threshold), predictions_table(predicted)


def _described(
    fitted: _Fitted, threshold: TunedThreshold | None, parameters: TrainParameters, seed: int
) -> dict[str, Any]:
    """Return the outputs `model`, with its threshold, and `training`."""
    model, frame = fitted.model, fitted.frame
    training = fitted.training | {"profile": dump_profiles(profile_features(frame, fitted.training["features"]))}
    with _estimator_errors(parameters, "predict"):
        importances = permutation_importances(model, frame, fitted.y, seed)
        if threshold:
            model = with_threshold(model, threshold.value, training["positive"])
        smoke = _smoke_rows(model, frame, training, seed)
        _check_finite(smoke["predictions"], importances)
    training |= {"importances": importances, "smoke": smoke, "threshold": threshold}
    return {"model": model, "training": TrainingRecord.model_validate(training).document()}


def publish(work: Publication[TrainParameters, FactsForTraining], services: Services) -> dict[str, JsonValue]:
    """Log the training with the tracking server, and the model as the same bytes that the store has."""
    model, reference = (one_artifact(work.references, name) for name in ("model", "training"))
    record = TrainingRecord.model_validate_json(services.read(reference))
    tracked = services.tracking.log_training(
        work.identity,
        Training(
            model=work.parameters.model,
            candidate=record.candidate,
            key=work.key,
            params={"estimator": record.estimator, **record.params, **_threshold(record)},
            metrics={"train_rows": float(record.rows)},
            pin=work.facts.ingest.pin,
            model_ref=model,
            model_bytes=services.read(model),
            requirements=[*record.requirements],
            trusted_types=[*record.trusted_types],
            features=[feature.model_dump() for feature in record.features],
            example=[*record.smoke.rows],
            predictions=[*record.smoke.answers],
        ),
    )
    return {
        "key": work.key,
        "tracking_run_id": tracked.run_id,
        "model_uri": tracked.model_uri,
        "tracking_url": tracked.url,
    }


def _threshold(record: TrainingRecord) -> dict[str, JsonValue]:
    tuned = record.threshold
    return {"threshold": tuned.value, "threshold_objective": tuned.objective} if tuned else {}


def _target(table: pl.LazyFrame, parameters: TrainParameters, rule: SplitRecord) -> tuple[NDArray[Any], Any]:
    """Target and positive label: the declared one, or the default of all rows.

    Only this column is collected, so that the table is not in memory beside the frame.
    """
    present = parameters.target in table.collect_schema()
    rows = (table.select(column(parameters.target)) if present else table.head(0)).collect()
    positive: Any = parameters.positive if parameters.positive is not None else rule.positive
    return extract_target(rows, parameters.target, task=parameters.task, positive=positive)


def _inputs(table: pl.LazyFrame, parameters: TrainParameters) -> list[dict[str, Any]]:
    """Return the columns that a transform receives: all but key, group and target."""
    roles = (parameters.key, parameters.group, parameters.target)
    return input_columns(table, roles) if parameters.features.transform else []


def _features(table: pl.LazyFrame, parameters: TrainParameters) -> list[dict[str, Any]]:
    schema = table.collect_schema()
    names = [name for name in schema if name not in (parameters.key, parameters.group, parameters.target)]
    if not names:
        raise DataError(
            "the table has no feature column",
            got=f"columns {', '.join(schema)}",
            fix="the table needs at least one column beside key, group and target",
        )
    dtypes = feature_dtypes({name: schema[name] for name in names})
    texts = [name for name, dtype in dtypes.items() if dtype == "string"]
    counts = table.select(column(name).n_unique() for name in texts).collect(engine="streaming")
    levels = counts.row(0, named=True) if texts else {}
    features = [{"name": name, "dtype": dtype, "encoding": "number"} for name, dtype in dtypes.items()]
    for feature in features:
        if feature["dtype"] in ("date", "datetime"):
            feature["encoding"] = feature["dtype"]
        elif feature["dtype"] == "string":
            few = levels[feature["name"]] <= parameters.features.max_onehot
            feature["encoding"] = "onehot" if few else "target"
    _check_outliers(features, parameters)
    return features


def _check_outliers(features: Sequence[dict[str, Any]], parameters: TrainParameters) -> None:
    numbers = [feature["name"] for feature in features if feature["encoding"] == "number"]
    for name in parameters.features.outliers.columns if parameters.features.outliers else ():
        if name not in numbers:
            close = get_close_matches(name, numbers, n=1)
            raise DataError(
                f"features.outliers names {name!r}, which is no numeric feature",
                expected=f"some of {', '.join(numbers) or 'none'}",
                fix=f"did you mean {close[0]!r}?" if close else "remove the name",
            )


def _folds(y: NDArray[Any], parameters: TrainParameters, seed: int) -> KFold | StratifiedKFold:
    if parameters.task == "regression":
        return KFold(min(5, len(y)), shuffle=True, random_state=seed)
    rarest = int(np.unique(y, return_counts=True)[1].min())
    return StratifiedKFold(max(2, min(5, rarest)), shuffle=True, random_state=seed)


def _fit(model: Pipeline, frame: pd.DataFrame, y: NDArray[Any], parameters: TrainParameters) -> list[str]:
    """Fit in place and return the warnings of the estimator.

    Independent parts, such as the trees of a forest, run on all CPUs of the process. Sums of floats run on one CPU.
    On several, their order and the last digits of the model would depend on the number of CPUs.
    """
    weights = row_weights(parameters.candidate, y)
    options = {} if weights is None else {"model__sample_weight": weights}
    jobs = joblib.parallel_config("threading", n_jobs=joblib.cpu_count())
    with warnings.catch_warnings(record=True) as caught, jobs, threadpool_limits(1):
        warnings.simplefilter("always")
        with _estimator_errors(parameters, "be fitted"):
            model.fit(frame, y, **options)
    discard_search_results(model)
    ignored = DeprecationWarning | PendingDeprecationWarning
    shown = [warning for warning in caught if not issubclass(warning.category, ignored)]
    texts = (f"{warning.category.__name__}: {' '.join(str(warning.message).split())}" for warning in shown)
    return list(dict.fromkeys(texts))


def _estimator_errors(parameters: TrainParameters, action: str) -> AbstractContextManager[None]:
    candidate = parameters.candidate
    what = f"{candidate.estimator} can't {action}"
    return estimator_errors(what, where=f"candidate {candidate.name}", params=candidate.params)


def _settings(parameters: TrainParameters, estimator: Any) -> dict[str, Any]:
    candidate = parameters.candidate
    actual = estimator.get_params(deep=False)
    seeded = {"random_state": actual["random_state"]} if "random_state" in actual else {}
    return {
        "candidate": candidate.name,
        "estimator": candidate.estimator,
        "params": {**candidate.params, **seeded, **best_parameters(estimator), **model_options(candidate)},
        "task": parameters.task,
        "pickled": [path for path in candidate.estimators if is_pickled(path)],
        "trusted_types": trusted_types(),
        "requirements": _requirements(parameters),
    }


def _requirements(parameters: TrainParameters) -> list[str]:
    """Distributions that load the model, this package among them, which brings the preprocessing."""
    paths = (*parameters.candidate.estimators, *filter(None, [parameters.features.preprocessing]))
    modules = dict.fromkeys((*_MODULES, *map(top_level, paths)))
    distributions = [pair for module in modules if (pair := find_distribution(module))]
    return [f"airflow-provider-ml-pipelines=={__version__}", *(f"{name}=={version}" for name, version in distributions)]


def _smoke_rows(model: Pipeline, frame: pd.DataFrame, training: dict[str, Any], seed: int) -> dict[str, Any]:
    rows = frame.iloc[sample_rows(len(frame), SMOKE_ROWS, seed)]
    return {
        "rows": frame_to_records(rows),
        "predictions": predict(model, rows, training).tolist(),
        "answers": model.predict(rows).tolist(),
    }


def _check_finite(predictions: list[Any], importances: dict[str, float] | None) -> None:
    if not np.isfinite([*np.ravel(predictions), *(importances or {}).values()]).all():
        raise ModelError(
            "the model's predictions are not finite numbers",
            expected="a finite number in every row",
            fix="choose another estimator, or parameters with which the estimator converges",
        )
