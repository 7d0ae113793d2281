"""The work of ML Pipelines: what trains, judges and ships a model, whoever orchestrates it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
