"""The gate: the conditions of a promotion."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from ml_pipelines.spec.custom_metric import MetricName
from ml_pipelines.spec.difference_limits import Lift, PositiveLift, default_lift
from ml_pipelines.spec.durations import PositiveDuration
from ml_pipelines.spec.sources import Count, Number, Section

__all__ = ["Approval", "Gate", "Guards", "Slices"]


class Slices(Section):
    """Groups of test rows with their own metrics.

    Attributes:
        columns: columns whose values form the groups.
        min_rows: rows that a group needs.
        floors: limits of a metric in each group: minima, or maxima for metrics where lower is better.
        max_drop: largest loss of a metric in each group against the current champion.
    """

    columns: tuple[str, ...] = ()
    min_rows: Annotated[Count, Field(ge=1)] = 50
    floors: dict[str, Number] = Field(default={})
    max_drop: dict[str, Annotated[Number, Field(ge=0)]] = Field(default={})


class Guards(Section):
    """Limits of resources.

    Attributes:
        max_model_bytes: size of the model file in bytes.
        max_seconds_per_row: prediction time in seconds per row. It is measured on the machine that evaluates, and only
            if it is limited.
    """

    max_model_bytes: Annotated[Count, Field(gt=0)] | None = None
    max_seconds_per_row: Annotated[Number, Field(gt=0)] | None = None


class Approval(Section):
    """The approval by a person.

    Attributes:
        when: which models need an approval: a held one, every one, or none. With `never`, the champion stays if the
            model is held.
        timeout: time for an answer. Without an answer the champion stays.
    """

    when: Literal["on_hold", "always", "never"] = "on_hold"
    timeout: PositiveDuration = timedelta(days=3)


class Gate(Section):
    """The conditions of a promotion.

    The comparisons use the confidence interval of the difference of `metric` on the test rows. A positive difference is
    better. A limit of a difference is a number, or a share of the reference's value such as `1%`.

    Attributes:
        metric: the primary metric: its name, or `{function, better, needs}` for a function of user code.
        thresholds: limits of metrics: minima, or maxima for metrics where lower is better.
        lift_over_dummy: all of the interval of the difference to the dummy baseline must be above it. The default is
            `1%` for errors and losses, and 0.01 for other metrics.
        improvement: all of the interval of the difference to the champion must be above it, else the model is held.
        non_inferiority: an interval that extends below minus this limit rejects the model, as one below zero does.
        confidence: level of the intervals.
        draws: bootstrap samples of an interval.
        broken_champion: what to do if the champion can't be evaluated.
        guards: limits of resources.
        slices: groups of test rows with limits of their own.
        approval: when a person must approve.
        report: further metrics to show, by name or as `{function, better, needs}`. They decide nothing.
    """

    metric: MetricName
    thresholds: dict[str, Number] = Field(default={})
    lift_over_dummy: PositiveLift | None = None
    improvement: Lift = 0.0
    non_inferiority: PositiveLift | None = None
    confidence: Annotated[Number, Field(ge=0.5, lt=1)] = 0.95
    draws: Annotated[Count, Field(ge=200, le=100_000)] = 2000
    broken_champion: Literal["hold", "promote"] = "hold"
    guards: Guards = Guards()
    slices: Slices = Slices()
    approval: Approval = Approval()
    report: tuple[MetricName, ...] = ()

    @property
    def effective_lift(self) -> float | str:
        """The lift over the dummy baseline: the declared one, or the default for the metric."""
        return default_lift(self.metric) if self.lift_over_dummy is None else self.lift_over_dummy

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics that decide, each once."""
        names = (self.metric, *self.thresholds, *self.slices.floors, *self.slices.max_drop)
        return tuple(dict.fromkeys(names))
