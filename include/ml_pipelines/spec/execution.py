"""The section `runtime`: whether a task runs in the worker's process or in a container, its queue and its pool."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

__all__ = ["Docker", "Placement"]

_SECTION = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_BYTES = {"m": 2**20, "g": 2**30}
_MIN_BYTES = 6 * 2**20  # the minimum of Docker


def _size(value: Any) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mg])", value.strip().lower()) if isinstance(value, str) else None
    if match and float(match[1]) * _BYTES[match[2]] >= _MIN_BYTES:
        return match[0]
    raise PydanticCustomError("size", "a size such as 512m or 2g, at least 6m")


class Docker(BaseModel):
    """A container for each instance of the task. Both limits are hard: `memory` includes swap, `cpus` is CPU time.

    `image` contains this package with the extra `ml`. The default is set in the configuration of Airflow.
    """

    model_config = _SECTION

    image: Annotated[str, Field(min_length=1)] | None = None
    memory: Annotated[str, BeforeValidator(_size)] = "2g"
    cpus: Annotated[float, Strict(), Field(gt=0)] = 1

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        return int(float(self.memory[:-1]) * _BYTES[self.memory[-1]])


# The columns of Airflow's tables hold at most 250 characters.
Name = Annotated[str, Field(min_length=1, max_length=250)]


class Placement(BaseModel):
    """Where a task runs: the `queue` and `pool` of Airflow. Without `docker` it runs in the worker's process."""

    model_config = _SECTION

    docker: Docker | None = None
    queue: Name | None = None
    pool: Name | None = None
