"""A metric that is a function of user code. Its name holds all facts, so that reading a name imports nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ml_pipelines.spec.code_packages import CodePath

__all__ = ["CustomMetric", "MetricName", "metric_function", "short_name"]

Direction = Literal["higher", "lower"]
Needs = Literal["labels", "probabilities", "values"]
_NAME = re.compile(rf"^(\S+:\w+) ({'|'.join(get_args(Direction))}) ({'|'.join(get_args(Needs))})$")


class CustomMetric(BaseModel):
    """A metric by the import path of its function.

    Attributes:
        function: import path. It receives the true values and the predictions, and returns a number.
        better: which values are better.
        needs: the predictions that it receives: `labels` and `probabilities` of a classification, or `values` of a
            regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: CodePath
    better: Direction = "higher"
    needs: Needs = "labels"

    @property
    def name(self) -> str:
        """The name of the metric, from which :meth:`of_name` reads the same metric."""
        return f"{self.function} {self.better} {self.needs}"

    @classmethod
    def of_name(cls, name: str) -> CustomMetric | None:
        """Return the metric of a name; None for the name of another metric."""
        match = _NAME.match(name)
        return cls.model_validate(dict(zip(cls.model_fields, match.groups(), strict=True))) if match else None


def metric_function(name: str) -> str | None:
    """Return the import path of the function of a custom metric; None for another metric."""
    metric = CustomMetric.of_name(name)
    return metric.function if metric else None


def short_name(name: str) -> str:
    """Return the name of a metric for tables: the function of a custom one, without its module."""
    return (metric_function(name) or name).rpartition(":")[2]


def _name_of(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    try:
        return CustomMetric.model_validate(dict(value)).name
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        field = ".".join(map(str, error["loc"]))
        raise ValueError(f"expected function, better and needs; {field}: {error['msg']}") from exc


MetricName = Annotated[str, BeforeValidator(_name_of)]
"""The name of a metric, or a mapping that declares a custom one."""
