"""The packages that an estimator may come from: importing one runs its code, so a declaration can't add any.

scikit-learn and LightGBM are allowed. A deployment allows more by the environment variable
`ML_PIPELINES_ESTIMATOR_PACKAGES`, a comma-separated list of import names. An installed package allows more by an
entry point in the group `ml_pipelines.estimator_packages`, whose name is the import name.
"""

from __future__ import annotations

import functools
import os

from ml_pipelines._utils.entry_points import find_entry_points
from ml_pipelines.errors import RequestError

__all__ = ["DEFAULT_PACKAGES", "PACKAGES_GROUP", "PACKAGES_VARIABLE", "allowed_packages", "is_allowed_package"]

DEFAULT_PACKAGES = ("sklearn", "lightgbm")
PACKAGES_VARIABLE = "ML_PIPELINES_ESTIMATOR_PACKAGES"
PACKAGES_GROUP = "ml_pipelines.estimator_packages"


def allowed_packages() -> tuple[str, ...]:
    """Return the import names of all packages that an estimator may come from, without duplicates.

    Raises:
        RequestError: the environment variable holds something else than import names.
    """
    return tuple(dict.fromkeys((*_configured_packages(), *sorted(find_entry_points(PACKAGES_GROUP)))))


def is_allowed_package(package: str) -> bool:
    """Return whether an estimator may come from a package; raises as :func:`allowed_packages`."""
    # The search for entry points takes milliseconds: only a package that is not configured needs it.
    return package in _configured_packages() or package in find_entry_points(PACKAGES_GROUP)


def _configured_packages() -> tuple[str, ...]:
    return (*DEFAULT_PACKAGES, *_parse(os.environ.get(PACKAGES_VARIABLE, "")))


@functools.cache
def _parse(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if wrong := [name for name in names if not name.isidentifier()]:
        raise RequestError(
            "an estimator package is not an import name",
            where=PACKAGES_VARIABLE,
            expected="comma-separated import names of top-level packages, such as xgboost,catboost",
            got=wrong[0],
            fix="correct the variable",
        )
    return names
