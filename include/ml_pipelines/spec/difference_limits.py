"""Limits of a difference between two models: a number, or a share of the reference such as `1%`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ml_pipelines.spec.metric_table import find_metric
from ml_pipelines.spec.sources import Number

__all__ = ["POSITIVE_SHARE", "SHARE", "Lift", "PositiveLift", "as_share", "default_lift"]

POSITIVE_SHARE = r"^\d+(\.\d+)?%$"
SHARE = r"^[+-]?\d+(\.\d+)?%$"

Lift = Number | Annotated[str, Field(pattern=SHARE)]
PositiveLift = Annotated[Number, Field(ge=0)] | Annotated[str, Field(pattern=POSITIVE_SHARE)]


def default_lift(metric: str) -> float | str:
    """Return the lift over the dummy baseline for a metric: a share for errors and losses, which have a unit."""
    row = find_metric(metric)
    return 0.01 if row is None or row.greater_is_better else "1%"


def as_share(lift: float | str) -> float | None:
    """Return `1%` as 0.01, and None for a number."""
    return float(lift.removesuffix("%")) / 100 if isinstance(lift, str) else None
