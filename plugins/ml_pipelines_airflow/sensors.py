"""A sensor of the model registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines_airflow.connections import airflow_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ModelAliasSensor"]


class ModelAliasSensor(BaseSensorOperator):
    """Wait until an alias of a registered model points to a version.

    The XCom of the task is `model`, `alias` and `version`. The default mode `reschedule` takes no worker slot between
    two pokes. An unavailable registry does not fail the task; the next poke asks again.

    Args:
        model: name in the registry.
        alias: alias such as `champion`.
        version: version to wait for; None waits for any version.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        mode: mode of the sensor.
        options: arguments of every sensor, such as `task_id`, `poke_interval` and `timeout`.
    """

    template_fields: Sequence[str] = ("model", "alias", "version", "mlflow_conn_id")

    def __init__(
        self,
        *,
        model: str,
        alias: str = "champion",
        version: str | int | None = None,
        mlflow_conn_id: str | None = None,
        mode: str = "reschedule",
        **options: Any,
    ) -> None:
        super().__init__(mode=mode, **options)
        self.model, self.alias, self.version, self.mlflow_conn_id = model, alias, version, mlflow_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Look the alias up once."""
        try:
            target = ConnectedServices(airflow_settings(self.mlflow_conn_id)).registry.by_alias(self.model, self.alias)
        except ServiceUnavailable as exc:
            self.log.warning("the registry does not answer; the next poke asks again: %s", exc)
            return PokeReturnValue(is_done=False)
        self.log.info("%s@%s: %s", self.model, self.alias, f"version {target.version}" if target else "no such alias")
        if target is None or (self.version is not None and target.version != str(self.version)):
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(True, {"model": self.model, "alias": self.alias, "version": target.version})
