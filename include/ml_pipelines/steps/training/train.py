"""Train one candidate: its preprocessing and its estimator as one scikit-learn Pipeline, and what is known about it."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from importlib.metadata import version
from typing import Any, cast

import joblib
import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from ml_pipelines import __version__
from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.profile import profile_features
from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.modeling.features import feature_dtypes, feature_frame, frame_to_records, predict
from ml_pipelines.modeling.preprocessing import build_preprocessor
from ml_pipelines.modeling.serialization import TRUSTED_TYPES
from ml_pipelines.modeling.target import extract_target
from ml_pipelines.pipeline.facts import FactsForTraining
from ml_pipelines.pipeline.parameters import TrainParameters
from ml_pipelines.pipeline.step import Publication, StepOutput, one_artifact
from ml_pipelines.ports import Services, Training

__all__ = ["publish", "train"]

_SMOKE_ROWS = 10
_IMPORTANCE_ROWS = 500
_IMPORTANCE_FEATURES = 100
_IMPORTANCE_REPEATS = 2
_PACKAGES = ("scikit-learn", "numpy", "scipy", "pandas", "skops")


def train(*, table: pl.LazyFrame, parameters: TrainParameters, seed: int) -> StepOutput:
    """Fit a candidate on all columns but key and target.

    Args:
        table: rows to learn from; without missing targets.
        parameters: the candidate, and how columns become features.
        seed: for the estimator and its preprocessing.

    Returns:
        Outputs `model`, a fitted Pipeline for the frames of :mod:`ml_pipelines.modeling.features`, and `training`, its
        record. Values `candidate`, `rows` and `features`, the number of columns.

    Raises:
        DataError: no rows, no features, or a target that can't be learned.
        ModelError: the candidate can't be built or fitted.
    """
    # Target and features one after the other, and never the key: the table itself is not held beside the frame.
    there = parameters.target in table.collect_schema()
    y, positive = extract_target((table.select(parameters.target) if there else table.head(0)).collect(), parameters)
    features = _features(table, parameters)
    frame = feature_frame(table, features)
    estimator = build_estimator(parameters.candidate, task=parameters.task, seed=seed)
    folds = _folds(y, parameters, seed)
    columns = build_preprocessor(features, task=parameters.task, outliers=parameters.features.outliers, folds=folds)
    model = Pipeline([("features", columns), ("model", estimator)])
    noted = _fit(model, frame, y, parameters)
    training = {
        **_settings(parameters, estimator),
        "classes": model.classes_.tolist() if parameters.task == "classification" else None,
        "positive": positive,
        "rows": len(y),
        "features": features,
        "target_summary": _target_summary(y, parameters),
        "profile": profile_features(frame, features),
        "importances": _importances(model, frame, y, seed),
        "warnings": noted,
    }
    training["smoke"] = _smoke(model, frame, training, seed)
    values: dict[str, JsonValue] = {
        "candidate": parameters.candidate.name,
        "rows": len(y),
        "features": len(features),
    }
    return StepOutput(outputs={"model": model, "training": training}, values=values)


def publish(work: Publication[TrainParameters, FactsForTraining], services: Services) -> dict[str, JsonValue]:
    """Write the training down with the tracking server, the model as the very bytes that are stored."""
    parameters = work.parameters
    model, record = (one_artifact(work.references, name) for name in ("model", "training"))
    training = load_json(services.read(record))
    tracked = services.tracking.log_training(
        work.identity,
        Training(
            model=parameters.model,
            candidate=training["candidate"],
            key=work.key,
            params={"estimator": training["estimator"], **training["params"]},
            metrics={"train_rows": float(training["rows"])},
            pin=work.facts.ingest.pin,
            model_ref=model,
            model_bytes=services.read(model),
            requirements=training["requirements"],
            trusted_types=training["trusted_types"],
            example=training["smoke"]["rows"],
            predictions=training["smoke"]["answers"],
        ),
    )
    return {
        "key": work.key,
        "tracking_run_id": tracked.run_id,
        "model_uri": tracked.model_uri,
        "tracking_url": tracked.url,
    }


def _features(table: pl.LazyFrame, parameters: TrainParameters) -> list[dict[str, Any]]:
    schema = table.collect_schema()
    names = [name for name in schema if name not in (parameters.key, parameters.target)]
    if not names:
        raise DataError(
            "there is no column to learn from",
            got=f"columns {', '.join(schema)}",
            fix="the table needs at least one column beside key and target",
        )
    dtypes = feature_dtypes({name: schema[name] for name in names})
    texts = [name for name, dtype in dtypes.items() if dtype == "string"]
    levels = table.select(pl.col(texts).n_unique()).collect(engine="streaming").row(0, named=True) if texts else {}
    features = [{"name": name, "dtype": dtype, "encoding": "number"} for name, dtype in dtypes.items()]
    for feature in features:
        if feature["dtype"] in ("date", "datetime"):
            feature["encoding"] = feature["dtype"]
        elif feature["dtype"] == "string":
            few = levels[feature["name"]] <= parameters.features.max_onehot
            feature["encoding"] = "onehot" if few else "target"
    _check_outliers(features, parameters)
    return features


def _check_outliers(features: list[dict[str, Any]], parameters: TrainParameters) -> None:
    numbers = [feature["name"] for feature in features if feature["encoding"] == "number"]
    for name in parameters.features.outliers.columns if parameters.features.outliers else ():
        if name not in numbers:
            close = get_close_matches(name, numbers, n=1)
            raise DataError(
                f"features.outliers names {name!r}, which is no feature of numbers",
                expected=f"some of {', '.join(numbers) or 'none'}",
                fix=f"did you mean {close[0]!r}?" if close else "remove the name",
            )


def _folds(y: NDArray[Any], parameters: TrainParameters, seed: int) -> KFold | StratifiedKFold:
    if parameters.task == "regression":
        return KFold(min(5, len(y)), shuffle=True, random_state=seed)
    rarest = int(np.unique(y, return_counts=True)[1].min())
    return StratifiedKFold(max(2, min(5, rarest)), shuffle=True, random_state=seed)


def _fit(model: Pipeline, frame: pd.DataFrame, y: NDArray[Any], parameters: TrainParameters) -> list[str]:
    """Fit in place; returns what the estimator warned of.

    Independent parts, as the trees of a forest, run on all CPUs that the process may use. What adds floats up runs on
    one: the order of the sum, and so the last digits of the model, would depend on the number of CPUs.
    """
    jobs = joblib.parallel_config("threading", n_jobs=joblib.cpu_count())
    with warnings.catch_warnings(record=True) as caught, jobs, threadpool_limits(1):
        warnings.simplefilter("always")
        try:
            model.fit(frame, y)
        except (ValueError, TypeError, ArithmeticError) as exc:
            raise ModelError(
                f"{parameters.candidate.estimator} can't be fitted",
                where=f"candidate {parameters.candidate.name}",
                got=f"{type(exc).__name__}: {exc}",
                fix="correct the candidate's params, or choose another estimator",
            ) from exc
    told = [each for each in caught if not issubclass(each.category, DeprecationWarning | PendingDeprecationWarning)]
    texts = (f"{each.category.__name__}: {' '.join(str(each.message).split())}" for each in told)
    return list(dict.fromkeys(texts))


def _settings(parameters: TrainParameters, estimator: Any) -> dict[str, Any]:
    candidate = parameters.candidate
    actual = estimator.get_params(deep=False)
    seeded = {"random_state": actual["random_state"]} if "random_state" in actual else {}
    return {
        "candidate": candidate.name,
        "estimator": candidate.estimator,
        "params": {**candidate.params, **seeded},
        "task": parameters.task,
        "trusted_types": list(TRUSTED_TYPES),
        "requirements": _requirements(parameters),
    }


def _requirements(parameters: TrainParameters) -> list[str]:
    """The model file needs this package for its transformers."""
    package = parameters.candidate.estimator.partition(".")[0]
    packages = _PACKAGES if package == "sklearn" else (*_PACKAGES, package)
    return [f"airflow-provider-ml-pipelines=={__version__}", *(f"{name}=={version(name)}" for name in packages)]


def _target_summary(y: NDArray[Any], parameters: TrainParameters) -> dict[str, Any]:
    if parameters.task == "regression":
        return {"mean": float(y.mean()), "std": float(y.std()), "median": float(np.median(y))}
    classes, counts = np.unique(y, return_counts=True)
    shares = (counts / len(y)).tolist()
    return {"share": {str(label): share for label, share in zip(classes.tolist(), shares, strict=True)}}


def _importances(model: Pipeline, frame: pd.DataFrame, y: NDArray[Any], seed: int) -> dict[str, float] | None:
    """How much worse some training rows are predicted with a column shuffled: log loss, or mean squared error.

    scikit-learn's `permutation_importance` asks the model once for every shuffled column. Of so few rows nearly all of
    the time is the asking, so here it is asked once for all columns. None for tables so wide that it would take longer
    than the fit.
    """
    if frame.shape[1] > _IMPORTANCE_FEATURES:
        return None
    rows = _sample(len(frame), _IMPORTANCE_ROWS, seed)
    frame, y, rng = frame.iloc[rows], y[rows], np.random.default_rng(seed)
    loss = _losses(model, frame, y)
    rises = []
    for _ in range(_IMPORTANCE_REPEATS):
        shuffled = [frame.assign(**{str(name): frame[name].array[rng.permutation(len(y))]}) for name in frame]
        losses = _losses(model, pd.concat(shuffled, ignore_index=True), np.tile(y, len(shuffled)))
        rises.append(losses.reshape(len(shuffled), -1).mean(axis=1) - loss.mean())
    return dict(zip(frame.columns, np.mean(rises, axis=0).tolist(), strict=True))


def _losses(model: Pipeline, frame: pd.DataFrame, y: NDArray[Any]) -> NDArray[np.float64]:
    """Of each row, shape (n,)."""
    with threadpool_limits(1):  # so few rows cost less than waking the threads
        if hasattr(model, "predict_proba"):
            given = model.predict_proba(frame)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
            return cast("NDArray[np.float64]", -np.log(np.maximum(given, np.finfo(given.dtype).eps)))
        return cast("NDArray[np.float64]", (y - model.predict(frame)) ** 2)


def _smoke(model: Pipeline, frame: pd.DataFrame, training: dict[str, Any], seed: int) -> dict[str, Any]:
    """Some rows, their scores, and what `predict` answers: a deployed model must say the same."""
    rows = frame.iloc[_sample(len(frame), _SMOKE_ROWS, seed)]
    return {
        "rows": frame_to_records(rows),
        "predictions": predict(model, rows, training).tolist(),
        "answers": model.predict(rows).tolist(),
    }


def _sample(rows: int, at_most: int, seed: int) -> NDArray[np.intp]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:at_most])
