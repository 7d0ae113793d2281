"""The report of a run: one HTML file that needs no network and runs no script. The same evidence gives the same bytes.

The verdict comes first, then what it rests on, in the order of the pipeline.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from ml_pipelines.reporting.components import facts
from ml_pipelines.reporting.evaluation_sections import (
    candidates_section,
    metrics_section,
    plots_section,
    slices_section,
    verdict_section,
)
from ml_pipelines.reporting.formatting import OUTCOMES, direction, interval, metric_name, number, tone
from ml_pipelines.reporting.html import Html, clipped, element, join
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.run_sections import (
    data_section,
    drift_section,
    environment_section,
    importances_section,
    quality_section,
    rows_section,
    timings_section,
)

__all__ = ["document", "policy", "render", "style"]

_SECTIONS = (
    verdict_section,
    data_section,
    rows_section,
    quality_section,
    drift_section,
    candidates_section,
    metrics_section,
    plots_section,
    slices_section,
    importances_section,
    environment_section,
    timings_section,
)


@cache
def style() -> Html:
    """The style sheet, which the web pages use too."""
    return Html((files("ml_pipelines.reporting") / "report.css").read_text(encoding="utf-8"))


@cache
def policy() -> str:
    """What the page may load and run: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def render(evidence: ReportData) -> str:
    """The report as one HTML document of at most 2 MB, whatever the run was like."""
    decision = evidence.decision
    title = f"{clipped(decision.model)}: {OUTCOMES[decision.outcome]}"
    sections = [found for make in _SECTIONS if (found := make(evidence)) is not None]
    return document(title, _header(evidence), *sections, _footer(evidence))


def document(title: str, *content: Html | None) -> str:
    """A whole page that loads nothing."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style()),
    )
    body = element("body", element("main", *content), class_="report")
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(evidence: ReportData) -> Html:
    decision = evidence.decision
    verdict = element("span", OUTCOMES[decision.outcome], class_=f"verdict {tone(decision.outcome)}")
    return element(
        "header",
        element("p", clipped(decision.model), class_="eyebrow"),
        element("h1", verdict),
        element("p", clipped(decision.reason, 1000), class_="reason"),
        _headline(evidence),
        facts(_who(evidence)),
    )


def _who(evidence: ReportData) -> list[tuple[str, Any]]:
    details, decision = evidence.details, evidence.decision
    version, before = details.version, details.previous_version
    served = f"version {version}" if version else None
    kept = decision.champion_version or (details.champion.version if details.champion else None)
    ended = evidence.ended_at
    return [
        ("Candidate", clipped(decision.candidate) if decision.candidate else None),
        ("Serves now", served or (f"version {kept}, as before" if kept else "no model")),
        ("Before", f"version {before}" if version and before else None),
        ("Approved by", clipped(details.approver) if details.approver else None),
        ("Pipeline", clipped(evidence.identity.pipeline)),
        ("Run", _run(evidence)),
        ("Ended", f"{ended:%Y-%m-%d %H:%M} UTC" if ended else None),
    ]


def _run(evidence: ReportData) -> Html | str:
    name, url = clipped(evidence.identity.run_id), evidence.identity.run_url
    safe = url is not None and url.startswith(("http://", "https://"))
    return element("a", name, href=url, target="_blank", rel="noopener noreferrer") if safe else name


def _headline(evidence: ReportData) -> Html | None:
    """The primary metric in large type: of the candidate, of the champion, and the difference."""
    decision = evidence.decision
    metric = decision.metric
    if metric is None or metric not in decision.metrics:
        return None
    ours, theirs = decision.metrics[metric], decision.champion_metrics.get(metric)
    of_ours, of_theirs = decision.intervals.get(metric), decision.champion_intervals.get(metric)
    tiles = [
        _tile(f"{metric_name(metric)}, candidate", number(ours), _told(of_ours) or direction(metric), "candidate"),
    ]
    if theirs is not None:
        tiles.append(_tile(f"{metric_name(metric)}, champion", number(theirs), _told(of_theirs), "champion"))
    if decision.comparison is not None:
        compared = decision.comparison
        tiles.append(
            _tile("Difference, positive is better", f"{compared.difference:+.4f}", _told(compared.interval), None)
        )
    elif (dummy := decision.dummy_metrics.get(metric)) is not None:
        tiles.append(_tile(f"{metric_name(metric)}, learned nothing", number(dummy), "the floor", "dummy"))
    return element("div", *tiles, class_="tiles")


def _told(found: Any) -> str:
    return f"{found.confidence:.0%}: {interval(found.model_dump())}" if found else ""


def _tile(label: str, value: str, below: str, kind: str | None) -> Html:
    pieces = [element("span", label, class_="tile-label"), element("span", value, class_="tile-value")]
    return element("div", *pieces, element("span", below, class_="tile-below"), class_=f"tile {kind or ''}".strip())


def _footer(evidence: ReportData) -> Html:
    made = [f"Run {clipped(evidence.identity.run_id)} of {clipped(evidence.identity.pipeline)}."]
    return element(
        "footer", join(made), " All figures are of rows that no candidate has learned from, unless it says otherwise."
    )
