"""What all DAGs that are made from a declaration have in common."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import (
    DAG,
    AssetAny,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    literal,
)
from airflow.sdk.definitions.asset import BaseAsset

from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.pipeline.parameters import Parameters
from ml_pipelines.spec.batch import DriftSpec, ScoringSpec
from ml_pipelines.spec.execution import Placement
from ml_pipelines.spec.tasks import task_of
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.sla.argument import ignore_removal_warning

__all__ = ["RETRY_POLICY", "START", "Spec", "arguments", "default_args", "field", "new_dag", "placement"]

Spec = PipelineSpec | ScoringSpec | DriftSpec

_ANYWHERE = Placement()
START = datetime(2026, 1, 1, tzinfo=UTC)

# The first rule that fits decides. An error of ours that is not transient would only fail again; what we do not know
# is retried as the task says.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=TransientError, action=RetryAction.DEFAULT),
        RetryRule(exception=PipelineError, action=RetryAction.FAIL, reason="trying again would not help"),
    ]
)


def new_dag(
    spec: Spec, callbacks: tuple[dict[str, Any], dict[str, Any]], *, document: str, assets: Sequence[BaseAsset]
) -> DAG:
    """The DAG of a declaration, without its tasks.

    Args:
        spec: the declaration.
        callbacks: of the tasks, and of the DAG.
        document: Markdown, for people.
        assets: a run starts when one of them has news, beside the declared clock.
    """
    of_tasks, of_dag = callbacks
    return DAG(
        dag_id=spec.name,
        description=spec.description or None,
        doc_md=document,
        schedule=_schedule(spec, assets),
        start_date=START,
        catchup=False,
        # Runs of one declaration depend on what the one before has left: a champion, or a call for a training.
        max_active_runs=1,
        default_args=default_args(spec) | of_tasks,
        **of_dag,
        tags=set(spec.tags),
    )


def _schedule(spec: Spec, assets: Sequence[BaseAsset]) -> CronTriggerTimetable | AssetOrTimeSchedule | BaseAsset | None:
    """By the clock, on news of an asset, or whichever comes first."""
    clock = spec.schedule
    cron = CronTriggerTimetable(clock.cron, timezone=clock.timezone) if clock and clock.cron else None
    if not assets:
        return cron
    any_of_them = AssetAny(*assets)
    return AssetOrTimeSchedule(timetable=cron, assets=any_of_them) if cron else any_of_them


def arguments(spec: Spec, step: str, parameters: Parameters) -> dict[str, Any]:
    """What a step's task is called with."""
    docker = spec.runtime.get(task_of(step), _ANYWHERE).docker
    contained = {"docker": docker.model_dump(mode="json")} if docker else {}
    told = literal(parameters.model_dump(mode="json"))  # what is declared is no template
    return {"step": step, "parameters": told, "seed": spec.seed, **contained}


def placement(spec: Spec, step: str) -> dict[str, Any]:
    """Queue and pool, where they are declared."""
    placed = spec.runtime.get(task_of(step), _ANYWHERE)
    return {name: value for name in ("queue", "pool") if (value := getattr(placed, name)) is not None}


def default_args(spec: Spec) -> dict[str, Any]:
    """Airflow's default_args, as they are declared."""
    if spec.default_args.sla:
        ignore_removal_warning()
    given = {name: value for name, value in spec.default_args.model_dump().items() if value not in (None, ())}
    # Airflow's own arguments for mail are deprecated: callbacks send it.
    given = {name: value for name, value in given.items() if not name.startswith("email")}
    return {**given, "retry_policy": RETRY_POLICY}


def field(default: Any, **schema: Any) -> Param:
    """A field of the trigger form."""
    # Parameters are validated at every parse; the older draft's own schema is checked four times as fast.
    draft: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#"}
    return Param(default, **draft, **schema)
