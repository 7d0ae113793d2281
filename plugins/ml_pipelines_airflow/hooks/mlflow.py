"""Hook for MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.hooks.connection_uri import connection_address

__all__ = ["MLflowHook"]

_ADAPTERS = "ml_pipelines.adapters"
TIMEOUTS = (5, 15)  # seconds to connect, and to read
_MAX_MODELS = 1000  # MLflow's largest page
_SQLITE = "sqlite:///"


class MLflowHook(BaseHook):
    """An MLflow server or database.

    The host of the connection is the tracking URI: `https://mlflow.example.com`, a host name with port and the schema
    `https`, or the SQLAlchemy URL of MLflow's database. Login and password are optional. Extra fields: `token` instead
    of a password; `ui_url`, the address for browsers; `verify`, the path of trusted certificates, or false.

    Credentials are in the environment of the process only during a call of MLflow.

    Args:
        mlflow_conn_id: id of the connection.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id

    @cached_property
    def connection(self) -> Any:
        """The connection, read once.

        Raises:
            AirflowNotFoundException: the connection does not exist.
        """
        return self.get_connection(self.mlflow_conn_id)

    @cached_property
    def tracking_uri(self) -> str:
        """Address of the server or database, without the credentials of a server.

        Raises:
            PipelineError: the connection has no host.
        """
        return self._separated[0]

    @cached_property
    def variables(self) -> dict[str, str]:
        """MLflow's environment variables while it is spoken to: credentials and what to trust. Secret."""
        extra = self.connection.extra_dejson
        variables = dict(self._separated[1])
        if token := extra.get("token"):
            variables = {"MLFLOW_TRACKING_TOKEN": str(token)}
        if self.connection.login:
            password = self.connection.password or ""
            variables = {"MLFLOW_TRACKING_USERNAME": self.connection.login, "MLFLOW_TRACKING_PASSWORD": password}
        return variables | self._trust(extra.get("verify"))

    @property
    def ui_url(self) -> str | None:
        """Address of MLflow for browsers; None for a database without `ui_url`."""
        url = self.connection.extra_dejson.get("ui_url")
        return str(url).rstrip("/") if url else (self.tracking_uri.rstrip("/") if self._is_remote else None)

    def get_conn(self) -> Any:
        """A `mlflow.MlflowClient`; each of its calls is signed in, and its errors are MLflow's own."""
        return import_object(f"{_ADAPTERS}.mlflow.credentials:client_with_credentials")(
            self.tracking_uri, self.variables
        )

    def test_connection(self) -> tuple[bool, str]:
        """Return whether MLflow accepts the connection, and a message, within 30 s for a server."""
        try:
            if self._is_remote:
                return self._test_server()
            if self.tracking_uri.startswith(_SQLITE):
                return _test_sqlite(self.tracking_uri)
            with import_object(f"{_ADAPTERS}.mlflow.client:MlflowServer")(self.tracking_uri).client() as client:
                return True, f"MLflow's database has {_models(client.search_registered_models(max_results=100))}"
        except PipelineError as exc:
            return False, " - ".join(part for part in (exc.what, exc.got, exc.fix) if part)

    @cached_property
    def _separated(self) -> tuple[str, dict[str, str]]:
        address = connection_address(self.connection, protocol="http")
        if not address:
            raise PipelineError(
                "the connection has no host",
                where=f"connection {self.mlflow_conn_id!r}",
                expected="MLflow's tracking URI, such as http://mlflow:5000 or sqlite:////data/mlflow.db",
                fix="enter MLflow's tracking URI as the host; for a database, use a connection in JSON",
            )
        split: Callable[[str], tuple[str, dict[str, str]]] = import_object(
            f"{_ADAPTERS}.mlflow.credentials:split_tracking_uri"
        )
        return split(address)

    @property
    def _is_remote(self) -> bool:
        return self.tracking_uri.startswith(("http://", "https://"))

    @staticmethod
    def _trust(verify: Any) -> dict[str, str]:
        text = str("" if verify is None else verify).strip()
        if text.lower() in ("", "true"):
            return {}
        if text.lower() == "false":
            return {"MLFLOW_TRACKING_INSECURE_TLS": "true"}
        return {"MLFLOW_TRACKING_SERVER_CERT_PATH": text}

    def _test_server(self) -> tuple[bool, str]:
        """Test the server without MLflow's client, which takes seconds to import and retries for minutes."""
        import requests

        uri = self.tracking_uri.rstrip("/")
        with requests.Session() as session:
            self._sign(session)
            try:
                models = session.get(
                    f"{uri}/api/2.0/mlflow/registered-models/search",
                    params={"max_results": _MAX_MODELS},
                    timeout=TIMEOUTS,
                )
                version = session.get(f"{uri}/version", timeout=TIMEOUTS)
            except requests.exceptions.SSLError as exc:
                return False, f"{uri} has an untrusted certificate: {exc}"
            except requests.Timeout:
                return False, f"{uri} does not answer within {TIMEOUTS[1]} s"
            except requests.ConnectionError:
                return False, f"{uri} refuses the connection: check that MLflow runs and is reachable from this machine"
            except requests.RequestException as exc:
                return False, f"{uri} is not the address of a server: {exc}"
        return _judge(uri, models, version)

    def _sign(self, session: Any) -> None:
        variables = self.variables
        if token := variables.get("MLFLOW_TRACKING_TOKEN"):
            session.headers["Authorization"] = f"Bearer {token}"
            session.trust_env = False  # otherwise a .netrc replaces the token
        elif user := variables.get("MLFLOW_TRACKING_USERNAME"):
            session.auth = (user, variables["MLFLOW_TRACKING_PASSWORD"])
        trusted = variables.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
        session.verify = trusted or "MLFLOW_TRACKING_INSECURE_TLS" not in variables


