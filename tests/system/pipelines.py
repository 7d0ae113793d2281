"""The pipelines of the tests. Each has different rows, so that it has no cache hits from another one."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import yaml
from tests.integration.airflow.conftest import COLUMNS, DAG_FILE, DECLARATION, write_data

from ml_pipelines.spec.task_steps import task_of

CHECKOUT = Path(__file__).resolve().parents[2]
TRAINING = "ml_training_pipeline"
# Numbers of rows. Each table has enough test rows to prove that its model is better than the dummy baseline.
SHOPS = {"shop_a": 360, "shop_b": 380, "shop_c": 400, "shop_d": 450, "shop_e": 500}
# Pipelines with a slow training, for faults.
SLOW = {"killed": 556, "emptied": 552, "stopped": 548, "restarted": 544}
# Small pipelines.
SMALL = {"waiting": 430, "beside": 440, "full": 460}
# In each of these pipelines a task waits in a pool until the test gives it slots.
GATE = "gate"
GATED = {"away_at_train": 410, "away_at_register": 420}
SLOW_CANDIDATE = {
    "name": "slow",
    "estimator": "sklearn.neural_network.MLPClassifier",
    "params": {"max_iter": 4000, "n_iter_no_change": 4000, "tol": 0.0, "hidden_layer_sizes": [50]},
}
CONTAINED = {"docker": {"memory": "1500m"}, "queue": "training", "pool": "training"}
DEFAULT_ARGS = {"owner": "tests", "retries": 6, "retry_delay": "5s"}
TESTED = {TRAINING, *SHOPS, *SLOW, *SMALL, *GATED}
# Served, but not run.
SHIPPED = {path.stem for path in (CHECKOUT / "dags").glob("*.py")} - {TRAINING}


def gated_step(name: str) -> str:
    """Return the step whose task waits."""
    return name.removeprefix("away_at_")


def write_dags(folder: Path) -> None:
    """Write the pipelines and their data, readable for every user, as the containers need."""
    shutil.copytree(CHECKOUT / "dags", folder, ignore=shutil.ignore_patterns("__pycache__"))
    # The shipped pipeline without its schedule, which would start a run for last Sunday. It trains in containers.
    declaration = yaml.safe_load((CHECKOUT / "dags" / f"{TRAINING}.yaml").read_text())
    del declaration["schedule"]
    write_pipeline(folder, TRAINING, declaration | {"runtime": {"train_model": CONTAINED}})
    write_data(folder)
    with (folder / "customers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, count in {**SHOPS, **SLOW, **SMALL, **GATED}.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows[:count])
        data = DECLARATION["data"] | {"file": {"path": f"/opt/airflow/dags/{name}.csv"}}
        sections = {"model": {"name": name, "task": "classification"}, "data": data, "default_args": DEFAULT_ARGS}
        write_pipeline(folder, name, DECLARATION | sections | special_sections(name))
    for path in (*folder.iterdir(), folder, folder.parent):
        path.chmod(0o755 if path.is_dir() else 0o644)


def special_sections(name: str) -> dict[str, Any]:
    """Return the sections in which a pipeline differs from the others."""
    if name in GATED:
        # The delay is longer than the outage, so that one retry succeeds.
        return {
            "runtime": {task_of(gated_step(name)): {"pool": GATE}},
            "default_args": DEFAULT_ARGS | {"retry_delay": "150s"},
        }
    if name in SLOW:
        contained = {"runtime": {"train_model": CONTAINED}} if name == "restarted" else {}
        return {"candidates": [SLOW_CANDIDATE], **contained}
    return {}


def write_pipeline(folder: Path, name: str, declaration: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(declaration, sort_keys=False))
    (folder / f"{name}.py").write_text(DAG_FILE)
