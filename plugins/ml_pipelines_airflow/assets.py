"""The assets of pipelines and models, and the rules for their URIs.

::

    ml-pipelines://<pipeline>/data     dataset that a training ingested
    ml-pipelines://<pipeline>/scores   scores of a batch
    ml-pipelines://<model>/drift       requests for a training after drift
    mlflow://models/<model>            champion of a model
    dvc://<pipeline>/<path>            revision of the data, which a watcher polls
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote

from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.sdk import AssetWatcher

__all__ = [
    "dataset_asset",
    "drift_asset",
    "model_asset",
    "revision_asset",
    "sanitize_dvc",
    "sanitize_ml_pipelines",
    "sanitize_mlflow",
    "scores_asset",
]


def model_asset(name: str) -> Asset:
    """Return the asset of a registered model, for `schedule`, `inlets` or `outlets`.

    Each new champion is an event with its version in `extra`.
    """
    return Asset(name=name, uri=f"mlflow://models/{name}", group="model")


def dataset_asset(pipeline: str) -> Asset:
    """Return the asset of the dataset that a training pipeline ingests; an event has the data pin in `extra`."""
    return Asset(name=f"{pipeline}.data", uri=f"ml-pipelines://{pipeline}/data", group="dataset")


def scores_asset(pipeline: str) -> Asset:
    """Return the asset of the scores of a scoring pipeline; an event has their addresses in `extra`."""
    return Asset(name=f"{pipeline}.scores", uri=f"ml-pipelines://{pipeline}/scores", group="scores")


def drift_asset(model: str) -> Asset:
    """Return the asset of the drift of a model; an event requests a training."""
    return Asset(name=f"{model}.drift", uri=f"ml-pipelines://{model}/drift", group="drift")


def revision_asset(pipeline: str, path: str, watcher: AssetWatcher) -> Asset:
    """Return the asset of the revision of a pipeline's data, with the watcher that creates its events.

    Each pipeline has its own asset, even if several pipelines watch the same file: the URI identifies an asset.
    """
    uri = f"dvc://{pipeline}/{quote(path)}"
    return Asset(name=f"{pipeline}.revision", uri=uri, group="dataset", watchers=[watcher])


def sanitize_mlflow(uri: SplitResult) -> SplitResult:
    """Check that a URI names one registered model.

    Raises:
        ValueError: the URI has another form. Airflow shows the text as an import error of the DAG file.
    """
    if uri.netloc != "models" or "/" in uri.path[1:] or uri.path in ("", "/"):
        raise _wrong_uri(uri, "mlflow://models/NAME", "model_asset(NAME)")
    return uri


def sanitize_dvc(uri: SplitResult) -> SplitResult:
    """Check that a URI names a pipeline and a path.

    Raises:
        ValueError: the URI has another form.
    """
    if not uri.netloc or uri.path in ("", "/"):
        raise _wrong_uri(uri, "dvc://PIPELINE/PATH")
    return uri


def sanitize_ml_pipelines(uri: SplitResult) -> SplitResult:
    """Check that a URI names the data or scores of a pipeline, or the drift of a model.

    Raises:
        ValueError: the URI has another form.
    """
    if not uri.netloc or uri.path not in ("/data", "/scores", "/drift"):
        raise _wrong_uri(uri, "ml-pipelines://PIPELINE/data, /scores or /drift", "dataset_asset(PIPELINE)")
    return uri


def _wrong_uri(uri: SplitResult, expected: str, function: str = "") -> ValueError:
    fix = f"; ml_pipelines_airflow.{function} returns the asset" if function else ""
    return ValueError(f"expected an asset URI like {expected}, got {uri.geturl()}{fix}")
