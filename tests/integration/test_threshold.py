"""A tuned threshold: run, register in MLflow, score, load as a client of MLflow does, roll back, evaluate again."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient, pyfunc
from tests.integration.test_libraries import customers, scores

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

COSTS = {"minimise_cost": {"false_positive": 1, "false_negative": 20}}
UNREACHABLE = {"maximise": "recall", "at_least": {"precision": 1.0}}
GATE = {"metric": "roc_auc", "lift_over_dummy": 0, "improvement": -1, "non_inferiority": 1}


def declare(shop: Any, name: str, threshold: dict[str, Any] | None, **changes: Any) -> None:
    declared = {"threshold": threshold} if threshold else {}
    model = {"name": name, "task": "classification"}
    shop.declare(model=model, data={"positive": "leaves"}, gate=GATE, **declared, **changes)


def test_a_threshold_is_that_of_the_model_wherever_it_predicts(shop: Any, mlflow_uri: str) -> None:
    name = "threshold"
    shop.write(customers())
    client = MlflowClient(mlflow_uri, mlflow_uri)
    values = {}
    for run_id, threshold in (("first", COSTS), ("second", None)):
        declare(shop, name, threshold)
        ran = shop.run(run_id)
        assert ran.code == 0, ran.err
        assert "threshold" in ran.out
        entry = shop.ledger.entry("shop", run_id)
        values[run_id] = entry.decision.threshold
        assert entry.decision.outcome == "promoted"
        assert entry.details.candidates[0].threshold == values[run_id]
        version = client.get_model_version_by_alias(name, "champion")
        expected = str(values[run_id]) if threshold else None
        assert version.tags.get("ml_pipelines.threshold") == expected
        assert client.get_run(version.run_id).data.params.get("threshold") == expected
    assert values["first"] < 0.5
    assert values["second"] is None
    # The champion of the first run was evaluated with its own threshold.
    second = shop.ledger.entry("shop", "second").decision
    assert second.champion_threshold == values["first"]
    assert second.champion_metrics["recall"] > second.metrics["recall"]
    assert_labels(scores(shop, name, "of-second"), 0.5)

    back = shop.command("rollback", name, "--to", "1", "--reason", "test", "--run-id", "back")
    assert back.code == 0, back.err
    scored = scores(shop, name, "of-first")
    assert_labels(scored, values["first"])
    assert client_labels(name) == scored.sort("id")["prediction"].to_list()

    linear = {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 0.5}}
    declare(shop, name, None, candidates=[linear])
    assert shop.run("third", "--promote", "never").code == 0
    third = shop.ledger.entry("shop", "third").decision
    assert third.champion_threshold == values["first"]
    assert third.champion_metrics == second.champion_metrics


def test_a_target_that_is_not_reached_is_a_finding(shop: Any) -> None:
    noise = [row | {"label": "leaves" if index * 7 % 10 < 3 else "stays"} for index, row in enumerate(customers())]
    shop.write([row | {"day": 1, "amount": 1, "visits": 1, "plan": "pro"} for row in noise])
    declare(shop, "unreachable", UNREACHABLE)
    ran = shop.run("first", "--promote", "never")
    assert ran.code == 0, ran.err
    decision = shop.ledger.entry("shop", "first").decision
    (finding,) = [finding for finding in decision.findings if finding.check == "threshold"]
    assert "precision of 1" in finding.detail
    assert decision.threshold == 0.5


def test_only_the_steps_from_the_training_on_depend_on_the_threshold(shop: Any) -> None:
    shop.write(customers())
    keys = []
    for run_id, threshold in (("plain", None), ("tuned", {"maximise": "f1"})):
        declare(shop, "keys", threshold)
        assert shop.run(run_id, "--promote", "never").code == 0
        keys.append({name: record.result.key for name, record in shop.records(run_id).items()})
    plain, tuned = keys
    computed = ("ingest", "check_quality", "preprocess", "split", "train", "evaluate", "decide")
    assert [name for name in computed if plain[name] != tuned[name]] == ["train", "evaluate", "decide"]


def assert_labels(scored: pl.DataFrame, threshold: float) -> None:
    expected = ["leaves" if value >= threshold else "stays" for value in scored["probability"]]
    assert scored["prediction"].to_list() == expected


def client_labels(name: str) -> list[str]:
    """The labels that a client of MLflow gets from the champion."""
    rows = pl.DataFrame(customers(), infer_schema_length=None).to_pandas()
    frame = rows.assign(
        amount=[float(value) if value != "" else None for value in rows["amount"]],
        plan=[value or None for value in rows["plan"]],
    ).drop(columns=["id", "label"])
    return [*pyfunc.load_model(f"models:/{name}@champion").predict(frame)]