def _judge(uri: str, models: Any, version: Any) -> tuple[bool, str]:
    """Return the result of a test from the two responses of a server."""
    if models.status_code == 401:
        return False, f"{uri} rejects the credentials"
    if models.status_code == 403:
        return False, f"{uri} denies access: {' '.join(models.text.split())[:200]}"
    if models.status_code >= 500:
        return False, f"{uri} returned a server error: {models.status_code} {models.reason}"
    try:
        content = models.json()
    except (ValueError, RecursionError):
        content = None
    rows = content.get("registered_models", []) if isinstance(content, dict) else None
    if not models.ok or not isinstance(rows, list):
        kind = models.headers.get("Content-Type", "no content type").partition(";")[0]
        return False, f"{uri} is not MLflow: it answered {models.status_code} with {kind}"
    summary = _models(rows, more=bool(content.get("next_page_token")))
    return True, f"MLflow {version.text.strip()} with {summary}" if version.ok else f"MLflow with {summary}"


def _models(models: Any, *, more: bool = False) -> str:
    count = f"{len(models)}{' or more' if more else ''}"
    return f"{count} registered model{'' if count == '1' else 's'}"


def _test_sqlite(uri: str) -> tuple[bool, str]:
    """Return whether a file is MLflow's database, and a message. The file is opened read-only."""
    file = Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute()
    if not file.is_file():
        return (
            False,
            f"the file {file} does not exist on this machine; the first run creates it, or: mlflow db upgrade {uri}",
        )
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=TIMEOUTS[0])) as database:
            (revision,) = database.execute("select version_num from alembic_version").fetchone()
            names = database.execute("select name from registered_models").fetchall()
    except sqlite3.OperationalError as exc:
        if "no such table" not in str(exc):
            return False, f"{file} cannot be read: {exc}"
        return False, f"{file} is not a current MLflow database; to migrate it: mlflow db upgrade {uri}"
    except sqlite3.DatabaseError as exc:
        return False, f"{file} is not a SQLite database: {exc}"
    return True, f"MLflow's database at revision {revision} with {_models(names)}"
