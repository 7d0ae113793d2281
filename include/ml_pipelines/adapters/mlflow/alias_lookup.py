"""Look up a registry alias without importing MLflow, which takes seconds; a run without a change needs only this.

Servers are read over the REST API, SQLite databases by SQL. After any error the caller uses MLflow itself, which
reports the cause.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["LookupUnsupported", "RegisteredVersion", "lookup_alias"]

SQLITE = "sqlite:///"
NOT_FOUND = 404
SECONDS = (3.05, 10)  # to connect, to answer
# Authentication and protocols that only MLflow implements.
_UNSUPPORTED = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_WORKSPACE",
)
_VERSION = """
    SELECT version FROM registered_model_aliases JOIN model_versions USING (name, version)
    WHERE name = ? AND alias = ? AND current_stage != 'Deleted_Internal'
"""
_ALIASES = "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ?"
_TAGS = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"


class RegisteredVersion(NamedTuple):
    """A registered version, with the fields of MLflow's `ModelVersion` that the registry adapter uses."""

    name: str
    version: str
    tags: dict[str, str]
    aliases: list[str]


class LookupUnsupported(Exception):
    """The look-up needs MLflow itself."""


def lookup_alias(uri: str, model: str, alias: str) -> RegisteredVersion | None:
    """Return the version behind an alias; None without such a model or alias.

    Args:
        uri: address of MLflow; the environment has the credentials, as for MLflow.
        model: name of the registered model.
        alias: name of the alias.

    Raises:
        LookupUnsupported: the address needs MLflow, or the response was unexpected.
    """
    if uri.startswith(SQLITE):
        return _in_database(Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute(), model, alias)
    if uri.startswith(("http://", "https://")) and not any(os.environ.get(name) for name in _UNSUPPORTED):
        return _on_server(f"{uri.rstrip('/')}/api/2.0/mlflow", model, alias)
    raise LookupUnsupported


def _in_database(file: Path, model: str, alias: str) -> RegisteredVersion | None:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute(_VERSION, (model, alias)).fetchone()
            if row is None:
                return None
            aliases = sorted(name for (name,) in connection.execute(_ALIASES, (model, row[0])))
            return RegisteredVersion(
                model, str(row[0]), dict(connection.execute(_TAGS, (model, row[0])).fetchall()), aliases
            )
    except sqlite3.Error as exc:
        raise LookupUnsupported from exc


def _on_server(api: str, model: str, alias: str) -> RegisteredVersion | None:
    from requests import RequestException, Session

    try:
        with Session() as session:
            _authenticate(session)
            registered = _get(session, f"{api}/registered-models/get", name=model)
            if registered is None:
                return None
            entry = registered["registered_model"]
            versions = {row["alias"]: row["version"] for row in entry.get("aliases", [])}
            if entry["name"] != model:
                raise LookupUnsupported
            if alias not in versions:
                return None
            query = {"name": model, "version": str(versions[alias])}
            version = (_get(session, f"{api}/model-versions/get", **query) or {})["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            return RegisteredVersion(version["name"], str(version["version"]), tags, list(version.get("aliases", [])))
    except (RequestException, AttributeError, KeyError, RecursionError, TypeError, ValueError) as exc:
        raise LookupUnsupported from exc


def _authenticate(session: Any) -> None:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        session.auth = (user, password)
    elif token:
        session.headers["Authorization"] = f"Bearer {token}"
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS") == "true"
    session.verify = False if insecure else os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _get(session: Any, address: str, **query: str) -> dict[str, Any] | None:
    """Return the JSON object at an address; None if MLflow has no such object."""
    response = session.get(address, params=query, timeout=SECONDS, allow_redirects=False)
    if response.status_code == NOT_FOUND and response.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return None
    response.raise_for_status()
    return dict(response.json())
