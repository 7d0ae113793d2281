from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.reporting.svg import Axis, Frame, axis_for, band, bars, error_bar, points, reference_line, ticks

FRAME = Frame(x=Axis(low=0, high=10, label="x"), y=Axis(low=0, high=1, label="y"))


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 4000, ["0", "1,000", "2,000", "3,000", "4,000"]),
        (-0.002, 0.002, ["-0.002", "-0.001", "0.000", "0.001", "0.002"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, texts: list[str]) -> None:
    assert [text for _, text in ticks(low, high)] == texts


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_axis_for_covers_all_values(values: list[float]) -> None:
    axis = axis_for(values, "value")
    assert axis.low < min(values)
    assert axis.high > max(values)


def test_axis_for_accepts_no_values() -> None:
    axis = axis_for([], "value")
    assert axis.low < axis.high


def test_frame_limits_points_to_its_axes() -> None:
    assert FRAME.at(-5, 2) == FRAME.at(0, 1)
    assert FRAME.at(0, 0) == (FRAME.left, FRAME.height - FRAME.bottom)


def test_points_returns_one_circle_per_point() -> None:
    shapes = points(FRAME, [0, 10], [0, 1], "candidate")
    assert [shape.tag for shape in shapes] == ["circle", "circle"]
    assert (shapes[1].attributes["cx"], shapes[1].attributes["cy"]) == FRAME.at(10, 1)


def test_bars_start_at_zero() -> None:
    frame = Frame(x=Axis(low=-1, high=1, label="x"), y=Axis(low=1.5, high=-0.5, label=""))
    positive, negative = bars(frame, [0.5, -0.5], "bar")
    zero, _ = frame.at(0, 0)
    assert positive.attributes["x"] == zero
    assert negative.attributes["x"] < zero  # type: ignore[operator]


def test_error_bar_and_band_connect_both_bounds() -> None:
    assert [shape.tag for shape in error_bar(FRAME, 0.5, 2, 8, "champion")] == ["line"] * 3
    assert len(str(band(FRAME, [0, 10], [0.1, 0.2], [0.8, 0.9], "champion").attributes["points"]).split()) == 4


def test_reference_line_spans_the_frame() -> None:
    horizontal = str(reference_line(FRAME, y=0.5).attributes["points"]).split()
    assert [float(point.split(",")[0]) for point in horizontal] == [FRAME.at(0, 0)[0], FRAME.at(10, 0)[0]]
