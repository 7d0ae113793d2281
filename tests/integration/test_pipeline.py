"""Whole pipelines through the command line, with a real MLflow and real stores."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from mlflow import MlflowClient

from ml_pipelines._utils.process import user_name
from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.wiring import upstream_steps, wire_inputs
from ml_pipelines.runner.training import step_parameters
from ml_pipelines.spec.loader import load_spec

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

LINEAR = {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}
TREE = {"name": "tree", "estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3}}


def named(name: str) -> dict[str, str]:
    return {"name": name, "task": "classification"}


def digests(shop: Any, run_id: str) -> dict[str, Any]:
    """Key and outputs of every step of a run."""
    return {
        step: (record.result.key, {name: ref.sha256 for name, ref in record.result.outputs.items()})
        for step, record in shop.records(run_id).items()
    }


def how(shop: Any, run_id: str) -> dict[str, str]:
    return {step: record.result.status for step, record in shop.records(run_id).items() if TRAINING_STEPS[step].compute}


def document(shop: Any, run_id: str, step: str, output: str) -> dict[str, Any]:
    actual: dict[str, Any] = json.loads(shop.store.read(shop.records(run_id)[step].result.outputs[output]))
    return actual


def tracked(mlflow_uri: str, model: str) -> tuple[int, int]:
    """How many runs and how many versions MLflow knows of a model's pipeline."""
    client = MlflowClient(mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(experiments)), len(client.search_model_versions(f"name='{model}'"))


def test_the_same_bytes_elsewhere_give_the_same_keys_and_digests(shop: Any) -> None:
    shop.declare(model=named("elsewhere"), candidates=[LINEAR, TREE])
    other = type(shop)(shop.folder / "other folder", shop.command)
    other.folder.mkdir()
    other.csv.write_bytes(shop.csv.read_bytes())
    other.declare(model=named("elsewhere"), candidates=[LINEAR, TREE])
    assert shop.run("a", "--promote", "never").code == 0
    assert other.run("b", "--promote", "never").code == 0
    assert set(how(other, "b").values()) == {"computed"}
    assert {
        step: actual
        for step, actual in digests(other, "b").items()
        if TRAINING_STEPS[step].compute and step != "ingest"
    } == {
        step: actual for step, actual in digests(shop, "a").items() if TRAINING_STEPS[step].compute and step != "ingest"
    }
    ours, theirs = (folder.records(run)["ingest"].result for folder, run in ((shop, "a"), (other, "b")))
    assert (ours.key, ours.outputs["table"].sha256) == (theirs.key, theirs.outputs["table"].sha256)
    assert document(shop, "a", "evaluate", "evaluation") == document(other, "b", "evaluate", "evaluation")


def test_a_second_run_computes_nothing_and_leaves_mlflow_as_it_was(shop: Any, mlflow_uri: str) -> None:
    shop.declare(model=named("again"))
    assert shop.run("first").code == 0
    before = tracked(mlflow_uri, "again")
    assert (shop.outcome("first"), before[1]) == ("promoted", 1)
    assert shop.run("second").code == 0
    assert shop.outcome("second") == "no_change"
    assert tracked(mlflow_uri, "again") == before
    assert set(shop.records("second")) == {"ingest", "compare_with_champion", "record_decision"}
    assert how(shop, "second") == {"ingest": "cached"}
    assert shop.run("third", "--force").code == 0
    assert set(how(shop, "third").values()) == {"computed"}
    assert shop.outcome("third") == "no_change"
    # Another gate is another decision; nothing is trained for it.
    shop.declare(model=named("again"), gate={"metric": "roc_auc", "thresholds": {"roc_auc": 0.51}})
    done = shop.run("fourth")
    assert done.code == 0, done
    compared = shop.records("fourth")["compare_with_champion"].result.values
    assert (compared["changed"], compared["reason"]) == (["gate"], "gate changed since version 1, the champion")
    assert how(shop, "fourth") == dict.fromkeys(how(shop, "third"), "cached") | {"decide": "computed"}
    assert shop.outcome("fourth") == "no_change"
    assert tracked(mlflow_uri, "again")[1] == before[1]


def test_what_a_run_may_be_asked_for(shop: Any, mlflow_uri: str) -> None:
    shop.declare(model=named("asked"), candidates=[LINEAR, TREE])
    done = shop.run("never", "--promote", "never", "--candidate", "tree", "--require-promotion")
    assert (done.code, tracked(mlflow_uri, "asked")[1]) == (3, 0), done
    assert "train[tree]" in done.out
    assert "train[linear]" not in done.out
    done = shop.run("hold", "--promote", "hold", "--candidate", "tree", "--require-promotion")
    assert (done.code, shop.outcome("hold")) == (3, "held"), done
    assert "register" not in shop.records("hold")
    done = shop.run("approved", "--promote", "hold", "--candidate", "tree", "--approve", "--require-promotion")
    assert (done.code, shop.outcome("approved")) == (0, "promoted"), done
    assert f"approved by {user_name()}" in " ".join(done.out.split())
    assert tracked(mlflow_uri, "asked")[1] == 1
    done = shop.run("both", "--candidate", "linear", "--candidate", "tree", "--promote", "never")
    assert "train[linear]" in done.out
    assert "train[tree]" in done.out
    assert [record.result.step for record in shop.store.run("shop", "both")].count("train") == 2
    shown = shop.command("show", "approved", "--store", shop.folder / "store")
    assert shown.code == 0
    assert "asked: PROMOTED" in shown.out
    assert "version 1 is @champion" in shown.out
    pruned = shop.command("store", "prune", "--dry-run", "--keep-days", "30", "--store", shop.folder / "store")
    assert pruned.out.startswith("would remove 0 runs, 0 results, 0 artifacts (0.0 MB)")


