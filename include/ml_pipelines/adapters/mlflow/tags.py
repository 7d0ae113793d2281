"""The metadata of a training in MLflow: tags, parameters and the data set."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.escaping import visible
from ml_pipelines.ports import Training

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

__all__ = ["IDENTITY", "KEY", "OPENED", "dataset_input", "identity_digest", "identity_tags", "run_params", "run_tags"]

IDENTITY = "ml_pipelines.identity"
KEY = "ml_pipelines.key"
OPENED = "ml_pipelines.opened_at"  # seconds since 1970; MLflow's own start time stays that of the first attempt

# Lengths that MLflow's database has room for.
_PARAM_CHARACTERS = 6000
_DATASET_NAME_CHARACTERS = 500
_DIGEST_CHARACTERS = 36


def identity_tags(identity: Identity) -> dict[str, str]:
    """Tags that say whose work something is."""
    tags = {
        "ml_pipelines.pipeline": identity.pipeline,
        "ml_pipelines.run_id": identity.run_id,
        "ml_pipelines.task_id": identity.task_id,
        "ml_pipelines.map_index": str(identity.map_index),
    }
    return tags | ({"ml_pipelines.run_url": identity.run_url} if identity.run_url else {})


def run_tags(identity: Identity, training: Training) -> dict[str, str]:
    """Tags of a run that is being opened now."""
    pin = {
        "ml_pipelines.data_digest": training.pin.digest,
        "ml_pipelines.data_location": training.pin.location,
        "ml_pipelines.data_revision": training.pin.revision,
    }
    return {
        **identity_tags(identity),
        **{name: visible(value) for name, value in pin.items() if value},
        IDENTITY: identity_digest(identity, training),
        KEY: training.key,
        OPENED: f"{time.time():.3f}",
        "mlflow.source.name": identity.pipeline,
        "mlflow.source.type": "JOB",
    }


def identity_digest(identity: Identity, training: Training) -> str:
    """One hex text to search for: MLflow's filters have no way to write a quote inside a value."""
    whose = [identity.pipeline, identity.run_id, identity.task_id, identity.map_index, training.candidate]
    return json_digest(whose)


def run_params(training: Training) -> dict[str, str]:
    """Parameters as MLflow stores them."""
    return {name: visible(str(value))[:_PARAM_CHARACTERS] for name, value in training.params.items()}


def dataset_input(training: Training) -> DatasetInput:
    """The pin as MLflow's dataset. Where the pin has no digest, the recipe's key stands for the data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    pin = training.pin
    dataset = Dataset(
        name=_dataset_name(pin)[:_DATASET_NAME_CHARACTERS],
        digest=(pin.digest or training.key)[:_DIGEST_CHARACTERS],
        source_type=pin.source,
        source=json.dumps(_source(pin)),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _dataset_name(pin: DataPin) -> str:
    return re.split(r"[/:]", pin.location.rstrip("/"))[-1] or pin.location


def _source(pin: DataPin) -> dict[str, Any]:
    facts = {"uri": pin.location, "revision": pin.revision, "digest": pin.digest}
    return {name: value for name, value in facts.items() if value}
