"""Build estimators from import paths of allowed packages, and validate their parameters before a fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ml_pipelines._utils.error_kinds import kind_of_error
from ml_pipelines.errors import EstimatorError, MissingExtra, ModelError, PipelineError, TransientError
from ml_pipelines.modeling.estimator_classes import Declared, check_names, check_task, find_class
from ml_pipelines.modeling.weights_and_calibration import check_options
from ml_pipelines.pipeline.user_errors import error_text
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.nested_estimators import is_nested
from ml_pipelines.spec.training import Candidate

if TYPE_CHECKING:
    from ml_pipelines.spec.training import PipelineSpec

__all__ = ["build_estimator", "estimator_errors", "require_scikit_learn", "validate_candidates"]

_FIX = "correct the candidate's params, or choose another estimator"

# Parameters that make results independent of the number of CPUs, and silence standard output.
_PACKAGE_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "lightgbm": {"deterministic": True, "force_row_wise": True, "verbosity": -1}
}


def build_estimator(candidate: Candidate, *, task: Task, seed: int) -> Any:
    """Return the estimator of a candidate, not yet fitted.

    `random_state` is the seed, where an estimator has that parameter and the candidate does not set it.

    Raises:
        EstimatorError: the package is not allowed, the estimator is unknown or does not fit the task, or a parameter is
            wrong.
        MissingExtra: the package is not installed.
    """
    where = f"candidate {candidate.name}"
    estimator = _build(Declared(candidate.estimator, candidate.params, where, task), seed)
    check_options(candidate, estimator, task)
    return _storable(candidate.estimator, estimator)


@contextmanager
def estimator_errors(what: str, *, where: str, params: Mapping[str, Any], fix: str = _FIX) -> Iterator[None]:
    """Convert every exception of an estimator into a ModelError, which is not retried.

    A full disk, an unreachable server, a killed worker process and a lack of memory are no errors of the estimator.

    Args:
        what: sentence about the failure.
        where: the candidate, and the rows that it worked on.
        params: declared parameters of the candidate; empty if they are not the cause.
        fix: what to do about it.
    """
    try:
        yield
    except PipelineError as exc:
        exc.where = exc.where or where
        raise
    except (MemoryError, BrokenExecutor):
        raise
    except Exception as exc:  # an estimator may raise anything
        if (kind := kind_of_error(exc)) and kind.is_transient:
            raise TransientError(what, where=where, got=error_text(exc), fix="try again") from exc
        where = f"{where}, params {dict(params)}" if params else where
        raise ModelError(what, where=where, got=error_text(exc), fix=fix) from exc


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


def _build(declared: Declared, seed: int) -> Any:
    kind = find_class(declared)
    try:
        check_names(declared, kind)
        params = {name: _argument(declared, name, value, seed) for name, value in declared.params.items()}
        return _configured(kind, declared._replace(params=params), seed)
    except (PipelineError, MemoryError):
        raise
    except Exception as exc:  # an estimator may raise anything, also when it is configured
        raise _bad_parameters(declared, exc) from exc


def _argument(declared: Declared, name: str, value: Any, seed: int) -> Any:
    """Return an argument of an estimator. It may be another estimator, or a list of these with names."""
    field = (*declared.field, "params", name)
    if is_nested(value):
        return _nested(declared, field, value, seed)
    if isinstance(value, Mapping) and any(map(is_nested, value.values())):
        return [(key, _nested(declared, (*field, key), item, seed)) for key, item in value.items()]
    return value


def _nested(declared: Declared, field: tuple[str, ...], value: Any, seed: int) -> Any:
    if not is_nested(value):
        return value  # such as "drop" or "passthrough"
    inner = Declared(value["estimator"], value.get("params", {}), declared.where, field=field)
    if unknown := [name for name in value if name not in ("estimator", "params")]:
        raise inner.error(
            f"a nested estimator has no field {unknown[0]!r}",
            field=(unknown[0],),
            at_key=True,
            expected="estimator and params",
            fix="move the arguments of the estimator below its params",
        )
    return _storable(inner.path, _build(inner, seed))


def _storable(path: str, estimator: Any) -> Any:
    """Return an estimator that a model file can hold."""
    from ml_pipelines.modeling.pickled_models import is_pickled, wrap_pickled

    return wrap_pickled(path, estimator) if is_pickled(path) else estimator


def _configured(kind: Any, declared: Declared, seed: int) -> Any:
    estimator = _instance(kind, declared, seed)
    check_task(declared, estimator)
    if declared.task == "classification" and not hasattr(estimator, "predict_proba"):
        raise declared.error(
            f"{kind.__name__} predicts no probabilities",
            expected="a classifier with predict_proba, as it is configured",
            fix="choose another estimator, such as sklearn.linear_model.LogisticRegression",
        )
    return estimator


def _instance(kind: Any, declared: Declared, seed: int) -> Any:
    from ml_pipelines.modeling.native_models import LIBRARIES, wrap_native

    if declared.package in LIBRARIES:
        kind(**declared.params)  # raises for arguments that the class refuses
        return wrap_native(f"{declared.package}.{kind.__name__}", declared.params, kind=kind, seed=seed)
    estimator = kind(**_PACKAGE_PARAMETERS.get(declared.package, {}), **declared.params)
    has_seed = "random_state" in estimator.get_params(deep=False)
    if has_seed and declared.params.get("random_state") is None:
        estimator.set_params(random_state=seed)
    if declared.path == "sklearn.ensemble.StackingClassifier" and estimator.final_estimator is None:
        # The default of its `fit`. Without it, the class has no predict_proba before the fit.
        estimator.set_params(final_estimator=import_module("sklearn.linear_model").LogisticRegression())
    _check_values(declared, estimator)
    return estimator


def _check_values(declared: Declared, estimator: Any) -> None:
    """As `fit` would, by the constraints that scikit-learn's estimators declare; others check on their own."""
    if not hasattr(estimator, "_parameter_constraints"):
        return
    try:
        estimator._validate_params()
    except ValueError as exc:
        raise _bad_parameters(declared, exc) from exc


def _bad_parameters(declared: Declared, exc: Exception) -> EstimatorError:
    named = re.match(r"The '(\w+)' parameter of ", str(exc))  # the start of scikit-learn's message
    return declared.error(
        f"{declared.name} does not take these parameters",
        field=("params", named[1]) if named and named[1] in declared.params else ("params",),
        got=str(exc),
        fix="correct params in the declaration",
    )
