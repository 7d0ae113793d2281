"""Pin the data of a training. Apart from the computation, whose imports are slow."""

from __future__ import annotations

from ml_pipelines.contracts import Identity
from ml_pipelines.pipeline.parameters import IngestParameters
from ml_pipelines.pipeline.step import References, Resolution
from ml_pipelines.ports import Services

__all__ = ["resolve"]


def resolve(parameters: IngestParameters, inputs: References, services: Services, identity: Identity) -> Resolution:
    """Pin the data. The rows are fetched on a cache miss only."""
    source = services.source(parameters.source)
    pin = source.pin()
    return Resolution(
        key_facts={"data": pin.digest},
        values={"pin": pin.model_dump(mode="json")},
        cacheable=pin.digest is not None,
        prepare=lambda directory: {"raw_path": source.fetch(pin, directory)},
    )
