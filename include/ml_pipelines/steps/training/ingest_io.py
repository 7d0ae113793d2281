"""Pin the data of a training. Apart from the computation, whose imports are slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.pipeline.step import References, Resolution
from ml_pipelines.pipeline.step_parameters import IngestParameters
from ml_pipelines.ports import DataSource, Services

if TYPE_CHECKING:
    from ml_pipelines.data.source_table import SourceTable

__all__ = ["fetch", "resolve"]


def resolve(parameters: IngestParameters, inputs: References, services: Services, identity: Identity) -> Resolution:
    """Pin the data. The rows are fetched on a cache miss only."""
    source = services.source(parameters.source)
    pin = source.pin()
    return Resolution(
        key_facts={"data": pin.digest},
        values={"pin": pin.model_dump(mode="json")},
        cacheable=pin.digest is not None,
        prepare=lambda directory: {"source": fetch(source, pin, directory)},
    )


def fetch(source: DataSource, pin: DataPin, directory: str) -> SourceTable:
    """Download the rows of a pin into a local directory, and check the file."""
    from ml_pipelines.data.source_table import open_source

    return open_source(source.fetch(pin, directory), pin.location, directory)
