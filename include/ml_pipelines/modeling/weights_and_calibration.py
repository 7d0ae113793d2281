"""Options of a candidate beside the arguments of its estimator: class weights and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.errors import DataError, EstimatorError
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.training import Candidate

__all__ = ["calibrate", "check_options", "model_options", "row_weights"]

# These take the weights of rows under **fit_params, and pass them on.
_PASS_ON = ("StackingClassifier", "VotingClassifier", "GridSearchCV", "RandomizedSearchCV")
_OWN_WEIGHTS = ("auto_class_weights", "class_weight", "class_weights", "scale_pos_weight")


def model_options(candidate: Candidate) -> dict[str, Any]:
    """Return the declared options as JSON values, for the training record."""
    declared = {"class_weights": candidate.class_weights, "calibration": candidate.calibration}
    return {name: value for name, value in declared.items() if value is not None}


def check_options(candidate: Candidate, estimator: Any, task: Task) -> None:
    """Raise EstimatorError if the options do not fit the task or the estimator."""
    for name in model_options(candidate):
        if task != "classification":
            raise _error(candidate, name, f"{name} needs a classification", fix=f"remove {name}", got=f"task {task}")
    if candidate.class_weights is None:
        return
    if double := next((name for name in _OWN_WEIGHTS if name in candidate.params), None):
        raise _error(
            candidate,
            "class_weights",
            f"class_weights and params.{double} would both weight the classes",
            fix=f"remove class_weights or params.{double}",
        )
    kind = type(estimator).__name__
    if kind not in _PASS_ON and "sample_weight" not in signature(estimator.fit).parameters:
        raise _error(
            candidate,
            "class_weights",
            f"{kind} takes no weights",
            fix="remove class_weights, or choose another estimator",
            expected="an estimator whose fit has the argument sample_weight",
        )


def calibrate(candidate: Candidate, estimator: Any, folds: Any) -> Any:
    """Return the estimator with calibrated probabilities, or itself without the option.

    The calibration learns from predictions for training rows that are left out of a fit, so it uses no other rows. The
    estimator is then fitted on all training rows.
    """
    if candidate.calibration is None:
        return estimator
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(estimator, method=candidate.calibration, cv=folds, ensemble=False)


def row_weights(candidate: Candidate, y: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return the weight of each row; None without class weights.

    `balanced` gives each class the same total weight, as in scikit-learn. A class without a declared weight has 1.

    Raises:
        DataError: a weight is declared for a label that no training row has.
    """
    if candidate.class_weights is None:
        return None
    classes, positions, counts = np.unique(y, return_inverse=True, return_counts=True)
    if candidate.class_weights == "balanced":
        weights = len(y) / (len(classes) * counts)
    else:
        weights = _declared(candidate, candidate.class_weights, classes.tolist())
    of_rows: NDArray[np.float64] = weights[positions.reshape(-1)]
    return of_rows


def _declared(candidate: Candidate, declared: Mapping[str, float], classes: list[Any]) -> NDArray[np.float64]:
    from ml_pipelines.data.class_labels import match_label  # imports polars, which checks of a declaration do not need

    weights = np.ones(len(classes))
    for text, weight in declared.items():
        if (label := match_label(text, classes)) is None:
            raise DataError(
                f"class_weights names {text!r}, which is no label of the training rows",
                where=f"candidate {candidate.name}",
                expected=f"some of {', '.join(map(repr, classes[:10]))}",
                fix="correct the label in the declaration",
            )
        weights[classes.index(label)] = weight
    return weights


def _error(candidate: Candidate, field: str, what: str, **facts: Any) -> EstimatorError:
    return EstimatorError(what, field=(field,), where=f"candidate {candidate.name}", **facts)
