"""Find the class of an estimator by its import path, in an allowed package."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, NamedTuple

from ml_pipelines.errors import EstimatorError, MissingExtra, UserCodeError
from ml_pipelines.pipeline.user_code import import_path, load_code
from ml_pipelines.spec.code_folder_import import enable_code_folder
from ml_pipelines.spec.code_packages import (
    DEFAULT_PACKAGES,
    PACKAGES_VARIABLE,
    allowed_packages,
    is_allowed_package,
    top_level,
)
from ml_pipelines.spec.metric_table import Task

__all__ = ["Declared", "check_names", "check_task", "find_class"]

_KINDS: Mapping[Task, str] = {"classification": "classifier", "regression": "regressor"}
_MIXINS: Mapping[Task, str] = {"classification": "ClassifierMixin", "regression": "RegressorMixin"}


class Declared(NamedTuple):
    """An estimator in a declaration.

    Attributes:
        path: import path of the class.
        params: its arguments.
        where: name of the candidate, for messages.
        task: the task that it must be able to do; None for an estimator that is an argument of another one.
        field: path of its field below the candidate; empty for the candidate itself.
    """

    path: str
    params: Mapping[str, Any]
    where: str
    task: Task | None = None
    field: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The top-level package."""
        return top_level(self.path)

    @property
    def name(self) -> str:
        """The name of the class."""
        return import_path(self.path)[1]

    def error(self, what: str, *, field: tuple[str, ...] = ("estimator",), **facts: Any) -> EstimatorError:
        """Return an error about this estimator, at one of its fields."""
        return EstimatorError(what, field=(*self.field, *field), where=self.where, **facts)


def find_class(declared: Declared) -> Any:
    """Import the class of an estimator. The package is imported only if it is allowed.

    Raises:
        EstimatorError: the package is not allowed, or has no such public estimator for the task.
        MissingExtra: the package is not installed.
    """
    package, *rest = parts = declared.path.replace(":", ".").split(".")
    if not is_allowed_package(package):
        raise declared.error(
            f"{declared.path} is not from an allowed package",
            expected=f"an import path that starts with {' or '.join(allowed_packages())}",
            fix="name an estimator of such a package, as in sklearn.ensemble.RandomForestClassifier, "
            f"or allow {package!r} by {PACKAGES_VARIABLE}",
        )
    if not rest or any(not part.isidentifier() or part.startswith("_") for part in parts):
        raise _unknown(declared)
    kind = _library_class(declared, parts) if package in DEFAULT_PACKAGES else _user_class(declared)
    if not _is_estimator(kind, declared):
        raise _unknown(declared)
    if declared.task is not None and _is_kind_of(kind, declared.task) is False:
        raise _wrong_kind(declared)
    return kind


def check_task(declared: Declared, estimator: Any) -> None:
    """Raise EstimatorError if an estimator, as it is configured, can't do the task of the declaration."""
    from sklearn import base

    if declared.task is None:
        return
    is_right = base.is_classifier if declared.task == "classification" else base.is_regressor
    if is_right(estimator):
        return
    mixin = _MIXINS[declared.task]
    if isinstance(estimator, getattr(base, mixin)):
        raise declared.error(
            f"scikit-learn does not take {declared.name} for a {_KINDS[declared.task]}",
            expected=f"class {declared.name}({mixin}, BaseEstimator)",
            got=f"the bases {', '.join(kind.__name__ for kind in type(estimator).__bases__)}",
            fix=f"list {mixin} before BaseEstimator",
        )
    raise _wrong_kind(declared)


def check_names(declared: Declared, kind: Any) -> None:
    """Raise EstimatorError for an argument that a class does not have."""
    names = _parameter_names(kind)
    for name in declared.params:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            raise declared.error(
                f"{kind.__name__} has no parameter {name!r}",
                field=("params", name),
                at_key=True,
                expected=f"one of {', '.join(sorted(names))}",
                got=name,
                fix=f"did you mean {close[0]}?" if close else "remove it, or choose one of those listed",
            )


