"""The report of a training run as one HTML file, which needs no network and runs no script.

The decision comes first, then the results that it is based on, in the order of the pipeline.
"""

from __future__ import annotations

from ml_pipelines.contracts import Decision, Interval
from ml_pipelines.reporting.components import Cell, Facts, Findings, Header, Link, Tile
from ml_pipelines.reporting.evaluation_sections import (
    candidates_section,
    metrics_section,
    plots_section,
    rules_section,
    slices_section,
)
from ml_pipelines.reporting.formatting import (
    OUTCOMES,
    clip,
    fitted_rows_text,
    format_interval,
    format_number,
    metric_direction,
    metric_name,
    outcome_tone,
    threshold_text,
)
from ml_pipelines.reporting.rendering import render_page
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.run_sections import (
    data_section,
    drift_section,
    environment_section,
    importance_section,
    quality_section,
    rows_section,
    steps_section,
)

__all__ = ["render_training_report"]

_SECTIONS = (
    rules_section,
    data_section,
    rows_section,
    quality_section,
    drift_section,
    candidates_section,
    metrics_section,
    plots_section,
    slices_section,
    importance_section,
    environment_section,
    steps_section,
)


def render_training_report(data: ReportData) -> str:
    """Return the report as one HTML document of at most 2 MB. Equal data gives equal bytes."""
    decision = data.decision
    header = Header(
        model=clip(decision.model),
        verdict=OUTCOMES[decision.outcome],
        tone=outcome_tone(decision.outcome),
        reason=clip(decision.reason, 1000),
        facts=Facts(_facts(data)),
        tiles=_tiles(decision),
        findings=Findings(decision.findings) if decision.findings else None,
    )
    sections = [section for build in _SECTIONS if (section := build(data)) is not None]
    footer = (
        f"Run {clip(data.identity.run_id)} of {clip(data.identity.pipeline)}. Unless stated otherwise, all metrics are "
        "computed on rows that were not used for training."
    )
    return render_page(f"{header.model}: {header.verdict}", header, sections, footer)


def _facts(data: ReportData) -> list[tuple[str, Cell | None]]:
    details, decision, ended = data.details, data.decision, data.ended_at
    version, previous = details.version, details.previous_version
    champion = decision.champion_version or (details.champion.version if details.champion else None)
    unchanged = f"version {champion}, unchanged" if champion else "no model"
    return [
        ("Candidate", clip(decision.candidate) if decision.candidate else None),
        ("Fitted on", fitted_rows_text(decision, details.parts)),
        ("Threshold", threshold_text(decision)),
        ("Deployed", f"version {version}" if version else unchanged),
        ("Previous", f"version {previous}" if version and previous else None),
        ("Approved by", clip(details.approver) if details.approver else None),
        ("Pipeline", clip(data.identity.pipeline)),
        ("Run", _run(data)),
        ("Ended", f"{ended:%Y-%m-%d %H:%M} UTC" if ended else None),
    ]


def _run(data: ReportData) -> Cell:
    name, url = clip(data.identity.run_id), data.identity.run_url
    return Link(name, url) if url and url.startswith(("http://", "https://")) else name


def _tiles(decision: Decision) -> list[Tile]:
    """Return the primary metric of candidate and champion with their difference, or that of the dummy baseline."""
    metric = decision.metric
    if metric is None or metric not in decision.metrics:
        return []
    name = metric_name(metric)
    interval = _bounds(decision.intervals.get(metric)) or metric_direction(metric)
    tiles = [Tile(f"{name}, candidate", format_number(decision.metrics[metric]), interval, "candidate")]
    champion, dummy = decision.champion_metrics.get(metric), decision.dummy_metrics.get(metric)
    if champion is not None:
        bounds = _bounds(decision.champion_intervals.get(metric))
        tiles.append(Tile(f"{name}, champion", format_number(champion), bounds, "champion"))
    if comparison := decision.comparison:
        label = "Difference, positive is better"
        tiles.append(Tile(label, f"{comparison.difference:+.4f}", _bounds(comparison.interval)))
    elif dummy is not None:
        tiles.append(Tile(f"{name}, dummy baseline", format_number(dummy), "constant prediction", "dummy"))
    return tiles


def _bounds(interval: Interval | None) -> str:
    return f"{interval.confidence:.0%}: {format_interval(interval)}" if interval else ""
