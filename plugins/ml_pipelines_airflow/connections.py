"""Where the systems are, as Airflow's configuration and connections say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_pipelines.errors import SourceError
from ml_pipelines.services.settings import Settings, cells_per_group
from ml_pipelines_airflow.config import option

__all__ = ["airflow_settings", "store_uri"]


class _Connections(Mapping[str, str]):
    """Airflow's connections as a pipeline takes them, each looked up once, when it is used."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._found:
            self._found[name] = _connection(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(())  # Airflow does not list connections to a task.

    def __len__(self) -> int:
        return 0


def _connection(name: str) -> str:
    """A DVC connection as JSON, that of a database as its SQLAlchemy URL.

    Raises:
        KeyError: there is no such connection.
        SourceError: it is of neither kind.
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
        raise _no_source(name, connection.conn_type) from exc
    if not hasattr(hook, "get_uri"):
        raise _no_source(name, connection.conn_type)
    return str(hook.get_uri())


def _no_source(name: str, kind: str | None) -> SourceError:
    return SourceError(
        f"the connection {name!r} is none that rows can be read from",
        expected="a connection of a database, or one of type dvc",
        got=f"type {kind}",
        fix="name another connection; for a database whose type is not known here, install its provider",
    )


def airflow_settings(mlflow_conn_id: str | None = None) -> Settings:
    """Settings for a task: the store by `[ml_pipelines] store`, MLflow and the ledger by connection or environment.

    Args:
        mlflow_conn_id: a connection that must be there, instead of the configured one.
    """
    return Settings(
        store=store_uri(),
        ledger=_ledger(),
        connections=_Connections(),
        environment=os.environ,
        cells_per_group=cells_per_group(option("cells_per_group"), "[ml_pipelines] cells_per_group"),
        **(
            _mlflow(mlflow_conn_id)
            or {"tracking_uri": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_home()}/mlflow.db"}
        ),
    )


def store_uri() -> str:
    """Where the artifact store is, by `[ml_pipelines] store`."""
    return option("store") or f"file://{_home()}/store"


def _ledger() -> str:
    """The ledger's address: of its connection, else `ML_PIPELINES_LEDGER`, else a file in AIRFLOW_HOME."""
    try:
        return _connection(option("ledger_conn_id"))
    except KeyError:
        return os.environ.get("ML_PIPELINES_LEDGER") or f"sqlite:///{_home()}/ledger.db"


def _home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "ml_pipelines"


def _mlflow(conn_id: str | None) -> dict[str, Any] | None:
    """What the connection to MLflow says; None if there is none and nobody has asked for one by name."""
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
