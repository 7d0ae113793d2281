"""The packages whose code a declaration may name. To import a package runs its code, so a declaration can't add any.

scikit-learn, LightGBM, XGBoost and CatBoost are allowed. A deployment allows more by the environment variable
`ML_PIPELINES_CODE_PACKAGES`, a comma-separated list of import names. An installed package allows more by an entry point
in the group `ml_pipelines.code_packages`, whose name is the import name. A module beside the declaration has to be
allowed by its name in the same way.

skops stores an estimator if all types that it holds are trusted, see :mod:`ml_pipelines.modeling.trusted_types`. An
estimator of an allowed package whose type is not trusted is stored as a pickle, unless the deployment forbids it by
`ML_PIPELINES_CODE_PICKLE=forbid`. A deployment that allows no package beside the default ones loads no pickle.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Annotated

from pydantic import Field

from ml_pipelines._utils.entry_points import find_entry_points
from ml_pipelines.errors import RequestError

__all__ = [
    "CODE_PATH",
    "DEFAULT_PACKAGES",
    "PACKAGES_GROUP",
    "PACKAGES_VARIABLE",
    "PICKLE_VARIABLE",
    "CodePath",
    "allowed_packages",
    "is_allowed_package",
    "is_code_path",
    "is_configured_package",
    "may_pickle",
    "top_level",
]

DEFAULT_PACKAGES = ("sklearn", "lightgbm", "xgboost", "catboost")
PACKAGES_VARIABLE = "ML_PIPELINES_CODE_PACKAGES"
PICKLE_VARIABLE = "ML_PIPELINES_CODE_PICKLE"
PACKAGES_GROUP = "ml_pipelines.code_packages"
CODE_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
CodePath = Annotated[str, Field(pattern=CODE_PATH)]
"""An import path `module:name` of a function or class."""


def allowed_packages() -> tuple[str, ...]:
    """Return the import names of all packages whose code a declaration may name, without duplicates.

    Raises:
        RequestError: the environment variable holds something else than import names.
    """
    return tuple(dict.fromkeys((*_configured_packages(), *sorted(find_entry_points(PACKAGES_GROUP)))))


def is_allowed_package(package: str) -> bool:
    """Return whether a declaration may name code of a package; raises as :func:`allowed_packages`."""
    # The search for entry points takes milliseconds: only a package that is not configured needs it.
    return package in _configured_packages() or package in find_entry_points(PACKAGES_GROUP)


def is_configured_package(package: str) -> bool:
    """Return whether the deployment allows a package by the environment variable."""
    return package in _parse(os.environ.get(PACKAGES_VARIABLE, ""))


def may_pickle() -> bool:
    """Return whether this process may store and load pickled estimators.

    Raises:
        RequestError: the environment variable has another value than `allow` or `forbid`.
    """
    value = os.environ.get(PICKLE_VARIABLE, "").strip() or "allow"
    if value not in ("allow", "forbid"):
        raise RequestError(
            "the policy for pickled models is not valid",
            where=PICKLE_VARIABLE,
            expected="allow or forbid",
            got=value,
            fix="correct the variable",
        )
    return value == "allow" and set(allowed_packages()) > set(DEFAULT_PACKAGES)


def is_code_path(path: str) -> bool:
    """Return whether a text has the form `module:name`."""
    return re.match(CODE_PATH, path, re.ASCII) is not None


def top_level(path: str) -> str:
    """Return the import name of the package of `package.module:name` or `package.module.name`."""
    return path.partition(":")[0].partition(".")[0]


def _configured_packages() -> tuple[str, ...]:
    return (*DEFAULT_PACKAGES, *_parse(os.environ.get(PACKAGES_VARIABLE, "")))


@functools.cache
def _parse(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if wrong := [name for name in names if not name.isidentifier()]:
        raise RequestError(
            "a code package is not an import name",
            where=PACKAGES_VARIABLE,
            expected="comma-separated import names of top-level packages, such as ngboost,shop_features",
            got=wrong[0],
            fix="correct the variable",
        )
    return names
