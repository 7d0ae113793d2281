"""Estimators of a deployment's own packages that skops does not store: their pickle is a part of the model file.

The model file is in the skops format and holds the pickle as bytes. To load the file does not unpickle them: a process
without credentials does, at the first prediction, see :mod:`ml_pipelines.modeling.pickle_process`. The process that
fits an estimator uses the fitted object.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_classifier

from ml_pipelines.errors import ModelError
from ml_pipelines.modeling.pickle_process import PickleProcess
from ml_pipelines.modeling.trusted_types import TYPES_VARIABLE, trusted_types
from ml_pipelines.pipeline.user_code import import_path, load_code
from ml_pipelines.pipeline.user_errors import error_text
from ml_pipelines.spec.code_packages import DEFAULT_PACKAGES, PICKLE_VARIABLE, may_pickle, top_level

__all__ = ["PickledClassifier", "PickledRegressor", "is_pickled", "wrap_pickled"]


def is_pickled(path: str) -> bool:
    """Return whether an estimator is stored as a pickle: its package is not a default one, and its type not trusted."""
    return (
        top_level(path) not in DEFAULT_PACKAGES and ".".join(import_path(path)) not in trusted_types() and may_pickle()
    )


def wrap_pickled(path: str, estimator: Any) -> Any:
    """Return an estimator whose fitted state is stored as a pickle, with the same parameters.

    Args:
        path: import path of the class.
        estimator: an instance, not fitted.
    """
    wrapper = PickledClassifier if is_classifier(estimator) else PickledRegressor
    return wrapper(path, **estimator.get_params(deep=False))


class _Pickled(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base class. The parameters are those of the estimator.

    Args:
        pickled_class: import path of its class.
        params: parameters of the class.
    """

    def __init__(self, pickled_class: str, **params: Any) -> None:
        self.pickled_class = pickled_class
        self.params = params

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the import path as `pickled_class`, and the parameters of the class."""
        return {"pickled_class": self.pickled_class, **self.params}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator."""
        self.pickled_class = params.pop("pickled_class", self.pickled_class)
        self.params = {**self.params, **params}
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit an instance of the class, and pickle it.

        Raises:
            ModelError: the fitted instance can't be pickled.
        """
        kind = load_code(self.pickled_class, where="estimator")
        options = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.estimator_ = kind(**{name: clone(value, safe=False) for name, value in self.params.items()})
        self.estimator_.fit(X, y, **options)
        try:
            self.pickle_ = pickle.dumps(self.estimator_, protocol=5)
        except MemoryError:
            raise
        except Exception as exc:  # the state of an estimator may raise anything
            raise ModelError(
                f"{self.pickled_class} can't be pickled after its fit",
                expected="a fitted estimator that the pickle module stores",
                got=error_text(exc),
                fix="define its classes and functions at the top level of a module; keep open files, locks and lambdas "
                "out of its attributes",
            ) from exc
        self.n_features_in_ = int(np.shape(X)[1])
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predictions of the estimator, shape (rows,).

        Raises:
            ModelError: the estimator fails, or returns another shape.
        """
        answer = np.asarray(self._model().predict(X))
        self._check_shape(answer, (np.shape(X)[0],), "predict")
        return answer

    def _check_shape(self, answer: NDArray[Any], shape: tuple[int, ...], method: str) -> None:
        if answer.shape != shape:
            raise ModelError(
                f"{self.pickled_class}.{method} returned another shape",
                expected=f"shape {shape}",
                got=f"shape {answer.shape}",
                fix="return one prediction for each row, and with predict_proba one column for each label",
            )

    def _model(self) -> Any:
        """Return the fitted instance, or the process that has it."""
        if "estimator_" not in vars(self):
            self.estimator_ = PickleProcess(self.pickled_class, self.pickle_)
        return self.estimator_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # The pickle contains the parameters, which may be of types that skops does not store.
        return {name: value for name, value in vars(self).items() if name not in ("estimator_", "params")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        _check_policy(state["pickled_class"])
        self.__dict__.update(state, params={})


class PickledClassifier(ClassifierMixin, _Pickled):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, and check the labels.

        Raises:
            ModelError: the fitted instance can't be pickled, or `classes_` are not the sorted labels.
        """
        super().fit(X, y, sample_weight)
        expected, found = np.unique(np.asarray(y)), getattr(self.estimator_, "classes_", None)
        if found is None or np.shape(found) != expected.shape or (np.asarray(found) != expected).any():
            raise ModelError(
                f"{self.pickled_class} has no list of its labels after the fit",
                expected=f"classes_ = {expected.tolist()}, the order of the columns of predict_proba",
                got="no classes_" if found is None else f"classes_ = {np.asarray(found).tolist()}",
                fix="set self.classes_ = numpy.unique(y) in fit",
            )
        self.classes_ = expected
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each row, shape (rows,).

        Raises:
            ModelError: the estimator fails, returns another shape, or a label that the training did not have.
        """
        labels = super().predict(X)
        if (unknown := labels[~np.isin(labels, self.classes_)]).size:
            raise ModelError(
                f"{self.pickled_class}.predict returned a label that is not in classes_",
                expected=f"one of {self.classes_.tolist()}",
                got=repr(unknown.tolist()[0]),
                fix="return labels of self.classes_",
            )
        return labels.astype(self.classes_.dtype)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, shape (rows, classes); raises as :meth:`predict`."""
        answer = np.asarray(self._model().predict_proba(X), dtype=np.float64)
        self._check_shape(answer, (np.shape(X)[0], len(self.classes_)), "predict_proba")
        return answer


class PickledRegressor(RegressorMixin, _Pickled):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor."""


def _check_policy(path: str) -> None:
    if not may_pickle():
        raise ModelError(
            "the model file contains a pickle, which this deployment does not load",
            where=path,
            expected="a model whose types are all trusted",
            fix=f"allow the package {top_level(path)!r} and set {PICKLE_VARIABLE}=allow, or review the type, set "
            f"{TYPES_VARIABLE}={'.'.join(import_path(path))} and train the model again with `--force`",
        )
