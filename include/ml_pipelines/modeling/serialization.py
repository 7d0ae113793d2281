"""How models and documents become bytes: the same thing gives the same bytes, in any process.

Models are stored in the skops format, which names types instead of running code as pickle does. What it may rebuild
is a fixed, reviewed list. skops writes memory addresses and the time of day into its files; both are replaced here.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ml_pipelines.errors import ModelError

__all__ = ["TRUSTED_TYPES", "dump_model", "load_model"]

# Types that skops doesn't trust by itself and that this project has read: none of them runs code, opens files or
# imports modules when it is rebuilt. Trees, neighbours and boosters index arrays without checking bounds, so a forged
# file could crash the process that loads it; the digest of an artifact is verified before its bytes come here.
TRUSTED_TYPES: tuple[str, ...] = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "ml_pipelines.modeling.preprocessing.QuantileClipper",
    "ml_pipelines.modeling.preprocessing.DateFeatures",
    "ml_pipelines.modeling.preprocessing.MedianImputer",
    "ml_pipelines.modeling.preprocessing.CategoryEncoder",
    "ml_pipelines.modeling.preprocessing.NumericConverter",
    "numpy.asfortranarray",
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)

_SCHEMA = "schema.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


def dump_model(estimator: Any) -> bytes:
    """A fitted estimator as a skops file; equal models give equal bytes.

    Raises:
        ModelError: it holds an object that skops can't store, or of a type that nobody reviewed.
    """
    skops = _skops()
    try:
        with _unmoved():
            dumped = skops.dumps(estimator)
        data = _canonical(dumped)
        unknown = _untrusted(skops, data)
    except (TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise ModelError(
            "the model can't be stored in the skops format",
            where=_name(estimator),
            got=f"{type(exc).__name__}: {exc}",
            fix="choose another estimator, or parameters that are plain numbers and texts",
        ) from exc
    if unknown:
        raise _unreviewed(unknown, where=_name(estimator))
    return data


def load_model(data: bytes) -> Any:
    """The estimator in a skops file, whoever wrote it.

    Raises:
        ModelError: the bytes are no skops file, or it names a type that nobody reviewed.
    """
    skops = _skops()
    try:
        return skops.loads(data, trusted=list(TRUSTED_TYPES))
    except skops.exceptions.UntrustedTypesFoundException as exc:
        raise _unreviewed(_untrusted(skops, data), where="the model file") from exc
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, ImportError) as exc:
        raise ModelError(
            "the model file can't be read",
            expected="a model that this project has stored, read with the packages that it was trained with",
            got=f"{type(exc).__name__}: {exc}",
            fix="train the model again, or install the versions that its training record lists",
        ) from exc


def _untrusted(skops: Any, data: bytes) -> set[str]:
    return set(skops.get_untrusted_types(data=data)) - set(TRUSTED_TYPES)


def _skops() -> Any:
    from ml_pipelines.modeling.skops_io import skops_io

    return skops_io


@contextmanager
def _unmoved() -> Iterator[None]:
    """Without the warnings of moved names: skops asks every loaded module for every function that it lists or stores.

    Some modules, of Airflow for example, answer a question for a name that they never had with such a warning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _unreviewed(types: Iterable[str], *, where: str) -> ModelError:
    return ModelError(
        f"the model holds types that nobody has reviewed: {', '.join(sorted(types))}",
        where=where,
        expected="estimators of scikit-learn and types listed in ml_pipelines.modeling.serialization.TRUSTED_TYPES",
        fix="choose another estimator, or have the types reviewed and add them to that list",
    )


def _name(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__


def _canonical(data: bytes) -> bytes:
    """Rewrite a skops file: members named by content, no addresses, no dates, sets in order."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    contents = {name: _plain(name, content) for name, content in members.items()}
    names = {
        name: f"{hashlib.sha256(content).hexdigest()}{name[name.rindex('.') :]}" for name, content in contents.items()
    }
    files = {names[name]: content for name, content in contents.items()}
    files[_SCHEMA] = json.dumps(_without_addresses(schema, names), separators=(",", ":")).encode()
    return _zip(files)


def _plain(name: str, content: bytes) -> bytes:
    """A member without what is not its content: the gaps between the fields of an array of records."""
    if not name.endswith(".npy") or b"'descr': [" not in content[:64]:
        return content
    import numpy as np

    array = np.load(io.BytesIO(content), allow_pickle=False)
    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            target.writestr(entry, files[name])
    return buffer.getvalue()


def _without_addresses(node: Any, names: dict[str, str]) -> Any:
    """A node of the schema without `__id__`.

    skops marks objects with their addresses so that one that is met twice is rebuilt once. Without the mark it is
    rebuilt twice, which is the same to an estimator that only predicts; the arrays in the file are still shared.
    """
    if isinstance(node, list):
        return [_without_addresses(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(loader := node.get("__loader__"), str):
        return {key: _without_addresses(value, names) for key, value in node.items()}
    clean = {key: _without_addresses(value, names) for key, value in node.items() if key not in ("__id__", "file")}
    if "file" in node:
        clean["file"] = names[node["file"]]
    if loader == "SetNode":
        clean["content"] = sorted(clean["content"], key=json.dumps)
    return clean
