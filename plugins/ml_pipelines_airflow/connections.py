"""Settings of the pipelines from Airflow's configuration and connections."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_pipelines.errors import SourceError
from ml_pipelines.services.settings import Settings, cells_per_group
from ml_pipelines.spec.environment_variables import is_allowed_variable
from ml_pipelines.store.signatures import SIGNING_KEY, VERIFICATION_KEY
from ml_pipelines_airflow.config import export_allow_lists, option

__all__ = ["airflow_settings", "store_uri"]


class _Connections(Mapping[str, str]):
    """Airflow's connections as the texts that sources read, each looked up once, on first use."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = _connection_text(name)
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(())  # Airflow does not list connections to a task.

    def __len__(self) -> int:
        return 0


def _connection_text(name: str) -> str:
    """Return a DVC connection as JSON, and a database connection as its SQLAlchemy URL.

    Raises:
        KeyError: Airflow has no such connection.
        SourceError: the connection is neither of type `dvc` nor that of a database.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

    from ml_pipelines_airflow.hooks.dvc import DvcHook

    try:
        connection = BaseHook.get_connection(name)
        if connection.conn_type == DvcHook.conn_type:
            return DvcHook(name).connection_text()
        hook: Any = connection.get_hook()  # type: ignore[no-untyped-call]  # Airflow has no types here
    except AirflowNotFoundException as exc:
        raise KeyError(name) from exc
    except AirflowException as exc:
        raise _wrong_type(name, connection.conn_type) from exc
    if not hasattr(hook, "get_uri"):
        raise _wrong_type(name, connection.conn_type)
    return str(hook.get_uri())


def _wrong_type(name: str, conn_type: str | None) -> SourceError:
    return SourceError(
        f"the connection {name!r} has a type that is not a data source",
        expected="a connection of a database, or one of type dvc",
        got=f"type {conn_type}",
        fix="use another connection; for a database of an unknown type, install its Airflow provider",
    )


def airflow_settings(mlflow_conn_id: str | None = None) -> Settings:
    """Return the settings of this Airflow deployment.

    The store comes from `[ml_pipelines] store`. MLflow and the ledger come from a connection, else from the
    environment, else from a file in AIRFLOW_HOME.

    Args:
        mlflow_conn_id: connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`, if it exists.

    Raises:
        AirflowNotFoundException: Airflow has no connection `mlflow_conn_id`.
    """
    export_allow_lists()
    return Settings(
        store=store_uri(),
        ledger=_ledger_uri(),
        connections=_Connections(),
        environment={name: value for name, value in os.environ.items() if is_allowed_variable(name)},
        signing_key=os.environ.get(SIGNING_KEY, ""),
        verification_key=os.environ.get(VERIFICATION_KEY, ""),
        cells_per_group=cells_per_group(option("cells_per_group"), "[ml_pipelines] cells_per_group"),
        **(
            _mlflow_settings(mlflow_conn_id)
            or {"tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_home()}/mlflow.db"}
        ),
    )


def store_uri() -> str:
    """Return the URI of the artifact store."""
    return option("store") or f"file://{_home()}/store"


def _ledger_uri() -> str:
    try:
        return _connection_text(option("ledger_conn_id"))
    except KeyError:
        return os.environ.get("ML_PIPELINES_LEDGER") or f"sqlite:///{_home()}/ledger.db"


def _home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "ml_pipelines"


def _mlflow_settings(conn_id: str | None) -> dict[str, Any] | None:
    """Return the settings of a connection to MLflow; None if the default connection does not exist."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    from ml_pipelines_airflow.hooks.mlflow import MLflowHook

    hook = MLflowHook(conn_id or option("mlflow_conn_id"))
    try:
        return {
            "tracking_uri": hook.tracking_uri,
            "tracking_ui": hook.ui_url,
            "tracking_variables": hook.variables,
        }
    except AirflowNotFoundException:
        if conn_id:
            raise
        return None
