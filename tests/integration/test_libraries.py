"""Each library of estimators: train, register in MLflow, score, load as a client of MLflow does, roll back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient, pyfunc
from tests.integration.conftest import shop_rows

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

STACKING = {
    "estimators": {
        "boosting": {"estimator": "xgboost.XGBClassifier", "params": {"n_estimators": 10}},
        "linear": {"estimator": "sklearn.linear_model.LogisticRegression"},
    },
    "cv": 3,
}
OWN_CODE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Prototype:
    def __init__(self, rows, count):
        self.mean, self.share = rows.mean(axis=0), len(rows) / count


class Prototypes(ClassifierMixin, BaseEstimator):
    def __init__(self, sharpness=1.0):
        self.sharpness = sharpness

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.scale_ = X.std(axis=0) + 1e-9
        self.prototypes_ = [Prototype(X[y == label] / self.scale_, len(X)) for label in self.classes_]
        return self

    def predict_proba(self, X):
        distances = [((X / self.scale_ - prototype.mean) ** 2).mean(axis=1) for prototype in self.prototypes_]
        shares = np.array([prototype.share for prototype in self.prototypes_])
        weights = np.exp(-self.sharpness * np.stack(distances, axis=1)) * shares
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
"""


def customers() -> list[dict[str, Any]]:
    """Rows with text labels and missing values."""
    rows = [row | {"label": "leaves" if row["label"] else "stays"} for row in shop_rows()]
    for row in rows[::9]:
        row["amount"] = ""
    for row in rows[::11]:
        row["plan"] = ""
    return rows


@pytest.fixture
def own_code(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allowed module beside the declaration."""
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "shop_prototypes")
    monkeypatch.setenv("ML_PIPELINES_CODE_FOLDER", str(shop.folder))
    monkeypatch.delitem(sys.modules, "shop_prototypes", raising=False)
    (shop.folder / "shop_prototypes.py").write_text(OWN_CODE)


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("lightgbm.LGBMClassifier", {"n_estimators": 10}, {"n_estimators": 20}),
        ("xgboost.XGBClassifier", {"n_estimators": 10, "max_depth": 3}, {"n_estimators": 20, "max_depth": 3}),
        ("catboost.CatBoostClassifier", {"iterations": 20}, {"iterations": 40}),
        ("sklearn.ensemble.StackingClassifier", STACKING, STACKING | {"passthrough": True}),
        # Its state is a plain object, so it is stored as a pickle.
        ("shop_prototypes.Prototypes", {"sharpness": 1.0}, {"sharpness": 3.0}),
    ],
)
def test_a_model_of_each_library_is_registered_scored_and_rolled_back_to(
    shop: Any, own_code: None, mlflow_uri: str, path: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    name = path.replace(".", "-")
    shop.write(customers())
    for run_id, params in (("first", first), ("second", second)):
        shop.declare(
            model={"name": name, "task": "classification"},
            data={"positive": "leaves"},
            candidates=[{"name": "boosted", "estimator": path, "params": params}],
            gate={"metric": "roc_auc", "lift_over_dummy": 0, "improvement": -1, "non_inferiority": 1},
        )
        ran = shop.run(run_id)
        assert ran.code == 0, ran.err
        assert shop.outcome(run_id) == "promoted"
    client = MlflowClient(mlflow_uri, mlflow_uri)
    assert int(client.get_model_version_by_alias(name, "champion").version) == 2
    after_second = scores(shop, name, "of-second")
    back = shop.command("rollback", name, "--to", "1", "--reason", "test", "--run-id", "back")
    assert back.code == 0, back.err
    assert int(client.get_model_version_by_alias(name, "champion").version) == 1
    after_first = scores(shop, name, "of-first")
    assert after_first["probability"].to_list() != after_second["probability"].to_list()
    assert_client_predicts(name, after_first)


def scores(shop: Any, name: str, run_id: str) -> pl.DataFrame:
    """The scores of all customers by the champion, whose file comes from MLflow."""
    for stored in (shop.folder / "store").rglob("*.skops"):
        stored.unlink()
    declaration = shop.folder / "scores.yaml"
    source = {"file": {"path": str(shop.csv)}, "key": "id"}
    declaration.write_text(json.dumps({"model": {"name": name}, "data": source, "shards": {"count": 1}}))
    scored = shop.command("score", declaration, "--store", shop.folder / "store", "--run-id", run_id)
    assert scored.code == 0, scored.err
    (ref,) = (
        record.result.outputs["scores"]
        for record in shop.store.run("scores", run_id)
        if record.result.step == "collect_scores"
    )
    return pl.read_parquet(Path(ref.uri.removeprefix("file://")))


def assert_client_predicts(name: str, scored: pl.DataFrame) -> None:
    rows = pl.DataFrame(customers(), infer_schema_length=None).to_pandas()
    frame = rows.assign(
        amount=[float(value) if value != "" else None for value in rows["amount"]],
        plan=[value or None for value in rows["plan"]],
    ).drop(columns=["id", "label"])
    model = pyfunc.load_model(f"models:/{name}@champion")
    assert [*model.predict(frame)] == scored.sort("id")["prediction"].to_list()
