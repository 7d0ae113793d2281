"""Small plots as inline SVG: they follow the page's colours, say in words what they show, and need no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ml_pipelines.reporting.html import Html, clipped, element, join

__all__ = [
    "Axis",
    "Frame",
    "axis_over",
    "band",
    "bars",
    "dots",
    "figure",
    "framed",
    "level_line",
    "line",
    "ticks",
    "whiskers",
]

Numbers = Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        low: where it begins.
        high: where it ends, above `low`.
        label: what is measured, with its unit.
        marks: where it has a mark, and what that is called; none are made up if there are none.
    """

    low: float
    high: float
    label: str
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A drawing area and its axes, in the units of the picture: about one pixel each."""

    x: Axis
    y: Axis
    width: float = 360
    height: float = 270
    left: float = 52
    right: float = 12
    top: float = 10
    bottom: float = 44

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is drawn; outside the axes, at their edge."""
        across = _part(self.x, x) * (self.width - self.left - self.right)
        up = _part(self.y, y) * (self.height - self.top - self.bottom)
        return round(self.left + across, 2), round(self.height - self.bottom - up, 2)


def _part(axis: Axis, value: float) -> float:
    return min(1.0, max(0.0, (value - axis.low) / (axis.high - axis.low)))


def ticks(low: float, high: float, about: int = 5) -> list[tuple[float, str]]:
    """Round numbers between two bounds, about so many, and how they are written."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, _written(number * step, digits)) for number in range(first, last + 1)]


def _written(value: float, digits: int) -> str:
    if abs(value) >= 1e6 or digits > 6:
        return f"{value:.3g}"
    return f"{value + 0.0:,.{digits}f}"


def axis_over(values: Numbers, label: str, *, about: int = 5, margin: float = 0.04) -> Axis:
    """An axis that shows all values, with a margin and marks at round numbers."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    return Axis(low=low, high=high, label=label, marks=ticks(low, high, about))


def figure(name: str, title: str, summary: str, frame: Frame, marks: Sequence[Html]) -> Html:
    """A plot with its caption.

    Args:
        name: tells it apart from the others of the page, letters and digits.
        title: what it shows.
        summary: the same in a sentence, for who can't see it.
        frame: the drawing area.
        marks: what is drawn in it.
    """
    drawing = element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", summary, id=f"{name}-desc"),
        framed(frame),
        *marks,
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="plot",
    )
    return element("figure", element("figcaption", title), drawing)


def framed(frame: Frame) -> Html:
    """The axes, their marks and their labels."""
    left, bottom = frame.at(frame.x.low, frame.y.low)
    right, top = frame.at(frame.x.high, frame.y.high)
    pieces = [element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis")]
    for value, name in frame.x.marks:
        x, _ = frame.at(value, frame.y.low)
        pieces.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        pieces.append(element("text", clipped(name, 16), x=x, y=bottom + 15, text_anchor="middle", class_="tick"))
    for value, name in frame.y.marks:
        _, y = frame.at(frame.x.low, value)
        pieces.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        pieces.append(element("text", clipped(name, 24), x=left - 7, y=y + 4, text_anchor="end", class_="tick"))
    place: dict[str, str | float] = {"x": round((left + right) / 2, 2), "y": frame.height - 6}
    pieces.append(element("text", frame.x.label, text_anchor="middle", class_="label", **place))
    if frame.y.label:
        y = round((top + bottom) / 2, 2)
        place = {"x": 12, "y": y, "transform": f"rotate(-90 12 {y})"}
        pieces.append(element("text", frame.y.label, text_anchor="middle", class_="label", **place))
    return join(pieces)


def line(frame: Frame, x: Numbers, y: Numbers, kind: str) -> Html:
    """A line through points; `kind` is a class of the style sheet, such as `candidate`."""
    points = " ".join(f"{across:g},{down:g}" for across, down in map(frame.at, x, y))
    return element("polyline", points=points, class_=f"line {kind}")


def level_line(frame: Frame, *, y: float | None = None, x: float | None = None, kind: str = "reference") -> Html:
    """A line from edge to edge at one value."""
    if y is not None:
        return line(frame, (frame.x.low, frame.x.high), (y, y), kind)
    assert x is not None
    return line(frame, (x, x), (frame.y.low, frame.y.high), kind)


def dots(frame: Frame, x: Numbers, y: Numbers, kind: str, radius: float = 3) -> Html:
    """A dot at each point."""
    places = map(frame.at, x, y)
    return join(element("circle", cx=across, cy=down, r=radius, class_=f"dot {kind}") for across, down in places)


def whiskers(frame: Frame, y: float, low: float, high: float, kind: str) -> Html:
    """A horizontal interval with ends."""
    (x0, down), (x1, _) = frame.at(low, y), frame.at(high, y)
    ends = (element("line", x1=x, x2=x, y1=down - 5, y2=down + 5, class_=f"whisker {kind}") for x in (x0, x1))
    return join([element("line", x1=x0, x2=x1, y1=down, y2=down, class_=f"whisker {kind}"), *ends])


def bars(frame: Frame, values: Numbers, kind: str, thickness: float = 12) -> Html:
    """Horizontal bars from zero, the first at the height 0, the next at 1 and so on."""
    drawn = []
    for position, value in enumerate(values):
        (x0, down), (x1, _) = frame.at(0.0, position), frame.at(value, position)
        width = max(round(abs(x1 - x0), 2), 1.0)
        drawn.append(
            element("rect", x=min(x0, x1), y=down - thickness / 2, width=width, height=thickness, rx=2, class_=kind)
        )
    return join(drawn)


def band(frame: Frame, x: Numbers, low: Numbers, high: Numbers, kind: str) -> Html:
    """The area between two lines."""
    around = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
    points = " ".join(f"{across:g},{down:g}" for across, down in (frame.at(*each) for each in around))
    return element("polygon", points=points, class_=f"band {kind}")
