"""The decision threshold of a binary classification, tuned on the validation rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_pipelines.spec.sources import Number, Section

__all__ = ["Costs", "Limits", "Threshold"]

Share = Annotated[Number, Field(gt=0, le=1)]
Cost = Annotated[Number, Field(gt=0)]
_OPPOSITES = {"precision": "recall", "recall": "precision"}


class Limits(Section):
    """Minima that the threshold must reach on the validation rows.

    Attributes:
        precision: smallest precision.
        recall: smallest recall.
    """

    precision: Share | None = None
    recall: Share | None = None

    @property
    def declared(self) -> dict[str, float]:
        """The declared minima by metric."""
        limits = {"precision": self.precision, "recall": self.recall}
        return {name: limit for name, limit in limits.items() if limit is not None}


class Costs(Section):
    """The costs of wrong labels, in any unit.

    Attributes:
        false_positive: cost of a negative row with the positive label.
        false_negative: cost of a positive row with the negative label.
    """

    false_positive: Cost
    false_negative: Cost


class Threshold(Section):
    """The probability from which a row gets the positive label. Without this section it is 0.5.

    Each candidate has its own threshold. It is tuned on the validation rows, and is part of the model.

    Attributes:
        maximise: metric of the labels to maximise.
        at_least: minima of precision or recall. Only thresholds that reach them are allowed.
        minimise_cost: costs of wrong labels, whose mean is minimised.
    """

    maximise: Literal["f1", "accuracy", "balanced_accuracy", "precision", "recall"] | None = None
    at_least: Limits | None = None
    minimise_cost: Costs | None = None

    @model_validator(mode="after")
    def _require_one_objective(self) -> Threshold:
        if (self.maximise is None) == (self.minimise_cost is None):
            raise ValueError("expected either maximise, such as `maximise: f1`, or minimise_cost")
        limits = self.limits
        if self.maximise is None and self.at_least is not None:
            raise ValueError("expected at_least only with maximise")
        if self.at_least is not None and not limits:
            raise ValueError("expected precision or recall in at_least, such as `at_least: {precision: 0.9}`")
        other = _OPPOSITES.get(self.maximise or "")
        if other is not None and [*limits] != [other]:
            raise ValueError(
                f"expected a minimum of {other} alone with `maximise: {self.maximise}`: at_least: {{{other}: 0.9}}"
            )
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The declared minima by metric."""
        return self.at_least.declared if self.at_least else {}

    @property
    def objective(self) -> str:
        """The objective in words."""
        if self.minimise_cost is not None:
            costs = self.minimise_cost
            return f"mean cost, {costs.false_positive:g} a false positive and {costs.false_negative:g} a false negative"
        limits = " and ".join(f"{name} of at least {limit:g}" for name, limit in self.limits.items())
        return f"{self.maximise} with {limits}" if limits else str(self.maximise)
