"""Decide which version of a model serves, from any DAG: promote one, go back to an earlier one, watch over it.

Both changes are verified as a deployment is, and written into the ledger. The first try chooses the version; a retry,
or the task when it is cleared, goes on with that one.
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

_CHOICE = "ml_pipelines_version"


class _ServeOperator(BaseOperator):
    """Lets a version serve that a subclass chooses; see there."""

    operator_extra_links: Sequence[BaseOperatorLink] = (ModelVersionLink(),)

    def __init__(self, *, model: str, reason: str, mlflow_conn_id: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.model, self.reason, self.mlflow_conn_id = model, reason, mlflow_conn_id

    @abstractmethod
    def choose(self, services: Services) -> ModelVersion:
        """The version that is to serve."""

    @abstractmethod
    def change(self, services: Services, choose: Callable[[Registry], ModelVersion], identity: Identity) -> LedgerEntry:
        """Let it serve, and write that down."""

    def execute(self, context: Context) -> dict[str, JsonValue]:
        """Verify the version, move the aliases, write the ledger's entry.

        Returns:
            `model`, `version`, which serves now, and `previous_version`, None if there is none.

        Raises:
            RegistryError: there is no such version, or it was not registered by a pipeline.
            ArtifactCorrupt: the registry serves other bytes than were registered.
            VerificationFailed: the model does not predict what it predicted when it was trained.
            ServiceUnavailable: a server does not answer; worth another try.
        """
        services = ConnectedServices(airflow_settings(self.mlflow_conn_id))
        chosen: list[ModelVersion] = []

        def choose(registry: Registry) -> ModelVersion:
            chosen.append(_chosen(context, lambda: self.choose(services), registry))
            return chosen[-1]

        details = self.change(services, choose, _identity(context)).details
        told = {"model": self.model, **{name: getattr(details, name) for name in ("version", "previous_version")}}
        self.log.info("%(model)s: version %(version)s serves, the previous one is %(previous_version)s", told)
        if chosen[-1].url:
            context["ti"].xcom_push(key=ModelVersionLink.xcom_key, value=chosen[-1].url)
        _tell(context, self, {**told, "reason": self.reason})
        return told


class PromoteModelOperator(_ServeOperator):
    """Makes a version the champion; the champion before it becomes `previous`.

    Args:
        model: name in the registry.
        version: to promote.
        from_alias: to promote the version that this alias points to, if no version is given.
        reason: for the ledger and the asset's event.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        options: as for every operator. With `outlets=[model_asset(model)]` DAGs that wait for the model are started.
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

    def choose(self, services: Services) -> ModelVersion:
        """The given version, or that of the alias."""
        registry = services.registry
        if self.version is not None:
            return version_by_number(registry, self.model, str(self.version))
        fix = "register a version first, or give `version`"
        return version_by_alias(registry, self.model, self.from_alias, fix=fix)

    def change(self, services: Services, choose: Callable[[Registry], ModelVersion], identity: Identity) -> LedgerEntry:
        """Without asking the gate."""
        reason = self.reason or f"task {identity.task_id} of {identity.pipeline} promotes it without a gate"
        return promote(services, self.model, choose, reason=reason, identity=identity)


class RollbackModelOperator(_ServeOperator):
    """Makes an earlier version the champion again; the one that served becomes `previous`.

    The model that served is not promoted again by itself: a training that gives the same model is held.

    Args:
        model: name in the registry.
        to: a version, or `previous` for the champion before today's.
        reason: for the ledger and the asset's event.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        options: as for every operator. With `outlets=[model_asset(model)]` DAGs that wait for the model are started.
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

    def choose(self, services: Services) -> ModelVersion:
        """The version to go back to."""
        return rollback_version(services, self.model, str(self.to))

    def change(self, services: Services, choose: Callable[[Registry], ModelVersion], identity: Identity) -> LedgerEntry:
        """Go back."""
        reason = self.reason or f"task {identity.task_id} of {identity.pipeline} goes back"
        return roll_back(services, self.model, choose, reason=reason, identity=identity)


class WatchRegistryOperator(BaseOperator):
    """Writes it into the ledger if the champion of a model was moved outside, in MLflow's pages say; once a move.

    Args:
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        options: as for every operator. With an :class:`airflow.sdk.AssetAlias` in `outlets`, DAGs that wait for the
            model are started.
    """

    template_fields: Sequence[str] = ("mlflow_conn_id",)

    def __init__(self, *, mlflow_conn_id: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, str]:
        """Look at every model that the ledger knows.

        Returns:
            What has happened, by model.
        """
        services = ConnectedServices(airflow_settings(self.mlflow_conn_id))
        found: dict[str, str] = {}
        for model in services.ledger.models():
            # Without the model lock first: a running deployment does not delay the watcher.
            if find_external_change(services.registry, services.ledger, model) is None:
                continue
            with services.ledger.lock(model):
                note = record_external_change(services, model)
            if note is not None:
                found[model] = note.sentence
                self.log.warning("%s: %s", model, note.sentence)
                version = note.champion.version if note.champion else None
                _tell(context, self, {"model": model, "version": version, "reason": note.sentence})
        return found


def _tell(context: Context, task: BaseOperator, told: dict[str, JsonValue]) -> None:
    """Say with an event of the model's asset what has become of it, if the task has that or an alias as an outlet."""
    asset = model_asset(str(told["model"]))
    for outlet in task.outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(asset, extra=told)
        elif outlet == asset:
            context["outlet_events"][asset].extra = told


def _identity(context: Context) -> Identity:
    ti: Any = context["ti"]
    run_url, _, _ = str(ti.log_url or "").partition("/tasks/")
    return Identity(pipeline=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, run_url=run_url or None)


def _chosen(context: Context, choose: Callable[[], ModelVersion], registry: Registry) -> ModelVersion:
    """The version that the first try has chosen: the aliases that a choice looks at are those that the task moves.

    Kept in the task's state, which outlives the try.
    """
    state: Any = context["task_state_store"]
    if kept := state.get(_CHOICE):
        return version_by_number(registry, kept["model"], kept["version"])
    version = choose()
    state.set(_CHOICE, {"model": version.model, "version": version.version})
    return version
