"""Addresses of a declaration: as declared, and with the values of their variables for the source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ml_pipelines._utils.addresses import Address, redact, redact_address, replace_secret
from ml_pipelines.errors import SourceError, SourceNotFound
from ml_pipelines.spec.environment_variables import VARIABLE, VARIABLES_VARIABLE, allowed_variables, is_allowed_variable

__all__ = ["DeclaredAddress", "redact", "redact_address", "resolve_address", "split_credentials"]


@dataclass(frozen=True, slots=True)
class DeclaredAddress:
    """An address of a declaration.

    Attributes:
        text: the address with the values of its variables. Secret.
        shown: the address as declared, without credentials; for pins, messages and logs.
        values: variable -> value. Secret.
        secrets: further texts that no message may have.
    """

    text: str = field(repr=False)
    shown: str
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def has_variables(self) -> bool:
        """Whether the declaration names environment variables."""
        return VARIABLE.search(self.shown) is not None

    def redact(self, message: str) -> str:
        """Return a message of a library with the declared text in place of the address and of the values."""
        message = replace_secret(message, self.text, self.shown)
        for name, value in sorted(self.values.items(), key=lambda item: -len(item[1])):
            message = redact(replace_secret(message, value, f"${{{name}}}"), value)
        for secret in self.secrets:
            message = replace_secret(redact(message, secret), secret, "***")
        return redact(message, self.text)


def resolve_address(declared: str, environment: Mapping[str, str], *, field: str) -> DeclaredAddress:
    """Replace `${NAME}` and `${NAME:-default}` in a declared address, as a shell does.

    Args:
        declared: the text of the declaration.
        environment: name -> value. An empty value counts as unset.
        field: field of the declaration, such as `data.dvc.repo`; for the error.

    Raises:
        SourceError: the deployment does not allow the declaration to name a variable.
        SourceNotFound: a variable has neither a value nor a default.
    """
    values: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if not is_allowed_variable(name):
            raise _forbidden(name, field)
        if content := environment.get(name):
            values[name] = content
            return content
        if default is None:
            raise _unset(name, field, "an empty value" if name in environment else "")
        return str(default)

    return DeclaredAddress(VARIABLE.sub(value, declared), redact_address(declared), values)


def _forbidden(name: str, field: str) -> SourceError:
    return SourceError(
        f"a declaration may not name the environment variable {name}",
        where=field,
        expected=f"one of {', '.join(allowed_variables())}",
        got=f"${{{name}}}",
        fix=f"rename the variable to ML_DATA_..., or allow it where the pipelines run, by {VARIABLES_VARIABLE}",
    )


def _unset(name: str, field: str, got: str) -> SourceNotFound:
    return SourceNotFound(
        f"the environment variable {name} is not set",
        where=field,
        expected=f"a value for ${{{name}}}",
        got=got,
        fix=f"set {name} where the task runs, or declare a default: ${{{name}:-...}}",
    )


def split_credentials(address: str) -> tuple[str, tuple[str, str] | None]:
    """Split a web address into the address without credentials, and its decoded user and password.

    Returns:
        The address as it is and None if it has no credentials, or is no web address.
    """
    parts = Address.parse(address)
    if parts is None or parts.scheme not in ("http", "https"):
        return address, None
    user = None if parts.user is None else (parts.user, parts.password or "")
    return parts.without_credentials, user
