"""Where steps run, as a declaration says it: in the worker's process or in a container, and on which queue."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

__all__ = ["Docker", "Placement"]

_SECTION = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_BYTES = {"m": 2**20, "g": 2**30}
_LEAST_BYTES = 6 * 2**20  # Docker takes no less


def _size(value: Any) -> str:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mg])", value.strip().lower()) if isinstance(value, str) else None
    if found and float(found[1]) * _BYTES[found[2]] >= _LEAST_BYTES:
        return found[0]
    raise PydanticCustomError("size", "a size such as 512m or 2g, at least 6m")


class Docker(BaseModel):
    """A container for each task of a step. Both limits are hard: `memory` with swap, `cpus` as time of so many cores.

    `image` holds this package with its extra `ml`; by default the one of Airflow's configuration.
    """

    model_config = _SECTION

    image: Annotated[str, Field(min_length=1)] | None = None
    memory: Annotated[str, BeforeValidator(_size)] = "2g"
    cpus: Annotated[float, Strict(), Field(gt=0)] = 1

    @property
    def memory_bytes(self) -> int:
        """The limit in bytes."""
        return int(float(self.memory[:-1]) * _BYTES[self.memory[-1]])


# No longer than Airflow's tables have room for.
Name = Annotated[str, Field(min_length=1, max_length=250)]


class Placement(BaseModel):
    """Where the tasks of one step run. `queue` and `pool` are Airflow's; without `docker`, in the worker's process."""

    model_config = _SECTION

    docker: Docker | None = None
    queue: Name | None = None
    pool: Name | None = None
