"""A trained model as the folder that MLflow calls a model: how it is written, and what it may contain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_pipelines.errors import RegistryError
from ml_pipelines.modeling.trusted_types import trusted_types
from ml_pipelines.ports import Training

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

__all__ = ["MODEL_FILE", "check_loader", "check_names", "model_signature", "prepare_mlflow", "write_model"]

MODEL_FILE = "model.skops"
_DESCRIPTION = "MLmodel"
_NAMES = frozenset(
    {
        _DESCRIPTION,
        MODEL_FILE,
        "conda.yaml",
        "input_example.json",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
    }
)
# The keys of MLmodel that select the code of a load. Another loader, format or folder of code could run anything.
_PYFUNC = {"loader_module": "mlflow.sklearn", "model_path": MODEL_FILE, "predict_fn": "predict"}
_SKLEARN = {"code": None, "pickled_model": MODEL_FILE, "serialization_format": "skops"}
_HARMLESS = {"env", "python_version", "sklearn_version", "skops_trusted_types"}


def write_model(training: Training, logged: LoggedModel, directory: Path) -> None:
    """Write the folder of a model that MLflow has an entry for; its model file is the artifact, byte for byte.

    Requirements are taken as they are: to infer them MLflow would load the model in another process. MLflow writes a
    small estimator, whose file the artifact replaces: nothing else in the folder depends on which estimator it is, and
    to load and write the trained one again would take a second.
    """
    import mlflow.sklearn
    from mlflow.models import Model
    from sklearn.dummy import DummyRegressor

    from ml_pipelines.modeling.features import frame_from_records

    frame = frame_from_records(training.example, training.features)
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
        signature=model_signature(training.features, training.predictions),
        input_example=frame,
        pip_requirements=training.requirements,
    )
    file = directory / MODEL_FILE
    described.model_size_bytes = (described.model_size_bytes or 0) + len(training.model_bytes) - file.stat().st_size
    file.write_bytes(training.model_bytes)
    described.save(str(directory / "MLmodel"))


def check_names(names: Iterable[str], where: str) -> None:
    """Raise RegistryError for a file or folder that :func:`write_model` never writes."""
    if added := sorted({*names} - _NAMES):
        raise RegistryError(
            "the folder of the model contains files that no pipeline writes",
            where=where,
            expected=", ".join(sorted(_NAMES)),
            got=", ".join(added),
            fix="find out which process wrote them, remove them, and train again",
        )


def check_loader(files: Mapping[str, bytes], where: str) -> None:
    """Raise RegistryError unless a client loads the model file by skops with reviewed types, and runs no other code."""
    import yaml

    try:
        flavors = yaml.safe_load(files.get(_DESCRIPTION, b""))["flavors"]
        pyfunc, sklearn = flavors.pop("python_function"), flavors.pop("sklearn")
        unknown = {*flavors, *_unexpected(pyfunc, _PYFUNC), *_unexpected(sklearn, _SKLEARN)}
        unknown |= {*sklearn.get("skops_trusted_types", ())} - {*trusted_types()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as exc:
        unknown = {f"{type(exc).__name__}: {exc}"}
    if unknown:
        raise RegistryError(
            "the file MLmodel of the model would run other code than a pipeline's model",
            where=where,
            expected="the flavors python_function and sklearn, as the train step writes them",
            got=", ".join(sorted(map(str, unknown))),
            fix="find out which process wrote the file, and train again",
        )


def _unexpected(flavor: dict[str, Any], expected: Mapping[str, str | None]) -> list[str]:
    """Return the keys of a flavor that are unknown or have another value than expected."""
    wrong = [name for name, value in expected.items() if flavor.get(name) != value]
    return wrong + [name for name in flavor if name not in _HARMLESS and name not in expected]


def prepare_mlflow() -> None:
    """Let MLflow find out what is installed, as it does when a process writes its first model: a third of a second.

    And which kinds of registries, as it does when one is asked first.
    """
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    warn_dependency_requirement_mismatches(["mlflow"])
    _get_store_registry()  # type: ignore[no-untyped-call]  # MLflow has no types here


def model_signature(features: list[dict[str, Any]], predictions: list[Any]) -> ModelSignature:
    """Return the signature of a model from the recorded types of its features.

    MLflow would infer types from a few rows, where a column can be empty. It converts neither integers to floats nor
    floats to integers. A column of integers has one type or the other, depending on whether a value is missing. So
    MLflow accepts any type there, and the model converts it.
    """
    import numpy as np
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    types: dict[str, str | AnyType] = {
        "integer": AnyType(),  # type: ignore[no-untyped-call]  # MLflow has no types here
        "float": "double",
        "boolean": "boolean",
        "string": "string",
        "date": "datetime",
        "datetime": "datetime",
    }
    inputs = Schema([ColSpec(types[feature["dtype"]], feature["name"]) for feature in features])
    return ModelSignature(inputs=inputs, outputs=infer_signature(np.asarray(predictions)).inputs)
