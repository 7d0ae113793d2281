from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.threshold import threshold_of, with_threshold


@pytest.mark.parametrize("positive", ["bad", "good"])
def test_a_stored_model_predicts_labels_by_its_threshold(positive: str) -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = np.where(x[:, 0] > 1, "bad", "good")
    plain = Pipeline([("features", StandardScaler()), ("model", LogisticRegression())]).fit(x, y)
    model = load_model(dump_model(with_threshold(plain, 0.8, positive)))
    assert threshold_of(plain) is None
    assert threshold_of(object()) is None
    assert threshold_of(model) == 0.8
    probabilities = plain.predict_proba(x)
    assert np.array_equal(model.predict_proba(x), probabilities)
    other = "good" if positive == "bad" else "bad"
    expected = np.where(probabilities[:, ["bad", "good"].index(positive)] >= 0.8, positive, other)
    assert model.predict(x).tolist() == expected.tolist()
    assert model.classes_.tolist() == ["bad", "good"]
    assert dump_model(model) == dump_model(with_threshold(plain, 0.8, positive))
