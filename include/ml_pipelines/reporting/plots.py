"""The plots of the report and of the web pages: each from an evaluation's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ml_pipelines.contracts import Interval
from ml_pipelines.data.drift import FeatureDrift
from ml_pipelines.reporting.formatting import metric_name, number, percent
from ml_pipelines.reporting.html import Html, clipped, element, join
from ml_pipelines.reporting.svg import (
    Axis,
    Frame,
    axis_over,
    band,
    bars,
    dots,
    figure,
    level_line,
    line,
    ticks,
    whiskers,
)

__all__ = [
    "HistoryPoint",
    "calibration",
    "confusion",
    "evaluated",
    "history",
    "importances",
    "intervals",
    "precision_recall",
    "residuals",
    "roc",
    "stability",
    "then_and_now",
]

Curve = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """What served after a run, measured on that run's rows; `new` if it came with the run."""

    at: datetime
    value: float
    interval: Interval | None = None
    new: bool = False


_MOMENTS = 5  # marks on an axis of time

_SHARES = [(value / 5, f"{value / 5:.1f}") for value in range(6)]
_SHOWN_CLASSES = 12
_SHOWN_FEATURES = 20
_ROW = 22


def evaluated(candidate: Mapping[str, Any], dummy: Mapping[str, float | None]) -> dict[str, Html]:
    """What there is to draw of an entry of the evaluation's `candidates`, by name.

    Args:
        candidate: the entry.
        dummy: test metrics of a model that learned nothing.
    """
    curves, metrics, drawn = candidate.get("curves") or {}, candidate["test"], {}
    if curves.get("roc"):
        drawn["roc"] = roc(curves["roc"], metrics.get("roc_auc"))
    if curves.get("pr"):
        average, base = metrics.get("average_precision"), dummy.get("average_precision")
        drawn["precision_recall"] = precision_recall(curves["pr"], average, base)
    if curves.get("calibration"):
        drawn["calibration"] = calibration(curves["calibration"])
    if curves.get("residuals"):
        drawn["residuals"] = residuals(curves["residuals"])
    if found := candidate.get("confusion"):
        drawn["confusion"] = confusion(found["labels"], found["matrix"])
    return drawn


def roc(curve: Curve, area: float | None) -> Html:
    """True against false positive rate."""
    frame = _unit_square("False positive rate (share of rows)", "True positive rate (share of rows)")
    told = f"The curve rises from 0 to 1; the area under it is {number(area)}, where guessing gives 0.5."
    diagonal = line(frame, (0, 1), (0, 1), "reference")
    return figure("roc", "ROC curve", told, frame, [diagonal, line(frame, curve["x"], curve["y"], "candidate")])


def precision_recall(curve: Curve, average: float | None, base: float | None) -> Html:
    """Precision against recall."""
    frame = _unit_square("Recall (share of hits)", "Precision (share of alarms)")
    told = f"Average precision is {number(average)}; guessing gives {number(base)}, the share of hits."
    reference = [level_line(frame, y=base)] if base is not None else []
    marks = [*reference, line(frame, curve["x"], curve["y"], "candidate")]
    return figure("pr", "Precision and recall", told, frame, marks)


def calibration(curve: Curve) -> Html:
    """Observed share of hits against predicted probability."""
    frame = _unit_square("Predicted probability", "Observed share of hits")
    worst = max((abs(x - y) for x, y in zip(curve["x"], curve["y"], strict=True)), default=0.0)
    told = f"In {len(curve['x'])} groups of rows; prediction and observation are at most {number(worst)} apart."
    marks = [line(frame, (0, 1), (0, 1), "reference"), line(frame, curve["x"], curve["y"], "candidate")]
    return figure("calibration", "Calibration", told, frame, [*marks, dots(frame, curve["x"], curve["y"], "candidate")])


def residuals(curve: Curve) -> Html:
    """Truth minus prediction, over the prediction."""
    x, y = axis_over(curve["x"], "Prediction"), axis_over([*curve["y"], 0.0], "Truth minus prediction")
    told = (
        f"{len(curve['x'])} rows; the mean is {number(curve['mean'])}, the standard deviation {number(curve['std'])}."
    )
    frame = Frame(x=x, y=y, left=66)
    return figure(
        "residuals",
        "Residuals",
        told,
        frame,
        [level_line(frame, y=0.0), *[dots(frame, curve["x"], curve["y"], "candidate faint")]],
    )


