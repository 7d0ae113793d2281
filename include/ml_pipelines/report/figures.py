"""Figures of an evaluated model, as PNG. The same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figures"]

Draw = Callable[["Axes", dict[str, Any]], None]

INCHES = (5.0, 4.0)
DOTS_PER_INCH = 110


def figures(candidate: dict[str, Any]) -> dict[str, bytes]:
    """Draw what an entry of the evaluation's `candidates` holds.

    Args:
        candidate: with `candidate`, `curves` and `confusion`.

    Returns:
        PNG bytes by file name: `roc.png`, `precision_recall.png`, `calibration.png`, `confusion.png` and
        `residuals.png`, as far as there is something to draw.
    """
    name, curves, confusion = candidate["candidate"], candidate["curves"], candidate["confusion"]
    drawn = {
        file: _png(f"{name}: {title}", draw, curves[curve])
        for file, (title, curve, draw) in _FIGURES.items()
        if curves.get(curve)
    }
    return drawn | ({"confusion.png": _png(f"{name}: confusion", _confusion, confusion)} if confusion else {})


def _png(title: str, draw: Draw, numbers: dict[str, Any]) -> bytes:
    # Figure alone, without pyplot: nothing global, so threads and forked workers don't disturb each other.
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_plain(title))
    draw(axes, numbers)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plain(text: Any) -> str:
    """A text whose dollars are not read as mathematics."""
    return str(text).replace("$", r"\$")


def _roc(axes: Axes, curve: dict[str, Any]) -> None:
    _unit_square(axes, "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], linestyle="--", color="0.7")
    axes.plot(curve["x"], curve["y"])


def _precision_recall(axes: Axes, curve: dict[str, Any]) -> None:
    _unit_square(axes, "recall", "precision")
    axes.plot(curve["x"], curve["y"])


def _calibration(axes: Axes, curve: dict[str, Any]) -> None:
    _unit_square(axes, "predicted probability", "observed share")
    axes.plot([0, 1], [0, 1], linestyle="--", color="0.7")
    axes.plot(curve["x"], curve["y"], marker="o")


def _residuals(axes: Axes, curve: dict[str, Any]) -> None:
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth minus prediction")
    axes.axhline(0.0, linestyle="--", color="0.7")
    axes.scatter(curve["x"], curve["y"], s=10)


def _confusion(axes: Axes, confusion: dict[str, Any]) -> None:
    matrix = confusion["matrix"]
    labels = [_plain(label) for label in confusion["labels"]]
    axes.imshow(matrix, cmap="Blues")
    axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 4 else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    middle = max(max(row) for row in matrix) / 2
    for true, row in enumerate(matrix):
        for predicted, rows in enumerate(row):
            colour = "white" if rows > middle else "black"
            axes.text(predicted, true, str(rows), ha="center", va="center", color=colour)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


_FIGURES: dict[str, tuple[str, str, Draw]] = {
    "roc.png": ("ROC", "roc", _roc),
    "precision_recall.png": ("precision and recall", "pr", _precision_recall),
    "calibration.png": ("calibration", "calibration", _calibration),
    "residuals.png": ("residuals", "residuals", _residuals),
}
