"""The document of a training: what the step `train` writes beside the model, and later steps read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ml_pipelines.contracts import Contract, JsonValue
from ml_pipelines.spec.metrics import Task

__all__ = ["Feature", "SmokeRows", "TrainingRecord"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Feature(Contract):
    """One column that the model was trained on.

    Attributes:
        name: of the column.
        dtype: type of its values, see :mod:`ml_pipelines.modeling.features`.
        encoding: branch of the preprocessing, see :func:`ml_pipelines.modeling.preprocessing.build_preprocessor`.
    """

    name: str
    dtype: Literal["integer", "float", "boolean", "string", "date", "datetime"]
    encoding: Literal["number", "onehot", "target", "date", "datetime"]


class SmokeRows(Contract):
    """Some training rows that a deployed model must predict as the trained one did.

    Attributes:
        rows: feature values by name.
        predictions: of :func:`ml_pipelines.modeling.features.predict`.
        answers: of the estimator's own `predict`.
    """

    rows: tuple[dict[str, JsonValue], ...]
    predictions: tuple[Finite | tuple[Finite, ...], ...]
    answers: tuple[JsonValue, ...]


class TrainingRecord(Contract):
    """A training.

    Attributes:
        candidate: name of the candidate.
        estimator: its import path.
        params: its parameters, and the seed where it has one.
        task: classification or regression.
        trusted_types: types that the stored model may name, see :mod:`ml_pipelines.modeling.trusted_types`.
        requirements: distributions that the model needs, pinned.
        classes: labels in the order of the model's probabilities; None for a regression.
        positive: the positive label; None unless there are two classes.
        rows: number of training rows.
        features: columns of the model, in order.
        target_summary: `share` of each class, or `mean`, `std` and `median`.
        profile: summary of each feature, see :mod:`ml_pipelines.data.profile`.
        importances: loss of accuracy by feature; None for very wide tables.
        warnings: of the estimator while it was fitted.
        smoke: rows for the smoke test.
    """

    candidate: str
    estimator: str
    params: dict[str, JsonValue]
    task: Task
    trusted_types: tuple[str, ...]
    requirements: tuple[str, ...]
    classes: tuple[JsonValue, ...] | None
    positive: JsonValue
    rows: int
    features: tuple[Feature, ...]
    target_summary: dict[str, JsonValue]
    profile: dict[str, dict[str, JsonValue]]
    importances: dict[str, Finite] | None
    warnings: tuple[str, ...]
    smoke: SmokeRows

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.model_dump(mode="json")
