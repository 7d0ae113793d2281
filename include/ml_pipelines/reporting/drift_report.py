"""The report on drift: one HTML file, as that of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_pipelines.data.drift import LARGE_DRIFT, MODERATE_DRIFT, FeatureDrift
from ml_pipelines.reporting import plots
from ml_pipelines.reporting.components import facts, more, note, section, table
from ml_pipelines.reporting.html import Html, clipped, element
from ml_pipelines.reporting.run_sections import moved_row
from ml_pipelines.reporting.training_report import document

__all__ = ["DriftReportData", "render_drift_report"]

_SHOWN_FEATURES = 100
_DRAWN_FEATURES = 6
_COLOURS = "Orange is then, blue is now."
_HEAD = ("", "Stability index", "Verdict", "Then", "Now")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReportData:
    """What was measured.

    Attributes:
        about: `model`, `version`, `watch`, `batch`, `first` and `scored_with`.
        values: of the step.
        limit: the index from which on something has drifted.
        features: each one, the one that has moved most first.
        predictions: None if there is nothing to compare them with.
    """

    about: Mapping[str, Any]
    values: Mapping[str, Any]
    limit: float
    features: Sequence[FeatureDrift]
    predictions: FeatureDrift | None


def render_drift_report(found: DriftReportData) -> str:
    """The report as one HTML document. The same measurement gives the same bytes."""
    drifted = found.values["features"] or found.values["predictions"]
    word, tone = ("drifted", "bad") if drifted else ("stable", "good") if found.values["judged"] else ("not judged", "")
    about = found.about
    header = element(
        "header",
        element("p", clipped(about["model"]), class_="eyebrow"),
        element("h1", element("span", word, class_=f"verdict {tone}".strip())),
        element("p", clipped(found.values["reason"], 1000), class_="reason"),
        facts(
            [
                ("Compared with", f"the training of version {about['version']}"),
                ("Batch", clipped(f"{about['watch']}, run {about['batch']}")),
                ("Scored with", f"version {about['scored_with']}"),
                ("Rows", f"{found.values['rows']:,}"),
                ("DriftReportData from", f"an index of {found.limit:g} on"),
            ]
        ),
    )
    title = f"{clipped(about['model'])}: {word}"
    return document(title, header, _features(found), _distributions(found), _predictions(found))


def _features(found: DriftReportData) -> Html:
    shown = found.features[:_SHOWN_FEATURES]
    measured = {each.feature: each.index for each in found.features if each.index is not None}
    return section(
        "features",
        "Features",
        plots.stability(measured, found.limit) if measured else None,
        table(("Feature", *_HEAD[1:]), map(moved_row, shown), numbers=(1,)),
        more(len(shown), len(found.features), "features"),
        note(
            f"Population stability index against the rows of the training: below {MODERATE_DRIFT} is stable, "
            f"from {LARGE_DRIFT} on it has shifted. Missing cells count as a value of their own."
        ),
    )


def _distributions(found: DriftReportData) -> Html | None:
    """The features that have moved most, then and now."""
    drawn = [each for each in found.features if each.index and each.reference and each.current][:_DRAWN_FEATURES]
    made = [plots.then_and_now(f"then-and-now-{place}", each) for place, each in enumerate(drawn)]
    made = [each for each in made if each is not None]
    if not made:
        return None
    return section("distributions", "What has moved most", element("div", *made, class_="plots"), note(_COLOURS))


def _predictions(found: DriftReportData) -> Html:
    if found.predictions is None:
        told = f"Not measured: no earlier batch that version {found.about['scored_with']} has scored is on record."
        return section("predictions", "Predictions", element("p", told))
    drawn = plots.then_and_now("predictions-then-and-now", found.predictions)
    return section(
        "predictions",
        "Predictions",
        table(_HEAD, [moved_row(found.predictions)], numbers=(1,)),
        element("div", drawn, class_="plots"),
        note(
            f"Compared with the first batch of the same version that is on record: run {clipped(found.about['first'])}."
        ),
        note(_COLOURS),
    )
