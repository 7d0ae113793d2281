"""Parts that the builders of all declared DAGs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

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

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.pipeline.step_parameters import Parameters
from ml_pipelines.pipeline.step_table import find_step
from ml_pipelines.spec.batch import DriftSpec, ScoringSpec
from ml_pipelines.spec.placement import Placement
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.config import export_allow_lists
from ml_pipelines_airflow.sla.declared_sla import ignore_removal_warning

__all__ = [
    "RETRY_POLICY",
    "START",
    "Spec",
    "declared_parameters",
    "default_args",
    "form_field",
    "load_declaration",
    "new_dag",
    "placement",
    "task_arguments",
]

Spec = PipelineSpec | ScoringSpec | DriftSpec
SpecT = TypeVar("SpecT", PipelineSpec, ScoringSpec, DriftSpec)

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Start date of the DAGs; no DAG catches up."""

# Airflow applies the first matching rule. A PipelineError that is not transient would only occur again. Without a
# matching rule, Airflow retries as the task's `retries` say.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=TransientError, action=RetryAction.DEFAULT),
        RetryRule(exception=PipelineError, action=RetryAction.FAIL, reason="a retry would raise the same error"),
    ]
)

_DEFAULT_PLACEMENT = Placement()


def load_declaration(dag_file: str, load: Callable[[Path], SpecT]) -> SpecT:
    """Return the declaration in the YAML file with the same folder and name as a DAG file.

    Args:
        dag_file: `__file__` of the DAG file.
        load: reads a declaration.

    Raises:
        SpecError: the YAML file has mistakes; the error lists each with its line and fix.
    """
    export_allow_lists()
    return load(Path(dag_file).with_suffix(".yaml"))


def new_dag(
    spec: Spec, callbacks: tuple[dict[str, Any], dict[str, Any]], *, document: str, assets: Sequence[BaseAsset]
) -> DAG:
    """Return the DAG of a declaration, without tasks.

    Args:
        spec: the declaration.
        callbacks: callbacks of the tasks, and of the DAG.
        document: documentation of the DAG as Markdown.
        assets: assets whose events start a run, in addition to the declared schedule.
    """
    task_callbacks, dag_callbacks = callbacks
    return DAG(
        dag_id=spec.name,
        description=spec.description or None,
        doc_md=document,
        schedule=_schedule(spec, assets),
        start_date=START,
        catchup=False,
        # A run depends on the state that the run before it leaves: a champion, or a request for a training.
        max_active_runs=1,
        default_args=default_args(spec) | task_callbacks,
        **dag_callbacks,
        tags=set(spec.tags),
    )


def _schedule(spec: Spec, assets: Sequence[BaseAsset]) -> CronTriggerTimetable | AssetOrTimeSchedule | BaseAsset | None:
    declared = spec.schedule
    cron = CronTriggerTimetable(declared.cron, timezone=declared.timezone) if declared and declared.cron else None
    if not assets:
        return cron
    any_asset = AssetAny(*assets)
    return AssetOrTimeSchedule(timetable=cron, assets=any_asset) if cron else any_asset


def declared_parameters(spec: Spec, steps: Iterable[str]) -> dict[str, Parameters]:
    """Return the parameters that a declaration has for steps, by the name of the step."""
    return {step: import_object(find_step(step).parameters).of(spec) for step in steps}


def task_arguments(spec: Spec, task_id: str, parameters: Mapping[str, Parameters]) -> dict[str, Any]:
    """Return the `op_kwargs` of a task that runs steps.

    Args:
        spec: the declaration.
        task_id: id of the task, under which `runtime` may declare a container.
        parameters: parameters of the task's steps by name, in the order of the steps.
    """
    docker = spec.runtime.get(task_id, _DEFAULT_PLACEMENT).docker
    # literal: declared text is not a Jinja template.
    declared = literal({step: values.model_dump(mode="json") for step, values in parameters.items()})
    return {
        "parameters": declared,
        "seed": spec.seed,
        **({"docker": docker.model_dump(mode="json")} if docker else {}),
    }


def placement(spec: Spec, task_id: str) -> dict[str, Any]:
    """Return the declared queue and pool of a task, as arguments of its operator."""
    declared = spec.runtime.get(task_id, _DEFAULT_PLACEMENT)
    return {name: value for name in ("queue", "pool") if (value := getattr(declared, name)) is not None}


def default_args(spec: Spec) -> dict[str, Any]:
    """Return the declared `default_args` with the retry policy."""
    if spec.default_args.sla:
        ignore_removal_warning()
    declared = {name: value for name, value in spec.default_args.model_dump().items() if value not in (None, ())}
    # Airflow's own mail arguments are deprecated; callbacks send the mail.
    arguments = {name: value for name, value in declared.items() if not name.startswith("email")}
    return {**arguments, "retry_policy": RETRY_POLICY}


def form_field(default: Any, **schema: Any) -> Param:
    """Return a field of the trigger form."""
    # Each parse validates the fields, which takes a quarter of the time with the schema of the older draft.
    draft: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#"}
    return Param(default, **draft, **schema)
