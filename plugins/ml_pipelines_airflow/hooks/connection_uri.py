"""The address of a connection, independent of how it was entered."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from ml_pipelines.errors import PipelineError

__all__ = ["connection_address"]

# A path, or an ssh location: `git@host:team/data.git`.
_AS_IT_IS = re.compile(r"[/.~]|[\w.-]+@[^:/]+:|[\w.-]+:(?!\d+(/|$))")


def connection_address(connection: Any, *, protocol: str) -> str:
    """Return the address that host, port and schema form; empty without a host.

    The host can be a complete address. A host name gets the prefix `protocol`, or the schema if it is `http` or
    `https`. Any other schema is a path on the server.

    Args:
        connection: connection of Airflow.
        protocol: `http` or `https`.

    Raises:
        PipelineError: the host is not an address.
    """
    host, schema = (connection.host or "").strip(), (connection.schema or "").strip("/")
    if schema in ("http", "https"):
        protocol, schema = schema, ""
    if "://" not in host:
        if not host or _AS_IT_IS.match(host):
            return host
        host = f"{protocol}://{host}"
    try:
        parts, port = urlsplit(host), urlsplit(host).port
    except ValueError:
        raise PipelineError(
            "the host of the connection is not an address",
            where=f"connection {connection.conn_id!r}",
            expected="an address such as https://host:8080/path; in user and password, special characters as %XX",
            fix="correct the host, or enter user and password in their own fields",
        ) from None  # the cause contains a part of the host, which can be a password
    if not parts.hostname:
        return host  # a database in a file
    if connection.port and port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    if schema:
        parts = parts._replace(path=f"{parts.path.rstrip('/')}/{schema}")
    return parts.geturl()
