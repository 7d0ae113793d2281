"""Rules about the decision threshold that concern other sections of a declaration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_pipelines.spec.value_lookup import items_at, value_at
from ml_pipelines.spec.yaml_source import YamlIssue

__all__ = ["threshold_rules"]


def threshold_rules(data: Any) -> Iterator[YamlIssue]:
    """Check that a threshold belongs to a classification with two labels."""
    if value_at(data, "threshold") is None:
        return
    target = value_at(data, "data", "target")
    labels = items_at(data, "data", "columns", target, "allowed") if isinstance(target, str) else []
    if value_at(data, "model", "task") == "regression":
        message = "threshold is only for classification: a regression predicts no probabilities"
        yield YamlIssue(loc=("threshold",), message=message, hint="remove it", at_key=True)
    elif len(labels) > 2:
        message = f"a threshold needs two labels: data.columns.{target} allows {len(labels)}"
        yield YamlIssue(loc=("threshold",), message=message, hint="remove it, or allow two labels", at_key=True)
