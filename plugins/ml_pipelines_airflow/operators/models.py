"""Operators that promote a model version, roll back to an earlier one, or record external changes, for any DAG.

A promotion and a rollback run the same smoke test as a deployment, and the ledger records them. The first try selects
the version. A retry, also of a cleared task, continues with the same version.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias, BaseOperator, BaseOperatorLink

from ml_pipelines.contracts import Identity, JsonValue
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.promotion.history import find_external_change
from ml_pipelines.promotion.transitions import (
    promote,
    record_external_change,
    roll_back,
    rollback_version,
    version_by_alias,
    version_by_number,
)
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines_airflow.assets import model_asset
from ml_pipelines_airflow.connections import airflow_settings
from ml_pipelines_airflow.links import ModelVersionLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_pipelines.ports import ModelVersion, Registry, Services

__all__ = ["PromoteModelOperator", "RollbackModelOperator", "WatchRegistryOperator"]

_SELECTED = "ml_pipelines_version"  # key in the task's state


class _ChangeChampionOperator(BaseOperator):
    """Make the version that a subclass selects the champion."""

    operator_extra_links: Sequence[BaseOperatorLink] = (ModelVersionLink(),)

    def __init__(self, *, model: str, reason: str, mlflow_conn_id: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.model, self.reason, self.mlflow_conn_id = model, reason, mlflow_conn_id

    @abstractmethod
    def select(self, services: Services) -> ModelVersion:
        """Return the new champion."""

    @abstractmethod
    def change(self, services: Services, select: Callable[[Registry], ModelVersion], identity: Identity) -> LedgerEntry:
        """Deploy the version and return the ledger entry."""

    def execute(self, context: Context) -> dict[str, JsonValue]:
        """Run the smoke test of the version, move the aliases and write the ledger entry.

        Returns:
            `model`, `version` (the new champion) and `previous_version`, None if the model has none.

        Raises:
            RegistryError: the version does not exist, or no pipeline registered it.
            ArtifactCorrupt: the registry serves other bytes than were registered.
            VerificationFailed: the model's predictions differ from those at its training.
            ServiceUnavailable: a server does not answer. A retry can succeed.
        """
        services = ConnectedServices(airflow_settings(self.mlflow_conn_id))
        selected: list[ModelVersion] = []

        def select(registry: Registry) -> ModelVersion:
            selected.append(_select_once(context, lambda: self.select(services), registry))
            return selected[-1]

        details = self.change(services, select, _identity(context)).details
        values: dict[str, JsonValue] = {
            "model": self.model,
            "version": details.version,
            "previous_version": details.previous_version,
        }
        self.log.info("%(model)s: champion is version %(version)s, previous is %(previous_version)s", values)
        if selected[-1].url:
            context["ti"].xcom_push(key=ModelVersionLink.xcom_key, value=selected[-1].url)
        _add_event(context, self, {**values, "reason": self.reason})
        return values


class PromoteModelOperator(_ChangeChampionOperator):
    """Make a version the champion without a gate. The earlier champion becomes `previous`.

    Args:
        model: name in the registry.
        version: number of the version.
        from_alias: alias of the version; used if `version` is None.
        reason: reason for the ledger and the asset event.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        options: arguments of every operator. `outlets=[model_asset(model)]` starts the DAGs scheduled on the model.
    """

    template_fields: Sequence[str] = ("model", "version", "from_alias", "reason", "mlflow_conn_id")

    def __init__(
        self,
        *,
        model: str,
        version: str | int | None = None,
        from_alias: str = "challenger",
        reason: str = "",
        mlflow_conn_id: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model=model, reason=reason, mlflow_conn_id=mlflow_conn_id, **options)
        self.version, self.from_alias = version, from_alias

    def select(self, services: Services) -> ModelVersion:
        """Return the version of the number, else of the alias."""
        registry = services.registry
        if self.version is not None:
            return version_by_number(registry, self.model, str(self.version))
        fix = "register a version first, or set `version`"
        return version_by_alias(registry, self.model, self.from_alias, fix=fix)

    def change(self, services: Services, select: Callable[[Registry], ModelVersion], identity: Identity) -> LedgerEntry:
        """Promote the version."""
        reason = self.reason or f"task {identity.task_id} of {identity.pipeline} promoted it without a gate"
        return promote(services, self.model, select, reason=reason, identity=identity)


class RollbackModelOperator(_ChangeChampionOperator):
    """Make an earlier version the champion again. The current champion becomes `previous`.

    A training that produces the version that was rolled back is held for approval.

    Args:
        model: name in the registry.
        to: number of the version, or `previous` for the champion before the current one.
        reason: reason for the ledger and the asset event.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        options: arguments of every operator. `outlets=[model_asset(model)]` starts the DAGs scheduled on the model.
    """

    template_fields: Sequence[str] = ("model", "to", "reason", "mlflow_conn_id")

    def __init__(
        self,
        *,
        model: str,
        to: str | int = "previous",
        reason: str = "",
        mlflow_conn_id: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model=model, reason=reason, mlflow_conn_id=mlflow_conn_id, **options)
        self.to = to

    def select(self, services: Services) -> ModelVersion:
        """Return the version to roll back to."""
        return rollback_version(services, self.model, str(self.to))

    def change(self, services: Services, select: Callable[[Registry], ModelVersion], identity: Identity) -> LedgerEntry:
        """Roll back to the version."""
        reason = self.reason or f"task {identity.task_id} of {identity.pipeline} rolled back"
        return roll_back(services, self.model, select, reason=reason, identity=identity)


class WatchRegistryOperator(BaseOperator):
    """Record champions that were changed outside the pipelines, for example in MLflow's UI, once per change.

    Args:
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        options: arguments of every operator. An :class:`airflow.sdk.AssetAlias` in `outlets` starts the DAGs
            scheduled on the model.
    """

    template_fields: Sequence[str] = ("mlflow_conn_id",)

    def __init__(self, *, mlflow_conn_id: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, str]:
        """Compare the champion of every model in the ledger with the ledger.

        Returns:
            A sentence by model, for each model that was changed.
        """
        services = ConnectedServices(airflow_settings(self.mlflow_conn_id))
        sentences: dict[str, str] = {}
        for model in services.ledger.models():
            # Without the model lock first: a running deployment does not delay the watcher.
            if find_external_change(services.registry, services.ledger, model) is None:
                continue
            with services.ledger.lock(model):
                change = record_external_change(services, model)
            if change is not None:
                sentences[model] = change.sentence
                self.log.warning("%s: %s", model, change.sentence)
                version = change.champion.version if change.champion else None
                _add_event(context, self, {"model": model, "version": version, "reason": change.sentence})
        return sentences


def _add_event(context: Context, task: BaseOperator, extra: dict[str, JsonValue]) -> None:
    """Add an event of the model's asset if that, or an alias, is an outlet of the task."""
    asset = model_asset(str(extra["model"]))
    for outlet in task.outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(asset, extra=extra)
        elif outlet == asset:
            context["outlet_events"][asset].extra = extra


def _identity(context: Context) -> Identity:
    ti: Any = context["ti"]
    run_url, _, _ = str(ti.log_url or "").partition("/tasks/")
    return Identity(pipeline=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, run_url=run_url or None)


def _select_once(context: Context, select: Callable[[], ModelVersion], registry: Registry) -> ModelVersion:
    """Return the version that the first try selected.

    The task moves the aliases that a selection depends on, so a retry could select another version. Airflow keeps the
    state of a task between its tries.
    """
    state: Any = context["task_state_store"]
    if selected := state.get(_SELECTED):
        return version_by_number(registry, selected["model"], selected["version"])
    version = select()
    state.set(_SELECTED, {"model": version.model, "version": version.version})
    return version
