"""The report on drift as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_pipelines.data.drift import FeatureDrift
from ml_pipelines.reporting.components import Facts, Figures, Header, Section, Table, Text, note, section
from ml_pipelines.reporting.formatting import clip, format_count
from ml_pipelines.reporting.plots import distribution_plot, drift_plot
from ml_pipelines.reporting.rendering import render_page
from ml_pipelines.reporting.run_sections import DRIFT_HEAD, drift_blocks, drift_row

__all__ = ["DriftReportData", "render_drift_report"]

_MAX_DISTRIBUTIONS = 6
_COLOUR_NOTE = "Orange: reference data. Blue: current data."


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReportData:
    """The result of a drift measurement.

    Attributes:
        about: `model`, `version`, `watch`, `batch`, `first` and `scored_with`.
        values: values of the step.
        limit: index from which on a feature has drifted.
        features: drift of each feature, the largest first.
        predictions: drift of the predictions; None without an earlier batch.
    """

    about: Mapping[str, Any]
    values: Mapping[str, Any]
    limit: float
    features: Sequence[FeatureDrift]
    predictions: FeatureDrift | None


def render_drift_report(data: DriftReportData) -> str:
    """Return the report as one HTML document. Equal data gives equal bytes."""
    verdict, tone = _verdict(data.values)
    model = clip(data.about["model"])
    header = Header(
        model=model,
        verdict=verdict,
        tone=tone,
        reason=clip(data.values["reason"], 1000),
        facts=_facts(data),
    )
    sections = [_features_section(data), _distributions_section(data), _predictions_section(data)]
    return render_page(f"{model}: {verdict}", header, [entry for entry in sections if entry is not None])


def _verdict(values: Mapping[str, Any]) -> tuple[str, str]:
    if values["features"] or values["predictions"]:
        return "Drifted", "bad"
    return ("Stable", "good") if values["judged"] else ("Too few rows", "")


def _facts(data: DriftReportData) -> Facts:
    about = data.about
    return Facts(
        [
            ("Reference", f"training data of version {about['version']}"),
            ("Batch", clip(f"{about['watch']}, run {about['batch']}")),
            ("Scored with", f"version {about['scored_with']}"),
            ("Rows", format_count(data.values["rows"])),
            ("Limit of the index", f"{data.limit:g}"),
        ]
    )


def _features_section(data: DriftReportData) -> Section:
    indexes = {drift.feature: drift.index for drift in data.features if drift.index is not None}
    figure = drift_plot(indexes, data.limit) if indexes else None
    return section("features", "Feature drift", figure, *drift_blocks(data.features))


def _distributions_section(data: DriftReportData) -> Section | None:
    """Return the distributions of the features with the largest drift."""
    comparable = [drift for drift in data.features if drift.index and drift.reference and drift.current]
    figures = [
        figure
        for position, drift in enumerate(comparable[:_MAX_DISTRIBUTIONS])
        if (figure := distribution_plot(f"distribution-{position}", drift)) is not None
    ]
    if not figures:
        return None
    return section("distributions", "Largest drifts", Figures(figures), note(_COLOUR_NOTE))


def _predictions_section(data: DriftReportData) -> Section:
    if data.predictions is None:
        reason = f"Not measured: no earlier batch of version {data.about['scored_with']} is on record."
        return section("predictions", "Prediction drift", Text(reason))
    figure = distribution_plot("distribution-predictions", data.predictions)
    return section(
        "predictions",
        "Prediction drift",
        Table(head=("", *DRIFT_HEAD[1:]), rows=[drift_row(data.predictions)], numeric=(1,)),
        Figures([figure]) if figure else None,
        note(f"Reference: the first batch of the same version on record, run {clip(data.about['first'])}."),
        note(_COLOUR_NOTE) if figure else None,
    )
