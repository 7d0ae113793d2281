"""The training record with which the model of an earlier run predicts the rows of this run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.modeling.records import data_features

__all__ = ["champion_training"]

Training = dict[str, Any]


def champion_training(training: Training, own: Mapping[str, Any] | None, model: Any) -> Training:
    """The record that predicts with a model of an earlier run: its own columns and classes, with this run's types."""
    classes = [*model.classes_.tolist()] if hasattr(model, "classes_") else None
    if classes != training["classes"]:
        raise ModelError(
            "the champion has other classes than this run", expected=f"{training['classes']}", got=f"{classes}"
        )
    same = {**training, "candidate": "champion", "params": {}}
    if own is not None:
        return {**same, **own}
    features = {feature["name"]: feature for feature in data_features(training)}
    names = [str(name) for name in getattr(model, "feature_names_in_", features)]
    if missing := [name for name in names if name not in features]:
        raise DataError(f"the champion needs column {missing[0]!r}, which is no longer among the features")
    return {**same, "transform": None, "features": [features[name] for name in names]}
