"""The plots of the reports and of the web pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ml_pipelines.contracts import Interval
from ml_pipelines.data.drift import FeatureDrift
from ml_pipelines.data.feature_profile import CategoryProfile, NumberProfile
from ml_pipelines.reporting.formatting import (
    clip,
    format_count,
    format_interval,
    format_number,
    format_percent,
    metric_name,
)
from ml_pipelines.reporting.svg import (
    Axis,
    Figure,
    Frame,
    Shape,
    axis_for,
    band,
    bars,
    error_bar,
    line,
    points,
    reference_line,
    shape,
    text,
    ticks,
)

__all__ = [
    "HistoryPoint",
    "ModelInterval",
    "calibration_plot",
    "confusion_plot",
    "distribution_plot",
    "drift_plot",
    "evaluation_figures",
    "history_plot",
    "importance_plot",
    "interval_plot",
    "precision_recall_plot",
    "residual_plot",
    "roc_plot",
]

Curve = Mapping[str, Any]
# Series of a comparison with a reference, and their classes in the style sheet.
_REFERENCE, _CURRENT = "champion", "candidate"
_SHARES = [(value / 5, f"{value / 5:.1f}") for value in range(6)]
_MAX_CLASSES = 12
_MAX_FEATURES = 20
_TIME_MARKS = 5
_ROW_HEIGHT = 22
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """The primary metric of the deployed model after a run, measured on the data of that run.

    Attributes:
        at: end of the run.
        value: of the metric.
        interval: of the metric, None if it was not computed.
        new: whether the run deployed this model.
    """

    at: datetime
    value: float
    interval: Interval | None = None
    new: bool = False


@dataclass(frozen=True, slots=True)
class ModelInterval:
    """A metric of one model. `series` is a class of the style sheet."""

    label: str
    series: str
    value: float
    interval: Interval | None = None


def evaluation_figures(candidate: Mapping[str, Any], dummy: Mapping[str, float | None]) -> dict[str, Figure]:
    """Return the figures of an entry in the evaluation's `candidates`, by name.

    Args:
        candidate: the entry.
        dummy: test metrics of the dummy baseline.
    """
    curves, metrics, figures = candidate.get("curves") or {}, candidate["test"], {}
    if curves.get("roc"):
        figures["roc"] = roc_plot(curves["roc"], metrics.get("roc_auc"))
    if curves.get("pr"):
        average, base = metrics.get("average_precision"), dummy.get("average_precision")
        figures["precision_recall"] = precision_recall_plot(curves["pr"], average, base)
    if curves.get("calibration"):
        figures["calibration"] = calibration_plot(curves["calibration"])
    if curves.get("residuals"):
        figures["residuals"] = residual_plot(curves["residuals"])
    if confusion := candidate.get("confusion"):
        figures["confusion"] = confusion_plot(confusion["labels"], confusion["matrix"])
    return figures


def roc_plot(curve: Curve, area: float | None) -> Figure:
    """Return the true positive rate against the false positive rate."""
    frame = _unit_square("False positive rate", "True positive rate")
    summary = f"The area under the curve is {format_number(area)}; a random ranking has 0.5."
    return Figure("roc", "ROC curve", summary, frame, [_diagonal(frame), line(frame, curve["x"], curve["y"], _CURRENT)])


def precision_recall_plot(curve: Curve, average: float | None, base: float | None) -> Figure:
    """Return precision against recall."""
    frame = _unit_square("Recall", "Precision")
    summary = (
        f"The average precision is {format_number(average)}; a random ranking has {format_number(base)}, the share of "
        "positives."
    )
    baseline = [reference_line(frame, y=base)] if base is not None else []
    shapes = [*baseline, line(frame, curve["x"], curve["y"], _CURRENT)]
    return Figure("pr", "Precision and recall", summary, frame, shapes)


def calibration_plot(curve: Curve) -> Figure:
    """Return the observed share of positives against the predicted probability."""
    frame = _unit_square("Predicted probability", "Observed share of positives")
    gap = max((abs(x - y) for x, y in zip(curve["x"], curve["y"], strict=True)), default=0.0)
    summary = f"{len(curve['x'])} groups of rows; the largest gap is {format_number(gap)}."
    curve_shapes = [
        line(frame, curve["x"], curve["y"], _CURRENT),
        *points(frame, curve["x"], curve["y"], _CURRENT),
    ]
    return Figure("calibration", "Calibration", summary, frame, [_diagonal(frame), *curve_shapes])


def residual_plot(curve: Curve) -> Figure:
    """Return truth minus prediction against the prediction."""
    x, y = axis_for(curve["x"], "Prediction"), axis_for([*curve["y"], 0.0], "Truth minus prediction")
    mean, deviation = format_number(curve["mean"]), format_number(curve["std"])
    summary = f"{len(curve['x'])} rows; the mean is {mean}, the standard deviation {deviation}."
    frame = Frame(x=x, y=y, left=66)
    shapes = [reference_line(frame, y=0.0), *points(frame, curve["x"], curve["y"], f"{_CURRENT} faint")]
    return Figure("residuals", "Residuals", summary, frame, shapes)


def confusion_plot(labels: Sequence[Any], matrix: Sequence[Sequence[int]]) -> Figure:
    """Return the rows of each true class by predicted class. The colour is the share of the true class."""
    count = min(len(labels), _MAX_CLASSES)
    marks = [(position + 0.5, str(label)) for position, label in enumerate(labels[:count])]
    x = Axis(low=0, high=count, label="Predicted class", marks=marks)
    y = Axis(low=count, high=0, label="True class", marks=marks)
    frame = Frame(x=x, y=y, left=90)
    pairs = [(true, predicted) for true in range(count) for predicted in range(count)]
    shapes = [cell for true, predicted in pairs for cell in _confusion_cell(frame, true, predicted, matrix[true])]
    correct, rows = sum(row[position] for position, row in enumerate(matrix)), sum(map(sum, matrix))
    rest = _first_shown(count, len(labels), "classes")
    summary = f"{format_count(correct)} of {format_count(rows)} rows have the right prediction.{rest}"
    return Figure("confusion", "Confusion matrix", summary, frame, shapes)


def _confusion_cell(frame: Frame, true: int, predicted: int, row: Sequence[int]) -> list[Shape]:
    (left, top), (right, bottom) = frame.at(predicted, true), frame.at(predicted + 1, true + 1)
    share = row[predicted] / (sum(row) or 1)
    place = {"x": left + 1, "y": top + 1, "width": round(right - left - 2, 2), "height": round(bottom - top - 2, 2)}
    x, y = round((left + right) / 2, 2), round((top + bottom) / 2 + 4, 2)
    return [
        shape("rect", "under", **place),
        shape("rect", "cell", fill_opacity=round(0.08 + 0.62 * share, 3), rx=2, **place),
        text(format_count(row[predicted]), "cell-text", x=x, y=y),
    ]


def importance_plot(importances: Mapping[str, float]) -> Figure:
    """Return the permutation importance of the features."""
    names, values = _largest(importances)
    frame = _row_frame(names, axis_for([0.0, *values], "Increase of the loss when the feature is shuffled"), left=190)
    rest = _first_shown(len(names), len(importances), "features")
    summary = f"The most important feature is {clip(names[0])}, with {format_number(values[0])}.{rest}"
    shapes = [reference_line(frame, x=0.0), *bars(frame, values, "bar candidate")]
    return Figure("importances", "Permutation importance", summary, frame, shapes)


def drift_plot(indexes: Mapping[str, float], limit: float) -> Figure:
    """Return the population stability index of the features, and the limit of drift."""
    names, values = _largest(indexes)
    frame = _row_frame(names, axis_for([0.0, limit, *values], "Population stability index"), left=190)
    rest = _first_shown(len(names), len(indexes), "features")
    largest = f"{clip(names[0])} has the largest index, {format_number(values[0])}"
    summary = f"{largest}; the limit is {format_number(limit)}.{rest}"
    shapes = [reference_line(frame, x=0.0), *bars(frame, values, "bar candidate"), reference_line(frame, x=limit)]
    return Figure("stability", "Population stability index by feature", summary, frame, shapes)


def _largest(values: Mapping[str, float]) -> tuple[list[str], list[float]]:
    ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_MAX_FEATURES]
    return [name for name, _ in ranked], [value for _, value in ranked]


def _first_shown(shown: int, total: int, noun: str) -> str:
    return f" The first {shown} of {total} {noun} are shown." if total > shown else ""


def distribution_plot(name: str, drift: FeatureDrift) -> Figure | None:
    """Return the deciles or the most frequent values of a feature in the reference and in the current data.

    Args:
        name: unique on the page.
        drift: a feature that both data sets have.

    Returns:
        None if the profiles have nothing comparable.
    """
    title = clip(drift.feature, 40)
    match drift.reference, drift.current:
        case NumberProfile(quantiles=reference), NumberProfile(quantiles=current) if reference and current:
            return _decile_plot(name, title, reference, current)
        case CategoryProfile(levels=reference), CategoryProfile(levels=current) if reference and current:
            return _level_plot(name, title, reference, current)
    return None


def _decile_plot(name: str, title: str, reference: Mapping[str, float], current: Mapping[str, float]) -> Figure:
    x = axis_for([*reference.values(), *current.values()], "Value")
    frame = Frame(x=x, y=Axis(low=0, high=1, label="Cumulative share of rows", marks=_SHARES))
    shapes = [
        line(frame, list(quantiles.values()), [float(share) for share in quantiles], series)
        for series, quantiles in ((_REFERENCE, reference), (_CURRENT, current))
    ]
    medians = f"reference {format_number(reference['0.5'])}, current {format_number(current['0.5'])}"
    return Figure(name, title, f"Median: {medians}.", frame, shapes)


def _level_plot(name: str, title: str, reference: Mapping[str, float], current: Mapping[str, float]) -> Figure:
    largest = {level: max(reference.get(level, 0.0), current.get(level, 0.0)) for level in {*reference, *current}}
    levels = sorted(largest, key=lambda level: (-largest[level], level))[:_MAX_CLASSES]
    frame = _row_frame(levels, axis_for([0.0, *largest.values()], "Share of rows"), left=130)
    rows = range(len(levels))
    shapes = [
        dot
        for series, shares in ((_REFERENCE, reference), (_CURRENT, current))
        for dot in points(frame, [shares.get(level, 0.0) for level in levels], rows, series, radius=4.5)
    ]
    before, after = (format_percent(shares.get(levels[0], 0.0)) for shares in (reference, current))
    summary = f"Share of {clip(levels[0])}: reference {before}, current {after}."
    return Figure(name, title, summary, frame, shapes)


def interval_plot(metric: str, rows: Sequence[ModelInterval], confidence: float) -> Figure:
    """Return one metric of several models, with its intervals.

    Args:
        metric: name of the metric.
        rows: value and interval of each model.
        confidence: of the intervals, such as 0.95.
    """
    bounds = [bound for row in rows if row.interval for bound in (row.interval.low, row.interval.high)]
    axis = axis_for([*(row.value for row in rows), *bounds], f"{metric_name(metric)} on the test set")
    frame = _row_frame([row.label for row in rows], axis, left=130, row_height=30)
    shapes: list[Shape] = []
    for position, row in enumerate(rows):
        if row.interval:
            shapes += error_bar(frame, position, row.interval.low, row.interval.high, row.series)
        shapes += points(frame, [row.value], [position], row.series, radius=4.5)
    title = f"{metric_name(metric)} with {format_percent(confidence, 0)} intervals"
    return Figure("intervals", title, "; ".join(map(_interval_text, rows)), frame, shapes)


def _interval_text(row: ModelInterval) -> str:
    interval = f" (interval {format_interval(row.interval)})" if row.interval else ""
    return f"{row.label}: {format_number(row.value)}{interval}"


def history_plot(metric: str, history: Sequence[HistoryPoint]) -> Figure:
    """Return a metric of the deployed model over time, with its interval and the deployments of new models.

    Args:
        metric: name of the metric.
        history: oldest first; at least one point.
    """
    times, values = [point.at.timestamp() for point in history], [point.value for point in history]
    intervals = [point.interval for point in history if point.interval]
    bounds = [bound for interval in intervals for bound in (interval.low, interval.high)]
    y = axis_for([*values, *bounds], metric_name(metric))
    frame = Frame(x=_time_axis(times), y=y, width=720, height=260, left=60, right=24)
    shapes: list[Shape] = []
    if len(intervals) == len(history):
        low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
        shapes.append(band(frame, times, low, high, "champion"))
    shapes += [line(frame, times, values, "champion"), *points(frame, times, values, "champion", radius=2.5)]
    new = [point for point in history if point.new]
    new_times = [point.at.timestamp() for point in new]
    shapes += points(frame, new_times, [point.value for point in new], "candidate", radius=4.5)
    summary = (
        f"{len(history)} runs, {len(new)} of them deployed a new model. Latest value {format_number(values[-1])}, "
        f"lowest {format_number(min(values))}, highest {format_number(max(values))}."
    )
    return Figure("history", f"{metric_name(metric)} of the deployed model", summary, frame, shapes)


def _time_axis(times: Sequence[float]) -> Axis:
    low, high = min(times), max(times)
    margin = (high - low) * 0.02 or _DAY_SECONDS / 2
    low, high = low - margin, high + margin
    date_format = "%Y-%m-%d" if high - low > 3 * _DAY_SECONDS else "%m-%d %H:%M"
    positions = [low + (high - low) * (index + 0.5) / _TIME_MARKS for index in range(_TIME_MARKS)]
    marks = [(position, f"{datetime.fromtimestamp(position, UTC):{date_format}}") for position in positions]
    return Axis(low=low, high=high, label="End of the run (UTC)", marks=marks)


def _diagonal(frame: Frame) -> Shape:
    return line(frame, (0, 1), (0, 1), "reference")


def _unit_square(x: str, y: str) -> Frame:
    return Frame(x=Axis(low=0, high=1, label=x, marks=_SHARES), y=Axis(low=0, high=1, label=y, marks=_SHARES))


def _row_frame(names: Sequence[str], x: Axis, *, left: float, row_height: float = _ROW_HEIGHT) -> Frame:
    """Return a frame with one row per name, the first on top."""
    marks = [(float(position), name) for position, name in enumerate(names)]
    y = Axis(low=len(names) - 0.5, high=-0.5, label="", marks=marks)
    x = Axis(low=x.low, high=x.high, label=x.label, marks=ticks(x.low, x.high, 4))
    return Frame(x=x, y=y, width=560, height=10 + 44 + row_height * len(names), left=left)
