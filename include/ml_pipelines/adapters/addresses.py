"""Addresses of servers, databases and files: variables, credentials, and the form without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from ml_pipelines.errors import SourceNotFound

__all__ = ["expand_variables", "redact", "split_credentials"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")
_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]*@")
_WEB_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
_SECRET_OPTION = re.compile(r"(?i)(?<=[?&])(user|password|token)=[^&\s'\"]*")


def redact(text: str) -> str:
    """Return a text without secrets in its addresses.

    Users and passwords, the queries of web addresses, and secret options of database URLs are removed.
    """
    text = _USER_INFO.sub("", text)
    text = _WEB_QUERY.sub(r"\1", text)
    return _SECRET_OPTION.sub(r"\1=***", text)


def split_credentials(address: str) -> tuple[str, tuple[str, str] | None]:
    """Split a web address into the address without credentials, and its decoded user and password.

    Returns:
        The address as it is and None if it has no credentials, or is no web address.
    """
    parts = urlsplit(address)
    user_info, at, server = parts.netloc.rpartition("@")
    if parts.scheme not in ("http", "https") or not at:
        return address, None
    user, _, password = user_info.partition(":")
    return parts._replace(netloc=server).geturl(), (unquote(user), unquote(password))


def expand_variables(text: str, environment: Mapping[str, str], *, field: str) -> str:
    """Replace `${NAME}` and `${NAME:-default}` in a text, as a shell does.

    Args:
        text: the declared address.
        environment: name -> value. An empty value counts as unset.
        field: field of the declaration, such as `data.dvc.repo`; for the error.

    Raises:
        SourceNotFound: a variable has neither a value nor a default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if result := environment.get(name) or default:
            return result
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
