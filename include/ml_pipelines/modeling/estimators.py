"""Build estimators from import paths of allowed packages, and validate their parameters before a fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from ml_pipelines.errors import EstimatorError, MissingExtra, ModelError
from ml_pipelines.spec.estimator_packages import PACKAGES_VARIABLE, allowed_packages, is_allowed_package
from ml_pipelines.spec.metrics import Task
from ml_pipelines.spec.training import Candidate

if TYPE_CHECKING:
    from ml_pipelines.spec.training import PipelineSpec

__all__ = ["build_estimator", "require_scikit_learn", "validate_candidates"]

_KINDS: Mapping[Task, str] = {"classification": "classifier", "regression": "regressor"}
_MIXINS: Mapping[Task, str] = {"classification": "ClassifierMixin", "regression": "RegressorMixin"}

# Parameters that make results independent of the number of CPUs, and silence standard output.
_PACKAGE_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "lightgbm": {"deterministic": True, "force_row_wise": True, "verbosity": -1}
}


def build_estimator(candidate: Candidate, *, task: Task, seed: int) -> Any:
    """Return the estimator of a candidate, not yet fitted.

    `random_state` is the seed, where the estimator has that parameter and the candidate does not set it.

    Raises:
        EstimatorError: the package is not allowed, the estimator is unknown or does not fit the task, or a parameter is
            wrong.
        MissingExtra: the package is not installed.
    """
    kind = _estimator_class(candidate, task)
    _check_names(candidate, kind)
    try:
        defaults = _PACKAGE_PARAMETERS.get(candidate.estimator.partition(".")[0], {})
        estimator = kind(**defaults, **candidate.params)
    except (TypeError, ValueError) as exc:
        raise _bad_parameters(candidate, exc) from exc
    if "random_state" in estimator.get_params(deep=False) and candidate.params.get("random_state") is None:
        estimator.set_params(random_state=seed)
    _check_values(candidate, estimator)
    if task == "classification" and not hasattr(estimator, "predict_proba"):
        raise EstimatorError(
            f"{kind.__name__} predicts no probabilities",
            where=_where(candidate),
            expected="a classifier with predict_proba, as it is configured",
            fix="choose another estimator, such as sklearn.linear_model.LogisticRegression",
        )
    return estimator


def validate_candidates(spec: PipelineSpec) -> None:
    """Build every candidate of a declaration.

    Raises:
        ModelError: at least one can't be built; lists all errors.
        MissingExtra: scikit-learn is not installed, so no candidate can be validated.
    """
    require_scikit_learn(where=f"pipeline {spec.name}")
    errors: list[str] = []
    for candidate in spec.effective_candidates:
        try:
            build_estimator(candidate, task=spec.model.task, seed=spec.seed)
        except (ModelError, MissingExtra) as exc:
            errors.append(str(exc))
    if errors:
        count = "1 candidate" if len(errors) == 1 else f"{len(errors)} candidates"
        raise ModelError("\n".join([f"{count} can't be trained", *errors]), where=f"pipeline {spec.name}")


def require_scikit_learn(*, where: str) -> None:
    """Raise MissingExtra if scikit-learn is not installed; does not import it."""
    if find_spec("sklearn") is None:
        raise MissingExtra(
            "the package 'scikit-learn' is not installed",
            where=where,
            fix='install the extra that brings it: pip install "airflow-provider-ml-pipelines[ml]"',
        )


def _estimator_class(candidate: Candidate, task: Task) -> Any:
    """Import the class. The package is imported only if it is allowed."""
    package, *rest = parts = candidate.estimator.split(".")
    if not is_allowed_package(package):
        raise EstimatorError(
            f"{candidate.estimator} is not from an allowed package",
            where=_where(candidate),
            expected=f"an import path that starts with {' or '.join(allowed_packages())}",
            fix="name an estimator of such a package, as in sklearn.ensemble.RandomForestClassifier, "
            f"or allow {package!r} by {PACKAGES_VARIABLE}",
        )
    if not rest or any(not part.isidentifier() or part.startswith("_") for part in parts):
        raise _unknown(candidate, task)
    _import_package(package, candidate)
    try:
        kind = getattr(import_module(".".join(parts[:-1])), parts[-1])
    except (ModuleNotFoundError, AttributeError) as exc:
        raise _unknown(candidate, task) from exc
    return _of_task(kind, candidate, task)


def _of_task(kind: Any, candidate: Candidate, task: Task) -> Any:
    from sklearn import base

    package = candidate.estimator.partition(".")[0]
    if not (isinstance(kind, type) and issubclass(kind, base.BaseEstimator)):
        raise _unknown(candidate, task)
    if kind.__module__.partition(".")[0] != package:
        raise _unknown(candidate, task)
    if not issubclass(kind, getattr(base, _MIXINS[task])):
        raise EstimatorError(
            f"{kind.__name__} is no {_KINDS[task]}",
            where=_where(candidate),
            expected=f"a {_KINDS[task]}, since model.task is {task}",
            fix=_did_you_mean(candidate, task) or f"choose a {_KINDS[task]}",
        )
    return kind


def _import_package(package: str, candidate: Candidate) -> None:
    try:
        import_module(package)
    except ModuleNotFoundError as exc:
        if exc.name != package:
            raise
        raise MissingExtra(
            f"the package {package!r} is not installed",
            where=_where(candidate),
            fix=f"install it: pip install {package}, and on every worker",
        ) from exc


def _unknown(candidate: Candidate, task: Task) -> EstimatorError:
    return EstimatorError(
        f"there is no estimator {candidate.estimator}",
        where=_where(candidate),
        expected=f"the public import path of a {_KINDS[task]}",
        fix=_did_you_mean(candidate, task) or "look the import path up in the package's documentation",
    )


def _did_you_mean(candidate: Candidate, task: Task) -> str:
    name = candidate.estimator.rpartition(".")[2]
    paths = _known_estimators(candidate.estimator.partition(".")[0], task)
    close = get_close_matches(name, paths, n=1, cutoff=0.6)
    return f"did you mean {paths[close[0]]}?" if close else ""


def _known_estimators(package: str, task: Task) -> dict[str, str]:
    """Import paths by class name."""
    if package == "sklearn":
        from sklearn.utils import all_estimators

        estimators = all_estimators(type_filter=_KINDS[task])
        return {name: f"{kind.__module__.partition('._')[0]}.{name}" for name, kind in estimators}
    from sklearn import base

    mixin = getattr(base, _MIXINS[task])
    members = vars(import_module(package)).items()
    return {name: f"{package}.{name}" for name, kind in members if isinstance(kind, type) and issubclass(kind, mixin)}


def _check_names(candidate: Candidate, kind: Any) -> None:
    declared = signature(kind).parameters.values()
    names = [parameter.name for parameter in declared if parameter.kind is not Parameter.VAR_KEYWORD]
    for name in candidate.params:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            raise EstimatorError(
                f"{kind.__name__} has no parameter {name!r}",
                field=("params", name),
                at_key=True,
                where=_where(candidate),
                expected=f"one of {', '.join(sorted(names))}",
                got=name,
                fix=f"did you mean {close[0]}?" if close else "remove it, or choose one of those listed",
            )


def _check_values(candidate: Candidate, estimator: Any) -> None:
    """As `fit` would, by the constraints that scikit-learn's estimators declare; others check on their own."""
    if not hasattr(estimator, "_parameter_constraints"):
        return
    try:
        estimator._validate_params()
    except ValueError as exc:
        raise _bad_parameters(candidate, exc) from exc


def _bad_parameters(candidate: Candidate, exc: Exception) -> EstimatorError:
    named = re.match(r"The '(\w+)' parameter of ", str(exc))  # so begins what scikit-learn says
    return EstimatorError(
        f"{candidate.estimator.rpartition('.')[2]} does not take these parameters",
        field=("params", named[1]) if named and named[1] in candidate.params else ("params",),
        where=_where(candidate),
        got=str(exc),
        fix="correct params in the declaration",
    )


def _where(candidate: Candidate) -> str:
    return f"candidate {candidate.name}"
