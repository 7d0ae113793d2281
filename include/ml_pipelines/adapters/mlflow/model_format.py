"""A trained model as the folder that MLflow calls a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_pipelines.ports import Training

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel

__all__ = ["MODEL_FILE", "prepare_mlflow", "write_model"]

MODEL_FILE = "model.skops"


def write_model(training: Training, logged: LoggedModel, directory: Path) -> None:
    """Write the folder of a model that MLflow has an entry for; its model file is the artifact, byte for byte.

    Requirements are taken as they are: to infer them MLflow would load the model in another process. MLflow writes a
    small estimator, whose file the artifact replaces: nothing else in the folder depends on which estimator it is, and
    to load and write the trained one again would take a second.
    """
    import mlflow.sklearn
    from mlflow.models import Model
    from sklearn.dummy import DummyRegressor

    frame = example_frame(training.example)
    described = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=logged.source_run_id,
    )
    mlflow.sklearn.save_model(
        DummyRegressor(),
        str(directory),
        mlflow_model=described,
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_SKOPS,
        skops_trusted_types=training.trusted_types,
        signature=_signature(frame, training.predictions),
        input_example=frame,
        pip_requirements=training.requirements,
    )
    file = directory / MODEL_FILE
    described.model_size_bytes = (described.model_size_bytes or 0) + len(training.model_bytes) - file.stat().st_size
    file.write_bytes(training.model_bytes)
    described.save(str(directory / "MLmodel"))


def prepare_mlflow() -> None:
    """Let MLflow find out what is installed, as it does when a process writes its first model: a third of a second.

    And which kinds of registries, as it does when one is asked first.
    """
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    warn_dependency_requirement_mismatches(["mlflow"])
    _get_store_registry()  # type: ignore[no-untyped-call]  # MLflow has no types here


def example_frame(example: list[dict[str, Any]]) -> pd.DataFrame:
    """Records as a table. Whole numbers become floats, since a column of them has no way to say that one is missing."""
    import pandas as pd

    frame = pd.DataFrame(example)
    empty = [name for name in frame if frame[name].isna().all()]
    whole = frame.select_dtypes("integer").columns
    return frame.astype(dict.fromkeys([*whole, *empty], "float64"))


def _signature(frame: pd.DataFrame, predictions: list[Any]) -> Any:
    import numpy as np
    from mlflow.models import infer_signature

    return infer_signature(frame, np.asarray(predictions))
