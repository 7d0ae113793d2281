"""Estimators of XGBoost and CatBoost as scikit-learn estimators that are stored in the format of their library.

A pickle of these estimators contains Python objects that skops does not trust, and the time of the training. The
classes here store the import path, the parameters, the labels and the bytes that the library itself writes. LightGBM
needs no such class: skops stores its models in LightGBM's own text format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from ml_pipelines.errors import ModelError

__all__ = ["LIBRARIES", "NativeClassifier", "NativeRegressor", "wrap_native"]


class Library(NamedTuple):
    """How estimators of a library are configured and stored.

    Attributes:
        classes: names of its estimators that can be stored.
        defaults: parameters that make results independent of CPUs and silence the library.
        synonyms: other names of these parameters and of `random_state`. A default is left out if one is declared.
        dump: returns the bytes of a fitted estimator.
        load: restores a fitted estimator from these bytes, in place.
    """

    classes: frozenset[str]
    defaults: Mapping[str, Any]
    synonyms: Mapping[str, frozenset[str]]
    dump: Callable[[Any], bytes]
    load: Callable[[Any, bytes], None]


def _dump_xgboost(estimator: Any) -> bytes:
    return bytes(estimator.get_booster().save_raw("ubj"))


def _load_xgboost(estimator: Any, data: bytes) -> None:
    estimator.load_model(bytearray(data))


def _dump_catboost(estimator: Any) -> bytes:
    metadata = estimator.get_metadata()
    for name in ("train_finish_time", "model_guid"):  # these differ between equal models
        metadata[name] = ""
    return bytes(estimator._serialize_model())


def _load_catboost(estimator: Any, data: bytes) -> None:
    estimator.load_model(blob=data)


LIBRARIES: Mapping[str, Library] = {
    "xgboost": Library(
        classes=frozenset({"XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"}),
        defaults={"n_jobs": 1},
        synonyms={},
        dump=_dump_xgboost,
        load=_load_xgboost,
    ),
    "catboost": Library(
        classes=frozenset({"CatBoostClassifier", "CatBoostRegressor"}),
        defaults={"thread_count": 1, "verbose": False, "allow_writing_files": False},
        synonyms={
            "verbose": frozenset({"silent", "logging_level", "metric_period"}),
            "random_state": frozenset({"random_seed"}),
        },
        dump=_dump_catboost,
        load=_load_catboost,
    ),
}


def wrap_native(path: str, params: Mapping[str, Any], *, kind: type, seed: int) -> Any:
    """Return an estimator of one of :data:`LIBRARIES`, not yet fitted.

    Args:
        path: package and class, such as `xgboost.XGBClassifier`.
        params: declared parameters.
        kind: the class.
        seed: used unless the parameters contain one.
    """
    library = LIBRARIES[path.partition(".")[0]]
    defaults = {**library.defaults, "random_state": seed}
    used = {name: value for name, value in defaults.items() if not library.synonyms.get(name, set()) & {*params}}
    if params.get("random_state", seed) is None:
        params = {**params, "random_state": seed}
    wrapper = NativeClassifier if hasattr(kind, "predict_proba") else NativeRegressor
    return wrapper(path, **{**used, **params})


class _Native(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base class. The parameters are those of the estimator of the library.

    Args:
        estimator: package and class.
        params: parameters of the class.
    """

    def __init__(self, estimator: str, **params: Any) -> None:
        self.estimator = estimator
        self.params = params

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the import path as `estimator`, and the parameters of the library that are set."""
        return {"estimator": self.estimator, **self.params}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator."""
        self.estimator = params.pop("estimator", self.estimator)
        self.params = {**self.params, **params}
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predictions of the library's estimator, shape (rows,)."""
        return np.asarray(self.estimator_.predict(X)).reshape(-1)

    def _fit(self, X: Any, y: NDArray[Any], weights: Any) -> Self:
        self.estimator_ = self._build().fit(X, y, sample_weight=weights)
        # CatBoost writes a loaded model in another order, so the bytes are kept.
        self.native_ = self._library().dump(self.estimator_)
        self.n_features_in_ = int(np.shape(X)[1])
        return self

    def _build(self) -> Any:
        _check_path(self.estimator)
        package, _, name = self.estimator.partition(".")
        return getattr(import_module(package), name)(**self.params)

    def _library(self) -> Library:
        return LIBRARIES[self.estimator.partition(".")[0]]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "estimator_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _check_path(state["estimator"])
        self.__dict__.update(state)
        if "native_" in state:
            self.estimator_ = self._build()
            self._library().load(self.estimator_, self.native_)


class NativeClassifier(ClassifierMixin, _Native):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of :data:`LIBRARIES`, for labels of any type.

    XGBoost accepts only the labels 0, 1, 2 and so on. CatBoost returns booleans as texts. Therefore the library gets
    the positions of the labels.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit."""
        self.classes_, positions = np.unique(np.asarray(y), return_inverse=True)
        return self._fit(X, positions.reshape(-1), sample_weight)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most likely label of each row."""
        labels: NDArray[Any] = self.classes_[super().predict(X).astype(np.intp)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, shape (rows, classes)."""
        return np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)


class NativeRegressor(RegressorMixin, _Native):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor of :data:`LIBRARIES`."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit."""
        return self._fit(X, np.asarray(y), sample_weight)


def _check_path(path: str) -> None:
    """Raise ModelError unless a path names an estimator of the table: a model file could name any other object."""
    package, _, name = path.partition(".")
    if package not in LIBRARIES or name not in LIBRARIES[package].classes:
        allowed = sorted(f"{module}.{kind}" for module, library in LIBRARIES.items() for kind in library.classes)
        raise ModelError(
            "the model names an estimator that has no format",
            expected=f"one of {', '.join(allowed)}",
            got=path,
            fix="train the model again",
        )
