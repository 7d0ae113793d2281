"""The figures of an evaluated model as SVG files in the style of the report. Equal numbers give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines.reporting.plots import evaluation_figures
from ml_pipelines.reporting.rendering import render_figure_file

__all__ = ["export_figures"]


def export_figures(candidate: Mapping[str, Any], dummy: Mapping[str, float | None]) -> dict[str, bytes]:
    """Return the figures of an entry in the evaluation's `candidates`.

    Args:
        candidate: the entry.
        dummy: test metrics of the dummy baseline.

    Returns:
        SVG by file name: `roc.svg`, `precision_recall.svg`, `calibration.svg`, `confusion.svg` and `residuals.svg`, as
        far as the entry has the data.
    """
    figures = evaluation_figures(candidate, dummy)
    return {f"{name}.svg": render_figure_file(figure) for name, figure in figures.items()}
