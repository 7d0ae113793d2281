"""The address that a connection means, however it was entered."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from ml_pipelines.errors import PipelineError

__all__ = ["connection_address"]

# A path, or a place that ssh knows: `git@host:team/data.git`.
_AS_IT_IS = re.compile(r"[/.~]|[\w.-]+@[^:/]+:|[\w.-]+:(?!\d+(/|$))")


def connection_address(connection: Any, *, protocol: str) -> str:
    """One address of host, port and schema; empty if there is no host.

    The host may be a whole address. If it is a name alone, as in a connection given by URI, `protocol` goes before it,
    or the schema if that is `http` or `https`; any other schema is a path on the server.

    Args:
        connection: Airflow's.
        protocol: `http` or `https`.

    Raises:
        PipelineError: the host is no address.
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
            "the connection's host is no address",
            where=f"connection {connection.conn_id!r}",
            expected="an address such as https://host:8080/path; in user and password, special characters as %XX",
            fix="correct the host, or give user and password in their own fields",
        ) from None  # the text of the cause shows a part of the host, which may be a password
    if not parts.hostname:
        return host  # a database in a file
    if connection.port and port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    if schema:
        parts = parts._replace(path=f"{parts.path.rstrip('/')}/{schema}")
    return parts.geturl()
