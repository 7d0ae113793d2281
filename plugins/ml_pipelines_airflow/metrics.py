"""Metrics of steps over StatsD or OpenTelemetry, sent as Airflow sends its own.

Each metric has the pipeline and the step as tags. Plain StatsD has no tags: each metric is sent a second time with
their values in its name, unless `[metrics] legacy_names_on = False`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from ml_pipelines.contracts import StepResult

__all__ = ["emit"]

log = logging.getLogger(__name__)

_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")


def emit(pipeline: str, result: StepResult) -> None:
    """Send the metrics of a step. Never raises, and costs three look-ups if metrics are off.

    Args:
        pipeline: id of the DAG.
        result: result of the step.
    """
    # An error of a metrics client must not fail a task whose step has succeeded.
    try:
        from airflow.sdk.configuration import conf

        if any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES):
            _send(pipeline, result, legacy_names=conf.getboolean("metrics", "legacy_names_on", fallback=True))
    except Exception:
        log.warning("the metrics of step %s were not sent", result.step, exc_info=True)


def _send(pipeline: str, result: StepResult, *, legacy_names: bool) -> None:
    from airflow.sdk.observability import stats

    send: dict[str, Callable[..., None]] = {"timing": stats.timing, "incr": stats.incr, "gauge": stats.gauge}
    for kind, name, value, tags in _metrics(pipeline, result):
        send[kind](name, value, tags=tags)
        if legacy_names:
            # A dot in a value would add a level to the name.
            levels = [stats.normalize_name_for_stats(tag, False).replace(".", "__") for tag in tags.values()]
            send[kind](".".join([name, *levels]), value)


def _metrics(pipeline: str, result: StepResult) -> Iterator[tuple[str, str, float, dict[str, str]]]:
    """Yield kind, name, value and tags of each metric."""
    tags = {"dag_id": pipeline, "step": result.step}
    yield "timing", "ml_pipelines.step.duration", result.seconds * 1000, tags  # milliseconds, as Airflow's timings
    yield "incr", "ml_pipelines.step.done", 1, tags | {"status": result.status}
    for name, output in result.outputs.items():
        if output.rows is not None and result.step != "plan_shards":  # one name per shard would be too many
            yield "gauge", "ml_pipelines.step.rows", output.rows, tags | {"output": name}
    if result.step == "record_decision":
        outcome = str(result.values["outcome"])
        yield "incr", "ml_pipelines.run.outcome", 1, {"dag_id": pipeline, "outcome": outcome}
