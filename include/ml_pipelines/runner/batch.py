"""Score a batch, or measure its drift, in one process, with the steps that an orchestrator would run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.errors import PipelineError
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.batch_parameters import (
    CollectScoresParameters,
    IngestBatchParameters,
    MeasureDriftParameters,
    PlanShardsParameters,
    ScoreShardParameters,
)
from ml_pipelines.pipeline.step_parameters import Parameters, RunOptions
from ml_pipelines.ports import Services
from ml_pipelines.runner.step import run_step
from ml_pipelines.runner.task import build_request
from ml_pipelines.spec.batch import DriftSpec, ScoringSpec

__all__ = ["run_drift", "run_scoring"]

log = logging.getLogger(__name__)


def run_scoring(
    spec: ScoringSpec,
    services: Services,
    *,
    store: str,
    run_id: str,
    options: RunOptions | None = None,
    on_start: Callable[[str], None] = lambda task: None,
    on_done: Callable[[str, StepResult], None] = lambda task, result: None,
) -> StepResult:
    """Run all steps of a batch scoring in order. If a shard fails, its error is logged and the others are scored.

    Args:
        spec: the declaration.
        services: the services that the steps use.
        store: URI of the artifact store.
        run_id: name of the run; the same name again is a retry.
        options: options of the run.
        on_start: called with the label of a step before it runs.
        on_done: called with the label and the result of a step after it ran.

    Returns:
        The result of `collect_scores`.

    Raises:
        PipelineError: from the step that failed; from `collect_scores` if too few rows have a score.
    """
    spec.enable_code()
    options = options or RunOptions()

    def run(step: str, parameters: Parameters, index: int = -1, **results: Any) -> StepResult:
        label = step if index < 0 else f"{step}[{index}]"
        on_start(label)
        identity = Identity(pipeline=spec.name, run_id=run_id, task_id=step, map_index=index)
        request = build_request(
            step, parameters, results, seed=spec.seed, store=store, identity=identity, options=options
        )
        result = run_step(request, services)
        on_done(label, result)
        return result

    batch = run("ingest_batch", IngestBatchParameters.of(spec))
    plan = run("plan_shards", PlanShardsParameters.of(spec), ingest_batch=batch)
    for warning in cast("list[str]", plan.values["warnings"]):
        log.warning("%s", visible(warning))
    scored = []
    for index in range(len(plan.outputs)):
        parameters = ScoreShardParameters.of(spec).for_shard(index, batch, plan)
        try:
            scored.append(run("score_shard", parameters, index))
        except PipelineError as error:
            log.error("shard %d failed: %s", index, error)
    return run("collect_scores", CollectScoresParameters.of(spec).for_results(batch, plan, scored))


def run_drift(
    spec: DriftSpec, services: Services, *, store: str, run_id: str, options: RunOptions | None = None
) -> StepResult:
    """Measure the drift of the last batch; arguments and errors as of :func:`run_scoring`."""
    spec.enable_code()
    options = options or RunOptions()
    request = StepRequest(
        step="measure_drift",
        parameters=MeasureDriftParameters.of(spec).for_run(options).model_dump(mode="json"),
        seed=spec.seed,
        store=store,
        identity=Identity(pipeline=spec.name, run_id=run_id, task_id="measure_drift"),
        force=options.force,
    )
    return run_step(request, services)
