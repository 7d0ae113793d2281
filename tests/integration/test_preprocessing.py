"""A transformer beside the declaration: run, promote, score, load as a client of MLflow does, edit a helper line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_libraries import customers, scores
from tests.integration.test_threshold import client_labels

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

HELPER = "def scale(values):\n    return values / 10\n"
CODE = """
from shop_scaling import scale
from sklearn.base import BaseEstimator, TransformerMixin


class Center(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.means_ = {name: float(X[name].mean()) for name in ("amount", "visits")}
        return self

    def transform(self, X):
        return scale(X[[*self.means_]].fillna(self.means_) - list(self.means_.values()))
"""
COMPUTED = ("ingest", "check_quality", "preprocess", "split", "train", "evaluate")


def keys(shop: Any, run_id: str) -> dict[str, Any]:
    return {name: record.result.key for name, record in shop.records(run_id).items() if name in COMPUTED}


def test_transformer_beside_the_declaration(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "shop_centers,shop_scaling")
    for module in ("shop_centers", "shop_scaling"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (shop.folder / "shop_centers.py").write_text(CODE)
    helper: Path = shop.folder / "shop_scaling.py"
    helper.write_text(HELPER)
    shop.write(customers())
    features = {"preprocessing": "shop_centers:Center"}
    gate = {"metric": "roc_auc", "lift_over_dummy": 0, "improvement": -1, "non_inferiority": 1}
    model = {"name": "centered", "task": "classification"}
    shop.declare(model=model, data={"positive": "leaves"}, features=features, gate=gate)

    refused = shop.run("untrusted")
    assert refused.code != 0
    text = " ".join(refused.err.split())
    assert "shop_centers.py:11: the model holds types that are not trusted: shop_centers.Center" in text
    assert "ML_PIPELINES_TRUSTED_TYPES=shop_centers.Center" in text

    monkeypatch.setenv("ML_PIPELINES_TRUSTED_TYPES", "shop_centers.Center")
    ran = shop.run("first")
    assert ran.code == 0, ran.err
    assert shop.outcome("first") == "promoted"
    scored = scores(shop, "centered", "scored").sort("id")
    assert client_labels("centered") == scored["prediction"].to_list()

    again = shop.run("again", "--force")
    assert again.code == 0, again.err
    # The evaluation has a champion now.
    before, after = keys(shop, "first"), keys(shop, "again")
    assert [name for name in COMPUTED if before[name] != after[name]] == ["evaluate"]
    helper.write_text(HELPER.replace("10", "20"))
    edited = shop.run("edited")
    assert edited.code == 0, edited.err
    after = keys(shop, "edited")
    assert [name for name in COMPUTED if before[name] != after[name]] == ["train", "evaluate"]
    reason = shop.records("edited")["compare_with_champion"].result.values["reason"]
    assert "code (shop_scaling.py: scale) changed" in reason
    # The champion's code has changed, so its predictions would not be those of its training.
    decision = shop.ledger.entry("shop", "edited").decision
    assert not decision.champion_metrics, decision
