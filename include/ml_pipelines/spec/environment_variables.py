"""The environment variables that a declaration may name as `${NAME}`: a list, since an address goes to its server.

Variables that begin with `ML_DATA_` are allowed. A deployment allows more by the environment variable
`ML_PIPELINES_ENVIRONMENT_VARIABLES`, a comma-separated list of names; a name that ends in `*` is a prefix. Settings of
Airflow, MLflow and this package are never allowed.
"""

from __future__ import annotations

import functools
import os
import re

from ml_pipelines.errors import RequestError

__all__ = ["DEFAULT_VARIABLES", "VARIABLE", "VARIABLES_VARIABLE", "allowed_variables", "is_allowed_variable"]

VARIABLES_VARIABLE = "ML_PIPELINES_ENVIRONMENT_VARIABLES"
DEFAULT_VARIABLES = ("ML_DATA_*", "ML_PIPELINES_DATA_REPO", "ML_PIPELINES_SAMPLE_DATA")
VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}", re.ASCII)
"""`${NAME}` and `${NAME:-default}`."""

_NEVER = re.compile(r"_?AIRFLOW__|AIRFLOW_(CONN|VAR)_|MLFLOW_|ML_PIPELINES_(?!DATA_REPO$|SAMPLE_DATA$)", re.IGNORECASE)


def allowed_variables() -> tuple[str, ...]:
    """Return the names and prefixes that a declaration may name, without duplicates.

    Raises:
        RequestError: the environment variable holds something else than names.
    """
    return tuple(dict.fromkeys((*DEFAULT_VARIABLES, *_parse(os.environ.get(VARIABLES_VARIABLE, "")))))


def is_allowed_variable(name: str) -> bool:
    """Return whether a declaration may name a variable; raises as :func:`allowed_variables`."""
    if _NEVER.match(name):
        return False
    return any(
        name.startswith(allowed[:-1]) if allowed.endswith("*") else name == allowed for allowed in allowed_variables()
    )


@functools.cache
def _parse(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if wrong := [name for name in names if not re.fullmatch(r"[A-Za-z_]\w*\*?", name, re.ASCII) or _NEVER.match(name)]:
        raise RequestError(
            "a declaration can't be allowed to name this environment variable",
            where=VARIABLES_VARIABLE,
            expected="comma-separated names or prefixes such as DATA_HOST,SHOP_*, and no settings with secrets",
            got=wrong[0],
            fix="correct the list",
        )
    return names
