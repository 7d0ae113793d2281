"""The types that a stored model may name.

skops rebuilds its own list of types, :data:`REVIEWED_TYPES`, and what a deployment adds: by the environment variable
`ML_PIPELINES_TRUSTED_TYPES`, a comma-separated list of import paths, or by entry points in the group
`ml_pipelines.trusted_types`, whose names are the import paths. Review a type before you add it: it must not run code,
open files or import modules when it is rebuilt.
"""

from __future__ import annotations

import functools
import os

from ml_pipelines._utils.entry_points import find_entry_points
from ml_pipelines.errors import RequestError
from ml_pipelines.spec.code_packages import may_pickle

__all__ = ["REVIEWED_TYPES", "TYPES_GROUP", "TYPES_VARIABLE", "trusted_types"]

TYPES_VARIABLE = "ML_PIPELINES_TRUSTED_TYPES"
TYPES_GROUP = "ml_pipelines.trusted_types"

# This project has reviewed these types. Trees, neighbours and boosters index arrays without checking bounds, so a
# forged file could crash the process that loads it; the digest of an artifact is verified before its bytes are loaded.
REVIEWED_TYPES: tuple[str, ...] = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "ml_pipelines.modeling.native_models.NativeClassifier",
    "ml_pipelines.modeling.native_models.NativeRegressor",
    "ml_pipelines.modeling.preprocessing.CategoryEncoder",
    "ml_pipelines.modeling.preprocessing.DateFeatures",
    "ml_pipelines.modeling.preprocessing.MedianImputer",
    "ml_pipelines.modeling.preprocessing.NumericConverter",
    "ml_pipelines.modeling.preprocessing.QuantileClipper",
    "ml_pipelines.modeling.user_preprocessing.UserPreprocessing",
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
    "sklearn.utils._bunch.Bunch",
)
# These hold a pickle as bytes, and let a process without credentials load it. Trusted where pickles are allowed.
PICKLED_TYPES = (
    "ml_pipelines.modeling.pickled_models.PickledClassifier",
    "ml_pipelines.modeling.pickled_models.PickledRegressor",
)


def trusted_types() -> tuple[str, ...]:
    """Return the import paths of all types that a stored model may name, beside those that skops trusts.

    Raises:
        RequestError: the environment variable holds something else than import paths.
    """
    configured = _parse(os.environ.get(TYPES_VARIABLE, ""))
    pickled = PICKLED_TYPES if may_pickle() else ()
    return tuple(dict.fromkeys((*REVIEWED_TYPES, *pickled, *configured, *sorted(find_entry_points(TYPES_GROUP)))))


@functools.cache
def _parse(text: str) -> tuple[str, ...]:
    paths = tuple(path.strip() for path in text.split(",") if path.strip())
    for path in paths:
        if "." not in path or not all(part.isidentifier() for part in path.split(".")):
            raise RequestError(
                "a trusted type is not an import path",
                where=TYPES_VARIABLE,
                expected="comma-separated import paths of types, such as ngboost.ngboost.NGBoost",
                got=path,
                fix="correct the variable",
            )
    return paths
