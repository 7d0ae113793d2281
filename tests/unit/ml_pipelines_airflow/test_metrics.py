from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.observability import stats
from tests.step_values import step_values

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines_airflow import metrics

DIGEST = "0" * 64
TABLE = ArtifactRef(uri="file:///t", sha256=DIGEST, bytes=1, rows=7, kind="table")
REPORT = ArtifactRef(uri="file:///r", sha256=DIGEST, bytes=1, kind="json")
SPLIT = StepResult(
    step="split", key=DIGEST, status="cached", reason="hit", seconds=1.5, outputs={"train": TABLE, "report": REPORT}
)
RECORD = StepResult(
    step="record_decision", key=DIGEST, status="published", reason="acts", values=step_values("record_decision")
)
OF_SPLIT = {"dag_id": "churn", "step": "split"}


class Backend:
    """Records the calls to Airflow's clients of StatsD and OpenTelemetry."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float, dict[str, str] | None]] = []

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
        self.calls.append(("incr", stat, count, tags))

    def gauge(self, stat: str, value: float, *, tags: dict[str, str] | None = None) -> None:
        self.calls.append(("gauge", stat, value, tags))

    def timing(self, stat: str, dt: float, *, tags: dict[str, str] | None = None) -> None:
        self.calls.append(("timing", stat, dt, tags))


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend: Any = Backend()
    stats.initialize(factory=lambda: backend, export_legacy_names=True)
    yield backend
    stats.initialize(factory=_none, export_legacy_names=True)


def _none() -> Any:
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger

    return NoStatsLogger()


@pytest.fixture(params=["STATSD_ON", "OTEL_ON", "STATSD_DATADOG_ENABLED"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW__METRICS__{request.param}", "True")


@pytest.mark.usefixtures("on")
def test_emit_sends_duration_status_and_rows(backend: Backend) -> None:
    metrics.emit("churn", SPLIT)
    assert [call for call in backend.calls if call[3]] == [
        ("timing", "ml_pipelines.step.duration", 1500.0, OF_SPLIT),
        ("incr", "ml_pipelines.step.done", 1, OF_SPLIT | {"status": "cached"}),
        ("gauge", "ml_pipelines.step.rows", 7, OF_SPLIT | {"output": "train"}),
    ]


@pytest.mark.usefixtures("on")
def test_emit_sends_tags_in_legacy_names(backend: Backend) -> None:
    metrics.emit("team.churn ä", SPLIT)
    assert [call[:3] for call in backend.calls if not call[3]] == [
        ("timing", "ml_pipelines.step.duration.team__churn__.split", 1500.0),
        ("incr", "ml_pipelines.step.done.team__churn__.split.cached", 1),
        ("gauge", "ml_pipelines.step.rows.team__churn__.split.train", 7),
    ]


@pytest.mark.usefixtures("on")
def test_emit_omits_legacy_names_on_request(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", "False")
    metrics.emit("churn", SPLIT)
    assert len(backend.calls) == 3
    assert all(tags for *_, tags in backend.calls)


@pytest.mark.usefixtures("on")
def test_emit_sends_the_outcome_of_a_run(backend: Backend) -> None:
    metrics.emit("churn", RECORD)
    assert backend.calls[-2:] == [
        ("incr", "ml_pipelines.run.outcome", 1, {"dag_id": "churn", "outcome": "promoted"}),
        ("incr", "ml_pipelines.run.outcome.churn.promoted", 1, None),
    ]


def test_emit_sends_nothing_if_metrics_are_off(backend: Backend) -> None:
    metrics.emit("churn", SPLIT)
    assert backend.calls == []


@pytest.mark.usefixtures("on")
def test_emit_does_not_raise(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(backend, "timing", fail)
    caplog.set_level(logging.WARNING)
    metrics.emit("churn", SPLIT)
    assert "the metrics of step split were not sent" in caplog.messages
    assert "no route" in caplog.text


def test_emit_works_with_airflows_opentelemetry_client(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk._shared.observability.metrics.otel_logger import SafeOtelLogger
    from airflow.sdk._shared.observability.metrics.validators import PatternAllowListValidator
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    monkeypatch.setenv("AIRFLOW__METRICS__OTEL_ON", "True")
    reader = InMemoryMetricReader()
    client = SafeOtelLogger(MeterProvider(metric_readers=[reader]), "airflow", PatternAllowListValidator())
    stats.initialize(factory=lambda: client, export_legacy_names=False)
    monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", "False")
    try:
        metrics.emit("churn", SPLIT)
        data = reader.get_metrics_data()
    finally:
        stats.initialize(factory=_none, export_legacy_names=True)
    assert data is not None
    (resource,) = data.resource_metrics
    points = {
        metric.name: dict(point.attributes or {})
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert points == {
        "airflow.ml_pipelines.step.duration": OF_SPLIT,
        "airflow.ml_pipelines.step.done": OF_SPLIT | {"status": "cached"},
        "airflow.ml_pipelines.step.rows": OF_SPLIT | {"output": "train"},
    }


def test_emit_works_with_airflows_statsd_client(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(60)
        settings = {"ON": "True", "HOST": "127.0.0.1", "PORT": str(listener.getsockname()[1])}
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", value)
        client: Any = get_stats_factory()()
        stats.initialize(factory=lambda: client, export_legacy_names=True)
        try:
            metrics.emit("churn", RECORD)
        finally:
            stats.initialize(factory=_none, export_legacy_names=True)
            client.statsd.close()
        sent = [listener.recv(1000).decode() for _ in range(6)]
    assert sent[2:] == [
        "airflow.ml_pipelines.step.done:1|c",
        "airflow.ml_pipelines.step.done.churn.record_decision.published:1|c",
        "airflow.ml_pipelines.run.outcome:1|c",
        "airflow.ml_pipelines.run.outcome.churn.promoted:1|c",
    ]
    assert sent[1].startswith("airflow.ml_pipelines.step.duration.churn.record_decision:")
