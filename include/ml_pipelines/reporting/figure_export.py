"""The plots of an evaluated model as files of their own, in the report's style. Equal numbers give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines.reporting import plots
from ml_pipelines.reporting.html import Html, element
from ml_pipelines.reporting.training_report import style

__all__ = ["figures"]

_SCALE = 2  # of a picture that has a page to itself


def figures(candidate: Mapping[str, Any], dummy: Mapping[str, float | None]) -> dict[str, bytes]:
    """Draw what an entry of the evaluation's `candidates` holds.

    Args:
        candidate: the entry.
        dummy: test metrics of a model that learned nothing.

    Returns:
        SVG by file name: `roc.svg`, `precision_recall.svg`, `calibration.svg`, `confusion.svg` and `residuals.svg`, as
        far as there is something to draw.
    """
    return {f"{name}.svg": _file(plot) for name, plot in plots.evaluated(candidate, dummy).items()}


def _file(plot: Html) -> bytes:
    """The drawing of a figure, with what the page around it brings otherwise: its size, and the style."""
    drawing = plot[plot.index("<svg") : plot.index("</figure>")]
    *_, width, height = drawing.partition('viewBox="')[2].partition('"')[0].split()
    size = f'width="{_SCALE * float(width):g}" height="{_SCALE * float(height):g}"'
    alone = f' {size} xmlns="http://www.w3.org/2000/svg">{element("style", style())}'
    return drawing.replace(">", alone, 1).encode()