def confusion(labels: Sequence[Any], matrix: Sequence[Sequence[int]]) -> Html:
    """How many rows of each true class were taken for which; the colour is the share of the true class."""
    classes = min(len(labels), _SHOWN_CLASSES)
    marks = [(position + 0.5, str(label)) for position, label in enumerate(labels[:classes])]
    x = Axis(low=0, high=classes, label="Predicted class (rows)", marks=marks)
    y = Axis(low=classes, high=0, label="True class (rows)", marks=marks)
    frame = Frame(x=x, y=y, left=90)
    cells = join(_cell(frame, true, predicted, matrix[true]) for true in range(classes) for predicted in range(classes))
    right, rows = sum(row[place] for place, row in enumerate(matrix)), sum(map(sum, matrix))
    more = f" The first {classes} of {len(labels)} classes are shown." if len(labels) > classes else ""
    told = f"{right:,} of {rows:,} rows are on the diagonal, where the prediction is right.{more}"
    return figure("confusion", "Confusion", told, frame, [cells])


def _cell(frame: Frame, true: int, predicted: int, row: Sequence[int]) -> Html:
    (left, top), (right, bottom) = frame.at(predicted, true), frame.at(predicted + 1, true + 1)
    share = row[predicted] / (sum(row) or 1)
    place = {"x": left + 1, "y": top + 1, "width": round(right - left - 2, 2), "height": round(bottom - top - 2, 2)}
    middle = {"x": round((left + right) / 2, 2), "y": round((top + bottom) / 2 + 4, 2)}
    number_of_rows = element("text", f"{row[predicted]:,}", text_anchor="middle", class_="cell-text", **middle)
    under = element("rect", class_="under", **place)
    shade = element("rect", class_="cell", fill_opacity=round(0.08 + 0.62 * share, 3), rx=2, **place)
    return join([under, shade, number_of_rows])


def importances(found: Mapping[str, float]) -> Html:
    """How much worse the predictions become without each feature."""
    ranked = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:_SHOWN_FEATURES]
    names, values = [name for name, _ in ranked], [value for _, value in ranked]
    frame = _rows(names, axis_over([0.0, *values], "Rise of the loss when the feature is shuffled"), left=190)
    more = f" The first {len(names)} of {len(found)} features are shown." if len(found) > len(names) else ""
    told = f"The most important feature is {clipped(names[0])}, with {number(values[0])}.{more}"
    marks = [level_line(frame, x=0.0), bars(frame, values, "bar candidate")]
    return figure("importances", "Importance of the features", told, frame, marks)


def stability(found: Mapping[str, float], limit: float) -> Html:
    """The stability index of each feature, and the limit from which on one has drifted."""
    ranked = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:_SHOWN_FEATURES]
    names, values = [name for name, _ in ranked], [value for _, value in ranked]
    frame = _rows(names, axis_over([0.0, limit, *values], "Population stability index"), left=190)
    more = f" The first {len(names)} of {len(found)} features are shown." if len(found) > len(names) else ""
    told = f"{clipped(names[0])} has moved most, with {number(values[0])}; the limit is {number(limit)}.{more}"
    marks = [level_line(frame, x=0.0), bars(frame, values, "bar candidate"), level_line(frame, x=limit)]
    return figure("stability", "How far each feature has moved", told, frame, marks)


def then_and_now(name: str, found: FeatureDrift) -> Html | None:
    """The deciles of a feature then and now, or the shares of its commonest values; None if there are none."""
    assert found.reference is not None
    assert found.current is not None
    title = f"{clipped(found.feature, 40)}, then and now"
    if found.reference.get("quantiles") and found.current.get("quantiles"):
        return _deciles(name, title, found.reference["quantiles"], found.current["quantiles"])
    if found.reference.get("levels") and found.current.get("levels"):
        return _levels(name, title, found.reference["levels"], found.current["levels"])
    return None


def _deciles(name: str, title: str, then: Mapping[str, float], now: Mapping[str, float]) -> Html:
    x = axis_over([*then.values(), *now.values()], "Value")
    frame = Frame(x=x, y=Axis(low=0, high=1, label="Share of rows up to it", marks=_SHARES))
    marks = [
        line(frame, list(found.values()), [float(share) for share in found], kind)
        for kind, found in (("champion", then), ("candidate", now))
    ]
    told = f"The median was {number(then['0.5'])} and is {number(now['0.5'])}."
    return figure(name, title, told, frame, marks)


