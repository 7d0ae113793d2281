"""What is already there is found without what it took to make it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ml_pipelines.pipeline.training import TRAINING_STEPS

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

HEAVY = ["matplotlib", "mlflow", "pandas", "polars", "sklearn"]
NOTHING_NEW = """
import json, sys
from ml_pipelines.cli.app import main
sys.argv = ["ml-pipelines", "run", sys.argv[1], "--store", sys.argv[2], "--run-id", "again"]
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
EACH_STEP = """
import json, sys
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.contracts import Identity, StepRequest
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.runner.training import step_parameters
from ml_pipelines.runner.step import run_step
from ml_pipelines.pipeline.wiring import upstream_steps, wire_inputs

spec, services = load_spec(sys.argv[1]), ConnectedServices(Settings.from_environment())
results = {record.result.step: record.result for record in services.store.run("shop", "first")}
results["train"] = [results["train"]]
for step in (step for step in TRAINING_STEPS.values() if step.compute):
    candidate = spec.effective_candidates[0] if step.name == "train" else None
    request = StepRequest(
        step=step.name,
        parameters=step_parameters(spec, step.name, candidate).model_dump(mode="json"),
        **wire_inputs(step, {name: results[name] for name in upstream_steps(step.name)}),
        seed=spec.seed,
        store=services.settings.store,
        identity=Identity(pipeline="shop", run_id="second", task_id=step.name),
    )
    result = run_step(request, services)
    print(json.dumps([step.name, result.status, sorted(sys.modules)]))
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def heavy(modules: list[str]) -> list[str]:
    return [name for name in HEAVY if name in modules]


def test_a_run_on_nothing_new_imports_nothing_heavy(shop: Any) -> None:
    model = {"name": "nothing-new", "task": "classification"}
    shop.declare(model=model, gate={"metric": "roc_auc", "lift_over_dummy": 0})
    assert shop.run("first").code == 0
    done = python(NOTHING_NEW, shop.yaml, shop.folder / "store")
    assert "NO CHANGE" in done.stdout
    assert shop.outcome("again") == "no_change"
    assert heavy(json.loads(done.stderr.splitlines()[-1])) == []


def test_candidates_are_built_again_when_they_have_changed(shop: Any) -> None:
    assert shop.run("first").code == 0
    shop.declare(
        candidates=[{"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": "x"}}]
    )
    output = shop.run("second")
    assert output.code == 1
    assert "C" in output.err


def test_a_stored_result_of_any_step_is_found_without_importing_anything_heavy(shop: Any, monkeypatch: Any) -> None:
    # Nothing passes this gate, so there is no champion that the run could be compared with.
    model = {"name": "never-good-enough", "task": "classification"}
    shop.declare(model=model, gate={"metric": "roc_auc", "thresholds": {"roc_auc": 1.0}})
    assert shop.run("first").code == 0
    assert shop.outcome("first") == "rejected"
    monkeypatch.setenv("ML_PIPELINES_STORE", f"file://{shop.folder}/store")
    actual = [json.loads(line) for line in python(EACH_STEP, shop.yaml).stdout.splitlines()]
    assert [(step, how) for step, how, _ in actual] == [
        (step.name, "cached") for step in TRAINING_STEPS.values() if step.compute
    ]
    assert {step: heavy(modules) for step, _, modules in actual if heavy(modules)} == {}
