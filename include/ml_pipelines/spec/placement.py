"""The section `runtime`: whether a task runs in the worker's process or in a container, its queue and its pool."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from ml_pipelines.spec.sources import LINE, Name

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
    """A container for each instance of the task.

    Attributes:
        image: image that contains this package with the extra `ml`. The default is `[ml_pipelines] docker_image`.
        memory: hard limit of the memory, swap included, such as `512m` or `2g`.
        cpus: hard limit of the CPU time, in CPUs.
    """

    model_config = _SECTION

    image: Annotated[str, Field(min_length=1, max_length=500, pattern=LINE)] | None = None
    memory: Annotated[str, BeforeValidator(_size)] = "2g"
    cpus: Annotated[float, Strict(), Field(gt=0)] = 1

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        return int(float(self.memory[:-1]) * _BYTES[self.memory[-1]])


class Placement(BaseModel):
    """The place where a task runs.

    Attributes:
        docker: container of the task. Without it the task runs in the worker's process.
        queue: queue of Airflow.
        pool: pool of Airflow.
    """

    model_config = _SECTION

    docker: Docker | None = None
    queue: Name | None = None
    pool: Name | None = None
