"""The assets that runs tell news with, and what their URIs may look like.

::

    ml-pipelines://<pipeline>/data     the data that a pipeline has taken in
    ml-pipelines://<pipeline>/scores   the scores of a batch
    ml-pipelines://<model>/drift       the call for a training, as the model's batches have drifted
    mlflow://models/<model>            the model that serves
    dvc://<pipeline>/<path>            the data's revision, which a watcher looks at
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
    """The asset of a registered model, to put into `schedule`, `inlets` or `outlets`.

    Its events tell in `extra` which version serves now; see the deploy step and the operators.
    """
    return Asset(name=name, uri=f"mlflow://models/{name}", group="model")


def dataset_asset(pipeline: str) -> Asset:
    """The asset of the data that a pipeline has taken in."""
    return Asset(name=f"{pipeline}.data", uri=f"ml-pipelines://{pipeline}/data", group="dataset")


def scores_asset(pipeline: str) -> Asset:
    """The asset of the scores that a batch scoring has made; its events tell in `extra` where they are."""
    return Asset(name=f"{pipeline}.scores", uri=f"ml-pipelines://{pipeline}/scores", group="scores")


def drift_asset(model: str) -> Asset:
    """The asset of the drift of a model's batches; an event of it calls for a training."""
    return Asset(name=f"{model}.drift", uri=f"ml-pipelines://{model}/drift", group="drift")


def revision_asset(pipeline: str, path: str, watcher: AssetWatcher) -> Asset:
    """The asset of the revision of a pipeline's data; its watcher tells when that moves.

    It belongs to one pipeline, though others may watch the same file: Airflow knows an asset by its URI.
    """
    uri = f"dvc://{pipeline}/{quote(path)}"
    return Asset(name=f"{pipeline}.revision", uri=uri, group="dataset", watchers=[watcher])


def sanitize_mlflow(uri: SplitResult) -> SplitResult:
    """See that a URI names one registered model.

    Raises:
        ValueError: it does not; Airflow shows the text as the DAG's import error.
    """
    if uri.netloc != "models" or "/" in uri.path[1:] or uri.path in ("", "/"):
        raise _wrong(uri, "mlflow://models/NAME", "model_asset(NAME)")
    return uri


def sanitize_dvc(uri: SplitResult) -> SplitResult:
    """See that a URI names a pipeline and a path.

    Raises:
        ValueError: it does not.
    """
    if not uri.netloc or uri.path in ("", "/"):
        raise _wrong(uri, "dvc://PIPELINE/PATH")
    return uri


def sanitize_ml_pipelines(uri: SplitResult) -> SplitResult:
    """See that a URI names a pipeline's data or scores, or a model's drift.

    Raises:
        ValueError: it does not.
    """
    if not uri.netloc or uri.path not in ("/data", "/scores", "/drift"):
        raise _wrong(uri, "ml-pipelines://PIPELINE/data, /scores or /drift", "dataset_asset(PIPELINE)")
    return uri


def _wrong(uri: SplitResult, expected: str, maker: str = "") -> ValueError:
    fix = f"; ml_pipelines_airflow.assets.{maker} makes it" if maker else ""
    return ValueError(f"expected an asset URI like {expected}, got {uri.geturl()}{fix}")