def _is_kind_of(kind: Any, task: Task) -> bool | None:
    """Whether a class does a task; None if that depends on its arguments, as for a search."""
    from sklearn import base

    if (known := getattr(kind, "_estimator_type", None)) is not None:
        return bool(known == _KINDS[task])
    if issubclass(kind, getattr(base, _MIXINS[task])):
        return True
    return None if issubclass(kind, base.MetaEstimatorMixin) or kind.__name__ == "Pipeline" else False


def _wrong_kind(declared: Declared) -> EstimatorError:
    kind = _KINDS[declared.task or "classification"]
    return declared.error(
        f"{declared.name} is no {kind}",
        expected=f"a {kind}, since model.task is {declared.task}",
        fix=_did_you_mean(declared) or f"choose a {kind}",
    )


def _parameter_names(kind: Any) -> list[str]:
    declared = signature(kind).parameters.values()
    names = [parameter.name for parameter in declared if parameter.kind is not Parameter.VAR_KEYWORD]
    # XGBoost's classes pass their arguments on to a base class.
    return names if len(names) == len(declared) else sorted({*names, *kind().get_params(deep=False)})


def _is_estimator(kind: Any, declared: Declared) -> bool:
    """Whether an object is a class of the package that can be an estimator, or its argument.

    The kernels of Gaussian processes are no estimators, but have parameters as these.
    """
    if not isinstance(kind, type) or kind.__module__.partition(".")[0] != declared.package:
        return False
    from ml_pipelines.modeling.native_models import LIBRARIES

    if declared.package in LIBRARIES:
        return kind.__name__ in LIBRARIES[declared.package].classes
    from sklearn.base import BaseEstimator

    return issubclass(kind, BaseEstimator) or (declared.task is None and hasattr(kind, "get_params"))


def _library_class(declared: Declared, parts: list[str]) -> Any:
    package = declared.package
    try:
        import_module(package)
    except ModuleNotFoundError as exc:
        if exc.name != package:
            raise
        extra = "ml" if package == "sklearn" else package
        raise MissingExtra(
            f"the package {package!r} is not installed",
            where=declared.where,
            fix=f'install it: pip install "airflow-provider-ml-pipelines[{extra}]", and on every worker',
        ) from exc
    try:
        return getattr(import_module(".".join(parts[:-1])), parts[-1])
    except (ModuleNotFoundError, AttributeError) as exc:
        raise _unknown(declared) from exc


def _user_class(declared: Declared) -> Any:
    """Import a class of a package that the deployment allows."""
    enable_code_folder()
    if find_spec(declared.package) is None:
        raise MissingExtra(
            f"the package {declared.package!r} is not installed",
            where=declared.where,
            fix=f"install it: pip install {declared.package}, and on every worker; "
            "a module of your own lies beside the declaration",
        )
    try:
        return load_code(declared.path, where=declared.where)
    except UserCodeError as exc:
        facts: dict[str, str] = {"expected": exc.expected, "got": exc.got, "fix": exc.fix}
        raise EstimatorError(
            exc.what, field=(*declared.field, "estimator"), at_key=False, where=exc.where, **facts
        ) from exc


def _unknown(declared: Declared) -> EstimatorError:
    kind = _KINDS[declared.task] if declared.task else "estimator"
    return declared.error(
        f"there is no estimator {declared.path}",
        expected=f"the public import path of a {kind}" if declared.task else "the public import path of an estimator",
        fix=_did_you_mean(declared) or "look the import path up in the package's documentation",
    )


def _did_you_mean(declared: Declared) -> str:
    paths = _known_estimators(declared.package, declared.task)
    close = get_close_matches(declared.name, paths, n=1, cutoff=0.6)
    return f"did you mean {paths[close[0]]}?" if close else ""


def _known_estimators(package: str, task: Task | None) -> dict[str, str]:
    """Import paths by class name."""
    if package == "sklearn":
        from sklearn.utils import all_estimators

        estimators = all_estimators(type_filter=_KINDS[task] if task else None)
        return {name: f"{kind.__module__.partition('._')[0]}.{name}" for name, kind in estimators}
    members = {name: kind for name, kind in vars(import_module(package)).items() if isinstance(kind, type)}
    right = {name: kind for name, kind in members.items() if task is None or _is_kind_of(kind, task)}
    return {name: f"{package}.{name}" for name in right}
