"""Small plots as SVG shapes. They follow the colours of the page, have a text alternative, and need no script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ml_pipelines.reporting.formatting import clip

__all__ = [
    "Axis",
    "Figure",
    "Frame",
    "Shape",
    "axes",
    "axis_for",
    "band",
    "bars",
    "error_bar",
    "line",
    "points",
    "reference_line",
    "shape",
    "text",
    "ticks",
]

Numbers = Sequence[float]
Attribute = str | float


@dataclass(frozen=True, slots=True)
class Shape:
    """An SVG element. The template escapes `text` and the values of `attributes`."""

    tag: str
    attributes: dict[str, Attribute] = field(default_factory=dict)
    text: str | None = None


def shape(tag: str, style: str, **attributes: Attribute) -> Shape:
    """Return a shape with a class of the style sheet. An attribute `fill_opacity` becomes `fill-opacity`."""
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return Shape(tag, {**named, "class": style})


def text(content: str, style: str, *, anchor: str = "middle", **attributes: Attribute) -> Shape:
    """Return a text with a class of the style sheet."""
    return Shape("text", {**attributes, "text-anchor": anchor, "class": style}, content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        low: value at the start.
        high: value at the end.
        label: the measured quantity, with its unit.
        marks: positions and texts of the tick marks.
    """

    low: float
    high: float
    label: str
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A drawing area with its axes and margins, in units of about one pixel."""

    x: Axis
    y: Axis
    width: float = 360
    height: float = 270
    left: float = 52
    right: float = 12
    top: float = 10
    bottom: float = 44

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a point, limited to the axes."""
        across = _fraction(self.x, x) * (self.width - self.left - self.right)
        up = _fraction(self.y, y) * (self.height - self.top - self.bottom)
        return round(self.left + across, 2), round(self.height - self.bottom - up, 2)


def _fraction(axis: Axis, value: float) -> float:
    return min(1.0, max(0.0, (value - axis.low) / (axis.high - axis.low)))


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its caption.

    Attributes:
        name: unique on the page; letters, digits and hyphens.
        title: caption.
        summary: the content in a sentence, for screen readers.
        frame: drawing area.
        shapes: the data, drawn above the axes.
    """

    name: str
    title: str
    summary: str
    frame: Frame
    shapes: Sequence[Shape]
    kind: ClassVar[str] = "figure"

    @property
    def all_shapes(self) -> list[Shape]:
        """The axes and the data."""
        return [*axes(self.frame), *self.shapes]


def ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Return about `count` round numbers between two bounds, with their texts."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, _tick_text(number * step, digits)) for number in range(first, last + 1)]


def _tick_text(value: float, digits: int) -> str:
    if abs(value) >= 1e6 or digits > 6:
        return f"{value:.3g}"
    return f"{value + 0.0:,.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def axis_for(values: Numbers, label: str, *, count: int = 5, margin: float = 0.04) -> Axis:
    """Return an axis that covers all values and a margin, with marks at round numbers."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    space = (high - low) * margin or abs(high) * 0.1 or 1.0
    low, high = low - space, high + space
    return Axis(low=low, high=high, label=label, marks=ticks(low, high, count))


def axes(frame: Frame) -> list[Shape]:
    """Return the axes of a frame, with tick marks and labels."""
    left, bottom = frame.at(frame.x.low, frame.y.low)
    right, top = frame.at(frame.x.high, frame.y.high)
    shapes = [_segment(left, right, bottom, bottom, "axis")]
    for value, name in frame.x.marks:
        x, _ = frame.at(value, frame.y.low)
        shapes += [_segment(x, x, top, bottom, "grid"), text(clip(name, 16), "tick", x=x, y=bottom + 15)]
    for value, name in frame.y.marks:
        _, y = frame.at(frame.x.low, value)
        mark = text(clip(name, 24), "tick", anchor="end", x=left - 7, y=y + 4)
        shapes += [_segment(left, right, y, y, "grid"), mark]
    shapes.append(text(frame.x.label, "label", x=round((left + right) / 2, 2), y=frame.height - 6))
    if frame.y.label:
        y = round((top + bottom) / 2, 2)
        shapes.append(text(frame.y.label, "label", x=12, y=y, transform=f"rotate(-90 12 {y})"))
    return shapes


def _segment(x1: float, x2: float, y1: float, y2: float, style: str) -> Shape:
    return shape("line", style, x1=x1, x2=x2, y1=y1, y2=y2)


def line(frame: Frame, x: Numbers, y: Numbers, style: str) -> Shape:
    """Return a line through points; `style` is a class of the style sheet, such as `candidate`."""
    return shape("polyline", f"line {style}", points=_points(map(frame.at, x, y)))


def reference_line(frame: Frame, *, y: float | None = None, x: float | None = None) -> Shape:
    """Return a dashed line across the frame at one value of `x` or `y`."""
    if y is not None:
        return line(frame, (frame.x.low, frame.x.high), (y, y), "reference")
    assert x is not None
    return line(frame, (x, x), (frame.y.low, frame.y.high), "reference")


def points(frame: Frame, x: Numbers, y: Numbers, style: str, radius: float = 3) -> list[Shape]:
    """Return a dot at each point."""
    return [shape("circle", f"dot {style}", cx=cx, cy=cy, r=radius) for cx, cy in map(frame.at, x, y)]


def error_bar(frame: Frame, y: float, low: float, high: float, style: str) -> list[Shape]:
    """Return a horizontal error bar."""
    (x1, center), (x2, _) = frame.at(low, y), frame.at(high, y)
    ends = (_segment(x, x, center - 5, center + 5, f"whisker {style}") for x in (x1, x2))
    return [_segment(x1, x2, center, center, f"whisker {style}"), *ends]


def bars(frame: Frame, values: Numbers, style: str, thickness: float = 12) -> list[Shape]:
    """Return horizontal bars from zero, the first at height 0, the next at height 1, and so on."""
    shapes = []
    for position, value in enumerate(values):
        (x1, center), (x2, _) = frame.at(0.0, position), frame.at(value, position)
        width = max(round(abs(x2 - x1), 2), 1.0)
        place = {"x": min(x1, x2), "y": center - thickness / 2, "width": width, "height": thickness}
        shapes.append(shape("rect", style, rx=2, **place))
    return shapes


def band(frame: Frame, x: Numbers, low: Numbers, high: Numbers, style: str) -> Shape:
    """Return the area between two lines."""
    outline = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
    return shape("polygon", f"band {style}", points=_points(frame.at(*point) for point in outline))


def _points(positions: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in positions)