def _levels(name: str, title: str, then: Mapping[str, float], now: Mapping[str, float]) -> Html:
    levels = sorted({*then, *now}, key=lambda each: (-max(then.get(each, 0.0), now.get(each, 0.0)), each))[
        :_SHOWN_CLASSES
    ]
    frame = _rows(levels, axis_over([0.0, *then.values(), *now.values()], "Share of rows"), left=130)
    marks = [
        dots(frame, [found.get(level, 0.0) for level in levels], range(len(levels)), kind, radius=4.5)
        for kind, found in (("champion", then), ("candidate", now))
    ]
    was, now_is = percent(then.get(levels[0], 0.0)), percent(now.get(levels[0], 0.0))
    told = f"The share of {clipped(levels[0])} was {was} and is {now_is}."
    return figure(name, title, told, frame, marks)


def intervals(
    metric: str, rows: Sequence[tuple[str, str, float, Mapping[str, float] | None]], confidence: float
) -> Html:
    """One metric of several models with its intervals.

    Args:
        metric: which one.
        rows: label, class of the style sheet, value and interval of each model.
        confidence: of the intervals, such as 0.95.
    """
    ends = [end for _, _, _, found in rows if found for end in (found["low"], found["high"])]
    axis = axis_over([*(value for _, _, value, _ in rows), *ends], f"{metric_name(metric)} on the test rows")
    frame = _rows([label for label, _, _, _ in rows], axis, left=130, height=30)
    marks = []
    for position, (_, kind, value, found) in enumerate(rows):
        if found:
            marks.append(whiskers(frame, position, found["low"], found["high"], kind))
        marks.append(dots(frame, [value], [position], kind, radius=4.5))
    told = "; ".join(f"{label}: {number(value)}{_between(found)}" for label, _, value, found in rows)
    return figure("intervals", f"{metric_name(metric)} with {percent(confidence, 0)} intervals", told, frame, marks)


def history(metric: str, moments: Sequence[HistoryPoint]) -> Html:
    """A metric of what served over time, with its interval, and where a new model took over.

    Args:
        metric: which one.
        moments: oldest first; at least one.
    """
    times, values = [each.at.timestamp() for each in moments], [each.value for each in moments]
    known = [each for each in moments if each.interval]
    ends = [end for each in known if each.interval for end in (each.interval.low, each.interval.high)]
    y = axis_over([*values, *ends], metric_name(metric))
    frame = Frame(x=_time_axis(times), y=y, width=720, height=260, left=60, right=24)
    marks = []
    if len(known) == len(moments):
        low, high = ([getattr(each.interval, end) for each in known] for end in ("low", "high"))
        marks.append(band(frame, times, low, high, "champion"))
    marks.append(line(frame, times, values, "champion"))
    took_over = [each for each in moments if each.new]
    marks.append(dots(frame, times, values, "champion", radius=2.5))
    at, reached = [each.at.timestamp() for each in took_over], [each.value for each in took_over]
    marks.append(dots(frame, at, reached, "candidate", radius=4.5))
    told = (
        f"{len(moments)} runs; a new model took over in {len(took_over)}. The last value is {number(values[-1])}, "
        f"the lowest {number(min(values))}, the highest {number(max(values))}."
    )
    return figure("history", f"{metric_name(metric)} of what served", told, frame, marks)


def _time_axis(times: Sequence[float]) -> Axis:
    low, high = min(times), max(times)
    room = (high - low) * 0.02 or 43_200.0
    low, high = low - room, high + room
    shape = "%Y-%m-%d" if high - low > 3 * 86_400 else "%m-%d %H:%M"
    places = [low + (high - low) * (position + 0.5) / _MOMENTS for position in range(_MOMENTS)]
    marks = [(place, f"{datetime.fromtimestamp(place, UTC):{shape}}") for place in places]
    return Axis(low=low, high=high, label="End of the run (UTC)", marks=marks)


def _between(found: Mapping[str, float] | None) -> str:
    return f", between {number(found['low'])} and {number(found['high'])}" if found else ""


def _unit_square(x: str, y: str) -> Frame:
    return Frame(x=Axis(low=0, high=1, label=x, marks=_SHARES), y=Axis(low=0, high=1, label=y, marks=_SHARES))


def _rows(names: Sequence[str], x: Axis, *, left: float, height: float = _ROW) -> Frame:
    """A frame with one row a name, the first on top."""
    marks = [(float(position), name) for position, name in enumerate(names)]
    y = Axis(low=len(names) - 0.5, high=-0.5, label="", marks=marks)
    x = Axis(low=x.low, high=x.high, label=x.label, marks=ticks(x.low, x.high, 4))
    return Frame(x=x, y=y, width=560, height=10 + 44 + height * len(names), left=left)
