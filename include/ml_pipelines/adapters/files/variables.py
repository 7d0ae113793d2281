"""`${NAME}` and `${NAME:-default}` in a declared address, replaced when the address is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ml_pipelines.errors import SourceNotFound

__all__ = ["expand_variables"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


def expand_variables(text: str, environment: Mapping[str, str], *, field: str) -> str:
    """Replace the variables in a text, as a shell would.

    Args:
        text: what the declaration says.
        environment: name -> value. An empty value counts as none.
        field: where the text is declared, such as `data.dvc.repo`; for the error.

    Raises:
        SourceNotFound: a variable has neither a value nor a default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if found := environment.get(name) or default:
            return found
        if default is not None:
            return ""
        raise SourceNotFound(
            f"the environment variable {name} is not set",
            where=field,
            expected=f"a value for ${{{name}}}",
            got="an empty value" if name in environment else "",
            fix=f"set {name} where the task runs, or declare a default: ${{{name}:-...}}",
        )

    return _VARIABLE.sub(value, text)