def test_a_container_elsewhere_makes_the_same(shop: Any) -> None:
    shop.declare(model=named("container"))
    assert shop.run("here", "--promote", "never").code == 0
    spec = load_spec(shop.yaml)
    results = {step: record.result for step, record in shop.records("here").items()}
    results["train"] = [results["train"]]
    for step in ("ingest", "check_quality", "preprocess", "split", "train", "evaluate"):
        request = StepRequest(
            step=step,
            parameters=step_parameters(spec, step).model_dump(mode="json"),
            **wire_inputs(TRAINING_STEPS[step], {name: results[name] for name in upstream_steps(step)}),
            seed=spec.seed,
            store=f"file://{shop.folder}/other-store",
            identity=Identity(pipeline="shop", run_id="there", task_id=step),
        )
        asked, answered = shop.folder / "request.json", shop.folder / "result.json"
        asked.write_text(request.model_dump_json())
        done = shop.command("run-step", "--request", f"file://{asked}", "--result", f"file://{answered}")
        assert done.code == 0, done
        created, expected = StepResult.model_validate_json(answered.read_text()), results[step]
        expected = expected[0] if isinstance(expected, list) else expected
        assert (created.status, created.key) == ("computed", expected.key)
        assert {name: ref.sha256 for name, ref in created.outputs.items()} == {
            name: ref.sha256 for name, ref in expected.outputs.items()
        }
        assert all("other-store" in ref.uri for ref in created.outputs.values())
    done = shop.command("run-step", "--request", asked)
    assert StepResult.model_validate_json(done.out).status == "cached"


def flats(rows: int) -> list[dict[str, Any]]:
    numbers = random.Random(3)
    created = []
    for index in range(rows):
        area, rooms, city = round(numbers.uniform(20, 150), 1), numbers.randint(1, 6), numbers.choice("abc")
        rent = 8 * area + 60 * rooms + {"a": 0, "b": 100, "c": 250}[city] + numbers.gauss(0, 40)
        created.append({"id": index, "area": area, "rooms": rooms, "city": city, "rent": round(rent, 2)})
    return created


def flowers(rows: int) -> list[dict[str, Any]]:
    numbers = random.Random(4)
    created = []
    for index in range(rows):
        kind = numbers.choice(["iris", "rose", "tulip"])
        length = numbers.gauss({"iris": 2, "rose": 4, "tulip": 5}[kind], 0.7)
        created.append(
            {"id": index, "length": round(length, 3), "width": round(numbers.gauss(1, 0.3), 3), "kind": kind}
        )
    return created


def test_a_regression(shop: Any) -> None:
    shop.write(flats(300))
    shop.declare(
        model={"name": "rent", "task": "regression"},
        data={"target": "rent"},
        candidates=[{"name": "ridge", "estimator": "sklearn.linear_model.Ridge"}],
        gate={"metric": "rmse", "thresholds": {"r2": 0.8, "rmse": 80}},
    )
    done = shop.run("first")
    assert (done.code, shop.outcome("first")) == (0, "promoted"), done
    evaluation = document(shop, "first", "evaluate", "evaluation")
    (test,) = [candidate["test"] for candidate in evaluation["candidates"]]
    assert 25 < test["rmse"] < 60
    assert test["r2"] > 0.9
    assert evaluation["dummy"]["test"]["rmse"] > 200
    assert shop.run("second").code == 0
    assert shop.outcome("second") == "no_change"


def test_several_classes(shop: Any) -> None:
    shop.write(flowers(300))
    shop.declare(
        model=named("flowers"),
        data={"target": "kind"},
        candidates=[LINEAR, TREE],
        gate={"metric": "roc_auc", "thresholds": {"accuracy": 0.6}},
    )
    done = shop.run("first")
    assert (done.code, shop.outcome("first")) == (0, "promoted"), done
    evaluation = document(shop, "first", "evaluate", "evaluation")
    winner = next(item for item in evaluation["candidates"] if item["candidate"] == evaluation["winner"])
    assert winner["confusion"]["labels"] == ["iris", "rose", "tulip"]
    assert sum(map(sum, winner["confusion"]["matrix"])) == evaluation["rows"]["test"]
    assert winner["test"]["roc_auc"] > 0.85
    assert all(value is None or math.isfinite(value) for value in winner["test"].values())
