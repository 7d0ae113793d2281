"""The interfaces of external systems that steps use, as protocols.

:mod:`ml_pipelines.adapters` implements them for real systems, :mod:`ml_pipelines.testing` in memory.
"""

from ml_pipelines.ports.ledger import Ledger
from ml_pipelines.ports.registry import ModelVersion, Registry
from ml_pipelines.ports.services import CELLS_PER_GROUP, Services, TaskRecord
from ml_pipelines.ports.source import DataSource
from ml_pipelines.ports.tracking import TrackedModel, Tracking, Training

__all__ = [
    "CELLS_PER_GROUP",
    "DataSource",
    "Ledger",
    "ModelVersion",
    "Registry",
    "Services",
    "TaskRecord",
    "TrackedModel",
    "Tracking",
    "Training",
]
