"""The preprocessing of a declaration: a scikit-learn transformer of the user in place of the built-in one.

It is the first step of the model, so each use of the model calls it. :class:`UserPreprocessing` contains it, and checks
its results and its sources. Only `train` fits a model, never on test rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import get_tags

from ml_pipelines.errors import ModelError, UserCodeError
from ml_pipelines.modeling.preprocessing import check_columns
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.modeling.transformer_checks import check_result, check_rows, check_transformer, code_place
from ml_pipelines.pipeline.user_code import SourceDigests, load_code, require_unchanged, source_digests
from ml_pipelines.pipeline.user_errors import user_code_errors

__all__ = ["KEY", "UserPreprocessing", "build_user_preprocessing", "check_storable", "record_preprocessing"]

KEY = "features.preprocessing"


def record_preprocessing(path: str | None) -> dict[str, Any] | None:
    """Return the part of the training record about the transformer; None without one."""
    return None if path is None else {"path": path, "sources": source_digests([path])}


def build_user_preprocessing(record: Mapping[str, Any], *, estimator: Any, seed: int) -> UserPreprocessing:
    """Return the transformer of a declaration, not yet fitted.

    `random_state` is the seed wherever the transformer has that parameter and does not set it.

    Args:
        record: of :func:`record_preprocessing`.
        estimator: receives the result. Missing values are an error unless it accepts them.
        seed: of everything random.

    Raises:
        UserCodeError: the code is not allowed, fails, returns no transformer or a fitted one, or can't be stored.
    """
    path = record["path"]
    factory = load_code(path, where=KEY)
    with user_code_errors(path, KEY):
        transformer = factory() if callable(factory) else factory
    check_transformer(transformer, path, KEY)
    params = transformer.get_params(deep=True)
    names = [name for name in params if name.rpartition("__")[2] == "random_state" and params[name] is None]
    transformer.set_params(**dict.fromkeys(names, seed))
    allow_missing = bool(get_tags(estimator).input_tags.allow_nan)
    built = UserPreprocessing(transformer, path, record["sources"], allow_missing)
    check_storable(built)
    return built


def check_storable(preprocessing: UserPreprocessing) -> None:
    """Raise UserCodeError if a model file can't hold the transformer."""
    try:
        dump_model(preprocessing)
    except ModelError as exc:
        plain = "use only numbers, texts, arrays and scikit-learn objects as attributes, and functions defined by def"
        is_untrusted = "not trusted" in exc.what and "<" not in exc.what
        fix = exc.fix.replace("choose another estimator", "use classes of scikit-learn")
        raise UserCodeError(
            f"{code_place(preprocessing.transformer, preprocessing.path)}{exc.what}",
            where=f"{KEY}: {preprocessing.path}",
            expected=exc.expected,
            got=exc.got,
            fix=fix if is_untrusted else plain,
        ) from exc


class UserPreprocessing(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Applies a transformer of the user.

    Args:
        transformer: the transformer, not fitted.
        path: import path of its class or factory.
        sources: digests of its sources, by file and function.
        allow_missing: whether the result may contain missing values.
    """

    def __init__(self, transformer: Any, path: str, sources: SourceDigests, allow_missing: bool = False) -> None:
        self.transformer = transformer
        self.path = path
        self.sources = sources
        self.allow_missing = allow_missing

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Fit the transformer."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: pd.DataFrame, y: Any = None) -> Any:
        """Fit the transformer, and return its result for the same rows.

        Raises:
            UserCodeError: it fails, returns another form, or depends on chance or on the other rows of a call.
        """
        self.feature_names_in_ = np.asarray([str(name) for name in X.columns], dtype=object)
        self.transformer_, result = self._fit(X, y)
        again, second = self._fit(X, y)
        transforms = [partial(self._transform, fitted) for fitted in (self.transformer_, again)]
        place, where = code_place(self.transformer, self.path), f"{KEY}: {self.path}"
        check_rows(transforms, (result, second), X, place=place, where=where)
        return result

    def transform(self, X: pd.DataFrame) -> Any:
        """Return the result of the transformer.

        Raises:
            UserCodeError: it fails, returns another form, or has other sources than in training.
        """
        require_unchanged(self.path, self.sources, where=KEY)
        return self._transform(self.transformer_, X)

    def _fit(self, X: pd.DataFrame, y: NDArray[Any] | None) -> tuple[Any, Any]:
        """Return a fitted copy, and its result for the rows."""
        # A copy has the parameters alone: nothing that was learned from other rows.
        fitted, frame = clone(self.transformer), self._frame(X)
        with user_code_errors(self.path, KEY):
            if hasattr(fitted, "fit_transform"):
                result = fitted.fit_transform(frame, y)
            else:
                fitted.fit(frame, y)
                result = fitted.transform(self._frame(X))
        self._check(result, len(X))
        return fitted, result

    def _transform(self, fitted: Any, X: pd.DataFrame) -> Any:
        with user_code_errors(self.path, KEY):
            result = fitted.transform(self._frame(X))
        self._check(result, len(X))
        return result

    def _check(self, result: Any, rows: int) -> None:
        place = code_place(self.transformer, self.path)
        check_result(result, rows, allow_missing=self.allow_missing, place=place, where=f"{KEY}: {self.path}")

    def _frame(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return a copy with the columns of the fit. Texts are objects, with NaN where one is missing."""
        check_columns(self.feature_names_in_, X.columns, where=KEY)
        frame = X[[*self.feature_names_in_]].copy()
        kinds = pd.api.types
        for name in frame.columns:
            if not (kinds.is_numeric_dtype(frame[name]) or kinds.is_datetime64_any_dtype(frame[name])):
                texts = frame[name].astype(object)
                frame[name] = texts.where(texts.notna(), np.nan)
        return frame
