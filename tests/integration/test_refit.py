"""A refit: run, register in MLflow, compare with a later candidate, and switch it off."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def test_the_refitted_model_is_evaluated_and_deployed(shop: Any, mlflow_uri: str) -> None:
    model = {"name": "refit", "task": "classification"}
    gate = {"metric": "roc_auc", "lift_over_dummy": 0, "improvement": -1, "non_inferiority": 1}
    client = MlflowClient(mlflow_uri, mlflow_uri)
    for run_id, refit in (("both", True), ("again", True), ("train", False)):
        shop.declare(model=model, gate=gate, **({} if refit else {"refit": False}))
        ran = shop.run(run_id)
        assert ran.code == 0, ran.err
        entry = shop.ledger.entry("shop", run_id)
        if run_id == "again":
            assert entry.decision.outcome == "no_change"
            continue
        assert entry.decision.outcome == "promoted"
        parts = entry.details.parts
        expected = parts["train"] + (parts["validation"] if refit else 0)
        assert entry.decision.fitted_rows == expected
        assert f"{expected:,} {'training and validation' if refit else 'training'} rows" in " ".join(ran.out.split())
        version = client.get_model_version_by_alias("refit", "champion")
        assert client.get_run(version.run_id).data.metrics["train_rows"] == expected
    # The split did not change, so the refitted champion has learned from no test row.
    assert entry.decision.comparison.rows == parts["test"]
    assert not [finding for finding in entry.decision.findings if finding.check in ("champion_rows", "split_rule")]
