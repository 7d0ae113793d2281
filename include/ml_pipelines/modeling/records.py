"""The document of a training: what the step `train` writes beside the model, and later steps read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from ml_pipelines.contracts import Contract, JsonValue
from ml_pipelines.data.split_record import SplitRecord
from ml_pipelines.spec.metric_table import Task

__all__ = ["Feature", "Preprocessing", "SmokeRows", "TrainingRecord", "Transform", "TunedThreshold", "data_features"]

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


class Transform(Contract):
    """The transform of a declaration, see :mod:`ml_pipelines.modeling.user_transform`.

    Attributes:
        path: import path of the function.
        sources: digests of its sources, by file and function.
        inputs: the columns that it receives, in order.
    """

    path: str
    sources: dict[str, dict[str, str]]
    inputs: tuple[Feature, ...]


class Preprocessing(Contract):
    """The transformer of a declaration, see :mod:`ml_pipelines.modeling.user_preprocessing`.

    Attributes:
        path: import path of the class or factory.
        sources: digests of its sources, by file and function.
    """

    path: str
    sources: dict[str, dict[str, str]]


class TunedThreshold(Contract):
    """The decision threshold of a model, tuned on the validation rows.

    Attributes:
        value: smallest probability of the positive label that predicts it.
        objective: the objective in words.
        rows: number of validation rows.
        score: of the objective on these rows; None if they do not define it.
        default_score: the same at 0.5.
        problem: why the objective can't be reached and the value is 0.5; None if it is reached.
    """

    value: Finite
    objective: str
    rows: int
    score: Finite | None
    default_score: Finite | None
    problem: str | None = None


class TrainingRecord(Contract):
    """A training.

    Attributes:
        candidate: name of the candidate.
        estimator: its import path.
        params: its parameters, and the seed where it has one.
        task: classification or regression.
        pickled: import paths of its estimators that the model file holds as pickles.
        trusted_types: types that the stored model may name, see :mod:`ml_pipelines.modeling.trusted_types`.
        requirements: distributions that the model needs, pinned.
        classes: labels in the order of the model's probabilities; None for a regression.
        positive: the positive label; None unless there are two classes.
        rows: number of training rows.
        split: the rule that chose them.
        features: columns of the model, in order.
        transform: the function that computes them from the columns of the data; None if they are these columns.
        preprocessing: the user's transformer in the model; None with the built-in preprocessing.
        formats: formats of their dates in text, by name; the default is ISO 8601.
        profile: summary of each feature, see :mod:`ml_pipelines.data.profile`.
        importances: loss of accuracy by feature; None for very wide tables.
        warnings: of the estimator while it was fitted.
        smoke: rows for the smoke test.
        threshold: the decision threshold in the model; None if the declaration has none.
    """

    candidate: str
    estimator: str
    params: dict[str, JsonValue]
    task: Task
    pickled: tuple[str, ...] = Field(default=(), exclude_if=lambda paths: not paths)
    trusted_types: tuple[str, ...]
    requirements: tuple[str, ...]
    classes: tuple[JsonValue, ...] | None
    positive: JsonValue
    rows: int
    split: SplitRecord
    features: tuple[Feature, ...]
    transform: Transform | None = None
    preprocessing: Preprocessing | None = Field(default=None, exclude_if=lambda record: record is None)
    formats: dict[str, str] = Field(default={})
    profile: dict[str, dict[str, JsonValue]]
    importances: dict[str, Finite] | None
    warnings: tuple[str, ...]
    smoke: SmokeRows
    threshold: TunedThreshold | None = Field(default=None, exclude_if=lambda threshold: threshold is None)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.model_dump(mode="json")


def data_features(training: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the columns of the data that a model needs: the inputs of its transform, or else its features.

    Args:
        training: document of a :class:`TrainingRecord`.
    """
    transform = training.get("transform")
    columns: Sequence[Mapping[str, Any]] = transform["inputs"] if transform else training["features"]
    return columns
