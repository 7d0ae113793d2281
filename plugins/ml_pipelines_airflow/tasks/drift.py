"""What the tasks of a watch over drift do; see :mod:`ml_pipelines_airflow.tasks.training`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.batch_parameters import MeasureDriftParameters
from ml_pipelines_airflow.assets import drift_asset
from ml_pipelines_airflow.links import link_urls
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.tasks.run_step import RESULT, execute_step, run_url
from ml_pipelines_airflow.tasks.training import run_options

__all__ = ["drift_headline", "measure_drift", "request_training"]

log = logging.getLogger(__name__)

_NOTHING: dict[str, Any] = {"inputs": {}, "context": {}, "facts": {}}


def measure_drift(
    *,
    step: str,
    parameters: dict[str, Any],
    seed: int,
    ti: Any,
    params: Any,
    docker: dict[str, Any] | None = None,
    **_rest_of_the_context: Any,
) -> None:
    """Measure the drift of the last batch, and link to the report."""
    options = run_options(params)
    told = MeasureDriftParameters.model_validate(parameters).for_run(options)
    result = execute_step(step, told, _NOTHING, ti=ti, seed=seed, force=options.force, docker=docker)
    log.info("%s; report: %s", result.values["reason"], result.outputs["report"].uri)
    for key, url in link_urls(step, result.values, lambda _: None, run_url(ti)).items():
        ti.xcom_push(key=key, value=url)


def request_training(
    *, model: str, retrain: dict[str, Any] | None, ti: Any, inlet_events: Any, outlet_events: Any, **_: Any
) -> str:
    """Call for a training with an event of the model's drift, if that is wanted and was not done lately.

    The event is there once this task has ended well, and with that it is remembered: a task that failed has called for
    nothing, and one that is cleared finds its own call.

    Returns:
        What was done, as a sentence.
    """
    measured = _measured(ti)
    if measured is None:
        raise RequestError(
            "measure_drift has no result", where=f"run {ti.run_id}", fix="mend what measure_drift tells, and clear it"
        )
    asset = drift_asset(model)
    told = _reason_to_wait(measured, retrain, [event.timestamp for event in inlet_events[asset]], datetime.now(UTC))
    if told is None:
        (alias,) = ti.task.outlets
        news = {**measured.values, "report": measured.outputs["report"].model_dump(mode="json")}
        outlet_events[alias].add(asset, extra={"pipeline": ti.dag_id, "run_id": ti.run_id, "model": model, **news})
        told = f"called for a training: {measured.values['reason']}"
    log.info("%s", told)
    return told


def drift_headline(context: Any) -> Headline | None:
    """What a run has measured; None for every other task."""
    ti = context["ti"]
    measured = _measured(ti) if ti.task_id == "request_training" else None
    if measured is None:
        return None
    values, model = measured.values, context["task"].op_kwargs["model"]
    drifted = bool(values["features"] or values["predictions"])
    text = f"{model}: its batches have drifted" if drifted else f"{model}: no drift"
    return Headline(text=text, detail=str(values["reason"]), good=False if drifted else None, facts="")


def _reason_to_wait(
    measured: StepResult, retrain: dict[str, Any] | None, calls: list[datetime], now: datetime
) -> str | None:
    """Why no training is called for; None if one is."""
    values = measured.values
    if retrain is None:
        return f"no training is called for, as retrain is not declared: {values['reason']}"
    counted = ("features", "predictions") if retrain["on"] == "any" else (retrain["on"],)
    if not any(values[each] for each in counted):
        return f"no training is called for: {values['reason']}"
    cooldown = timedelta(seconds=retrain["cooldown"])
    if calls and now - max(calls) < cooldown:
        return f"no training is called for: one was at {max(calls):%Y-%m-%d %H:%M} UTC, within {cooldown}"
    return None


def _measured(ti: Any) -> StepResult | None:
    found = [each for each in ti.xcom_pull(task_ids=["measure_drift"], key=RESULT) if each]
    return StepResult.model_validate(found[0]) if found else None
