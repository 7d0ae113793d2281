"""The pipelines that the tests run, each on rows of its own, so that nothing of another is found in the store."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import yaml
from tests.integration.airflow.conftest import COLUMNS, DAG_FILE, DECLARATION, write_data

from ml_pipelines.spec.tasks import task_of

HERE = Path(__file__).resolve().parents[2]
TRAINING = "ml_training_pipeline"
# Rows of each.
SHOPS = {"shop_a": 300, "shop_b": 350, "shop_c": 400, "shop_d": 450, "shop_e": 500}
# Pipelines whose training takes a while, to be disturbed.
SLOW = {"killed": 556, "emptied": 552, "stopped": 548, "restarted": 544}
# Others that are small.
SMALL = {"waiting": 310, "beside": 320, "full": 330}
# In each of these a step waits in a pool of its own, until the test lets it go.
GATE = "gate"
GATED = {"away_at_train": 410, "away_at_register": 420}
SLOW_CANDIDATE = {
    "name": "slow",
    "estimator": "sklearn.neural_network.MLPClassifier",
    "params": {"max_iter": 4000, "n_iter_no_change": 4000, "tol": 0.0, "hidden_layer_sizes": [50]},
}
CONTAINED = {"docker": {"memory": "1500m"}, "queue": "training", "pool": "training"}
DEFAULT_ARGS = {"owner": "tests", "retries": 6, "retry_delay": "5s"}
OURS = {TRAINING, *SHOPS, *SLOW, *SMALL, *GATED}
# Served too, and never run.
SHIPPED = {path.stem for path in (HERE / "dags").glob("*.py")} - {TRAINING}


def gated_step(name: str) -> str:
    """The step of a pipeline that waits."""
    return name.removeprefix("away_at_")


def write_dags(folder: Path) -> None:
    """The pipelines and their data; every user may read them, as the containers' must."""
    shutil.copytree(HERE / "dags", folder, ignore=shutil.ignore_patterns("__pycache__"))
    # The shipped one, without its schedule: it would run once more, for last Sunday. It trains in containers.
    declared = yaml.safe_load((HERE / "dags" / f"{TRAINING}.yaml").read_text())
    del declared["schedule"]
    write_pipeline(folder, TRAINING, declared | {"runtime": {"train_model": CONTAINED}})
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
        write_pipeline(folder, name, DECLARATION | sections | special(name))
    for path in (*folder.iterdir(), folder, folder.parent):
        path.chmod(0o755 if path.is_dir() else 0o644)


def special(name: str) -> dict[str, Any]:
    """What a pipeline declares otherwise."""
    if name in GATED:
        # One retry comes when what was away is back.
        return {
            "runtime": {task_of(gated_step(name)): {"pool": GATE}},
            "default_args": DEFAULT_ARGS | {"retry_delay": "60s"},
        }
    if name in SLOW:
        contained = {"runtime": {"train_model": CONTAINED}} if name == "restarted" else {}
        return {"candidates": [SLOW_CANDIDATE], **contained}
    return {}


def write_pipeline(folder: Path, name: str, declared: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    (folder / f"{name}.py").write_text(DAG_FILE)
