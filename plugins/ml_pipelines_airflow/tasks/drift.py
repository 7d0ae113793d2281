"""Callables of the drift DAG's tasks; see :mod:`ml_pipelines_airflow.tasks.task_run`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.step_table import find_step
from ml_pipelines_airflow.assets import drift_asset
from ml_pipelines_airflow.links import link_urls
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.tasks.task_run import TaskRun, pull_results, run_options, run_url

__all__ = ["drift_headline", "measure_drift", "request_training"]

log = logging.getLogger(__name__)

STEP = "measure_drift"


def measure_drift(
    *,
    parameters: Mapping[str, dict[str, Any]],
    seed: int,
    ti: Any,
    params: Any,
    docker: dict[str, Any] | None = None,
    **_context: Any,
) -> None:
    """Measure the drift of the last scored batch and link to the report."""
    run = TaskRun(ti=ti, seed=seed, options=run_options(params), docker=docker)
    for step, declared in parameters.items():
        result = run.run_step(step, import_object(find_step(step).parameters).model_validate(declared))
        for key, url in link_urls(step, result.values, lambda _: None, run_url(ti)).items():
            ti.xcom_push(key=key, value=url)
    result = run.results[STEP]
    log.info("%s; report: %s", visible(str(result.values["reason"])), result.outputs["report"].uri)


def request_training(
    *, model: str, retrain: dict[str, Any] | None, ti: Any, inlet_events: Any, outlet_events: Any, **_context: Any
) -> str:
    """Request a training with an event of the model's drift asset, if the batch drifted and no cooldown applies.

    Airflow creates the event when this task succeeds. A failed task therefore requests nothing, and a cleared task
    reads its own earlier request and stays within the cooldown.

    Returns:
        A sentence with the result.

    Raises:
        RequestError: the task measure_drift has no result.
    """
    measured = _measured_drift(ti)
    if measured is None:
        raise RequestError(
            "measure_drift has no result",
            where=f"run {ti.run_id}",
            fix="correct the error in the log of measure_drift, then clear that task",
        )
    asset = drift_asset(model)
    requests = [event.timestamp for event in inlet_events[asset]]
    message = _reason_not_to_request(measured, retrain, requests, datetime.now(UTC))
    if message is None:
        (alias,) = ti.task.outlets
        values = {**measured.values, "report": measured.outputs["report"].model_dump(mode="json")}
        outlet_events[alias].add(asset, extra={"pipeline": ti.dag_id, "run_id": ti.run_id, "model": model, **values})
        message = f"training requested: {measured.values['reason']}"
    log.info("%s", visible(message))
    return message


def drift_headline(context: Any) -> Headline | None:
    """Return the headline of a run once its drift is measured, None for every other task."""
    ti = context["ti"]
    measured = _measured_drift(ti) if ti.task_id == "request_training" else None
    if measured is None:
        return None
    values, model = measured.values, context["task"].op_kwargs["model"]
    drifted = bool(values["features"] or values["predictions"])
    text = f"{model}: drift detected" if drifted else f"{model}: no drift"
    return Headline(text=text, detail=str(values["reason"]), good=False if drifted else None, facts="")


def _reason_not_to_request(
    measured: StepResult, retrain: dict[str, Any] | None, requests: list[datetime], now: datetime
) -> str | None:
    """Return why no training is requested, None if one is."""
    values = measured.values
    if retrain is None:
        return f"no training requested, as the declaration has no retrain: {values['reason']}"
    counted = ("features", "predictions") if retrain["on"] == "any" else (retrain["on"],)
    if not any(values[kind] for kind in counted):
        return f"no training requested: {values['reason']}"
    cooldown = timedelta(seconds=retrain["cooldown"])
    if requests and now - max(requests) < cooldown:
        return f"no training requested: the last request was at {max(requests):%Y-%m-%d %H:%M} UTC, within {cooldown}"
    return None


def _measured_drift(ti: Any) -> StepResult | None:
    return next(iter(pull_results(ti, STEP, STEP)), None)
