"""The decision threshold in a model: its `predict` returns the positive label from a probability on.

Evaluation and scoring read the threshold from the model file only. So a client of MLflow, a batch and a later
evaluation of the champion predict the same labels.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import clone
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

__all__ = ["threshold_of", "with_threshold"]

_STEP = "threshold"


def with_threshold(model: Pipeline, threshold: float, positive: Any) -> Pipeline:
    """Return a fitted pipeline whose `predict` uses the threshold. Its probabilities are the same.

    Args:
        model: fitted pipeline; its last step is a classifier.
        threshold: smallest probability of the positive label.
        positive: the positive label.
    """
    *steps, (_, classifier) = model.steps
    labelled = FixedThresholdClassifier(
        clone(classifier), threshold=threshold, pos_label=positive, response_method="predict_proba"
    )
    labelled.estimator_ = classifier  # as its `fit` would set it, without another fit
    return Pipeline([*steps, (_STEP, labelled)])


def threshold_of(model: Any) -> float | None:
    """Return the threshold of a model; None for a model without one."""
    labelled = dict(getattr(model, "steps", ())).get(_STEP)
    return None if labelled is None else float(labelled.threshold)
