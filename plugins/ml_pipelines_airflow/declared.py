"""What all DAGs that are made from a declaration have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule

from ml_pipelines.batch_spec import DriftSpec, ScoringSpec
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.parameters import Parameters
from ml_pipelines.runtime import Placement
from ml_pipelines.spec import PipelineSpec
from ml_pipelines_airflow.sla_argument import silence_removal

__all__ = ["RETRY_POLICY", "START", "Spec", "arguments", "default_args", "field", "placement"]

Spec = PipelineSpec | ScoringSpec | DriftSpec

START = datetime(2026, 1, 1, tzinfo=UTC)

# The first rule that fits decides. An error of ours that is not transient would only fail again; what we do not know
# is retried as the task says.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=TransientError, action=RetryAction.DEFAULT),
        RetryRule(exception=PipelineError, action=RetryAction.FAIL, reason="trying again would not help"),
    ]
)


def arguments(spec: Spec, step: str, parameters: Parameters) -> dict[str, Any]:
    """What a step's task is called with."""
    docker = spec.runtime.get(step, Placement()).docker
    contained = {"docker": docker.model_dump(mode="json")} if docker else {}
    return {"step": step, "parameters": parameters.model_dump(mode="json"), "seed": spec.seed, **contained}


def placement(spec: Spec, step: str) -> dict[str, Any]:
    """Queue and pool, where they are declared."""
    placed = spec.runtime.get(step, Placement())
    return {name: value for name in ("queue", "pool") if (value := getattr(placed, name)) is not None}


def default_args(spec: Spec) -> dict[str, Any]:
    """Airflow's default_args, as they are declared."""
    if spec.default_args.sla:
        silence_removal()
    given = {name: value for name, value in spec.default_args.model_dump().items() if value not in (None, ())}
    # Airflow's own arguments for mail are deprecated: callbacks send it.
    given = {name: value for name, value in given.items() if not name.startswith("email")}
    return {**given, "retry_policy": RETRY_POLICY}


def field(default: Any, **schema: Any) -> Param:
    """A field of the trigger form."""
    # Parameters are validated at every parse; the older draft's own schema is checked four times as fast.
    draft: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#"}
    return Param(default, **draft, **schema)
