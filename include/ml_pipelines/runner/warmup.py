"""Warm up a process: libraries import modules and fill caches at their first use.

The warm-up trains a small model in one thread and without polars, so that the process can be forked afterwards.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.modeling.preprocessing import build_preprocessor
from ml_pipelines.modeling.serialization import dump_model, load_model

__all__ = ["warm_up"]


def warm_up() -> None:
    """Fit, store, load and evaluate a model of three columns, and discard it."""
    frame = pd.DataFrame({"number": [0.0, 1.0] * 4, "few": pd.Categorical(["a", "b"] * 4)})
    frame["many"] = frame["few"]
    truth = np.array([0, 1] * 4)
    encodings = {"number": "number", "few": "onehot", "many": "target"}
    features = [{"name": name, "encoding": encoding} for name, encoding in encodings.items()]
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    columns = build_preprocessor(features, task="classification", outliers=None, folds=folds)
    model = Pipeline([("features", columns), ("model", DecisionTreeClassifier(random_state=0))]).fit(frame, truth)
    score = load_model(dump_model(model)).predict_proba(frame)[:, 1]
    target = TargetSchema("classification", classes=(0, 1), positive=1)
    compute_metrics(target, truth, score)
    curves_and_confusion(target, truth, score)
