"""What an alias points to, read without MLflow: importing that takes seconds, and a run on nothing new asks no more.

A server is asked over its REST API, a SQLite database by SQL. Only a plain answer counts; after whatever else happens
MLflow itself is asked, and tells what is wrong.
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
# Ways to sign in, or to speak to a server, that only MLflow knows.
_BEYOND = (
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
    """A registered version, with the fields of MLflow's own that are used here."""

    name: str
    version: str
    tags: dict[str, str]
    aliases: list[str]


class LookupUnsupported(Exception):
    """MLflow has to be asked."""


def lookup_alias(uri: str, model: str, alias: str) -> RegisteredVersion | None:
    """The version that an alias points to, None if there is no such model or alias.

    Args:
        uri: where MLflow is; credentials are in the environment, as MLflow reads them.
        model: name of the registered model.
        alias: name of the alias.

    Raises:
        LookupUnsupported: this place is spoken to in another way, or gave no plain answer.
    """
    if uri.startswith(SQLITE):
        return _in_database(Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute(), model, alias)
    if uri.startswith(("http://", "https://")) and not any(os.environ.get(name) for name in _BEYOND):
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
            _sign_in(session)
            found = _get(session, f"{api}/registered-models/get", name=model)
            versions = {each["alias"]: each["version"] for each in found.get("registered_model", {}).get("aliases", [])}
            if alias not in versions:
                return None
            query = {"name": model, "version": str(versions[alias])}
            version = _get(session, f"{api}/model-versions/get", **query)["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            return RegisteredVersion(version["name"], str(version["version"]), tags, list(version.get("aliases", [])))
    except (RequestException, KeyError, TypeError, ValueError) as exc:
        raise LookupUnsupported from exc


def _sign_in(session: Any) -> None:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        session.auth = (user, password)
    elif token:
        session.headers["Authorization"] = f"Bearer {token}"
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS") == "true"
    session.verify = False if insecure else os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _get(session: Any, address: str, **query: str) -> dict[str, Any]:
    answer = session.get(address, params=query, timeout=SECONDS, allow_redirects=False)
    if answer.status_code == NOT_FOUND and answer.json().get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return {}
    answer.raise_for_status()
    return dict(answer.json())
