"""What a step tells of itself over StatsD or OpenTelemetry, wherever Airflow sends its own metrics.

Each metric is told with pipeline and step as tags. Plain StatsD knows no tags: so it is told once more with their
values in its name, as Airflow does with its own, unless `[metrics] legacy_names_on = False`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from ml_pipelines.contracts import StepResult
from ml_pipelines.pipeline.facts import RecordFacts

__all__ = ["tell"]

log = logging.getLogger(__name__)

_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")


def tell(pipeline: str, result: StepResult) -> None:
    """Send what a step made. It costs three look-ups where metrics are off, and never fails a task.

    Args:
        pipeline: name of the DAG.
        result: of the step.
    """
    # Whatever a client of metrics comes across, the work is done and must not be lost for it.
    try:
        from airflow.sdk.configuration import conf

        if any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES):
            _send(pipeline, result, named=conf.getboolean("metrics", "legacy_names_on", fallback=True))
    except Exception:
        log.warning("the metrics of step %s were not sent", result.step, exc_info=True)


def _send(pipeline: str, result: StepResult, *, named: bool) -> None:
    from airflow.sdk.observability import stats

    send: dict[str, Callable[..., None]] = {"timing": stats.timing, "incr": stats.incr, "gauge": stats.gauge}
    for kind, name, value, tags in _metrics(pipeline, result):
        send[kind](name, value, tags=tags)
        if named:
            # A dot in a value would be one more level of the name.
            levels = [stats.normalize_name_for_stats(each, False).replace(".", "__") for each in tags.values()]
            send[kind](".".join([name, *levels]), value)


def _metrics(pipeline: str, result: StepResult) -> Iterator[tuple[str, str, float, dict[str, str]]]:
    """Kind, name, value and tags of everything that there is to tell."""
    tags = {"dag_id": pipeline, "step": result.step}
    yield "timing", "ml_pipelines.step.duration", result.seconds * 1000, tags  # milliseconds, as Airflow's own
    yield "incr", "ml_pipelines.step.done", 1, tags | {"status": result.status}
    for name, made in result.outputs.items():
        if made.rows is not None and result.step != "plan_shards":  # a name for each shard would be too many
            yield "gauge", "ml_pipelines.step.rows", made.rows, tags | {"output": name}
    if result.step == "record_decision":
        outcome = RecordFacts.of(result).outcome
        yield "incr", "ml_pipelines.run.outcome", 1, {"dag_id": pipeline, "outcome": outcome}
