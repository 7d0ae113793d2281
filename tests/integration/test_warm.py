"""A process that has preloaded: what it has started, and whether its forks can work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.store.artifact_store import ArtifactStore

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
# Threads of allocators, which look after themselves at a fork, and the one that removes what a dead polars has left.
HARMLESS = {"jemalloc_bg_thd", "polars-ooc-clea"}
FORKS = 3
FEW = 10  # modules of two thousand: what a library imports in a function

PROCESS = """
import json, os, shutil, signal, sys
from ml_pipelines_airflow.execution.preload import modules
import ml_pipelines_airflow.execution.celery_preload

HEAVY = {"matplotlib", "mlflow", "pandas", "scipy", "sklearn", "skops"}

def threads():
    return sorted(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task"))

def sockets():
    files = [f"/proc/self/fd/{file}" for file in os.listdir("/proc/self/fd")]
    return [os.readlink(file) for file in files if os.path.exists(file) and "socket" in os.readlink(file)]

def fork(work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(240)  # one that hangs ends, and has not answered
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return json.loads(told or "null")

def start():
    import threadpoolctl
    pools = sorted((pool["internal_api"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info())
    return {"threads": len(threads()), "pools": pools}

def run(name):
    from ml_pipelines.cli.app import main
    folder = sys.argv[1]
    shutil.copy(f"{folder}/empty.db", f"{folder}/{name}-mlflow.db")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/{name}-mlflow.db"
    os.environ["ML_PIPELINES_LEDGER"] = f"sqlite:///{folder}/{name}.db"
    sys.stdout = open(os.devnull, "w")
    sys.argv[:] = ["ml-pipelines", "run", f"{folder}/shop.yaml", "--run-id", name, "--store", f"{folder}/{name}"]
    before = set(sys.modules)
    try:
        main()
    except SystemExit as end:
        code = end.code
    new = set(sys.modules) - before
    return {"code": code, "new": sorted(name for name in new if name.partition(".")[0] in HEAVY)}

def declare():
    from ml_pipelines_airflow.dag_builders.training import training_dag
    before = set(sys.modules)
    training_dag(sys.argv[1] + "/shop.py")
    return sorted(set(sys.modules) - before)

missing = [name for name in modules() if name not in sys.modules]
fork(start)  # numpy's pool is there until the first fork
print(json.dumps({
    "missing": missing,
    "looked_up": [
        bool(sys.modules["mlflow.utils.requirements_utils"]._MODULES_TO_PACKAGES),
        sys.modules["mlflow.tracking._model_registry.utils"]._model_registry_store_registry is not None,
        sys.modules["narwhals.plugins"]._discover_entrypoints.cache_info().currsize > 0,
    ],
    "threads": threads(),
    "sockets": sockets(),
    "child": fork(start),
    "declaring": fork(declare),
    "runs": [fork(lambda name=name: run(f"fork-{name}")) for name in range(int(sys.argv[2]))],
}))
"""


@pytest.fixture
def warm(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a warm process tells of itself and of its forks, each of which runs a pipeline."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    # Making the tables of a database takes other modules than using them.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/cold.db")
    MlflowRegistry(f"sqlite:///{tmp_path}/cold.db").drop_alias("nothing", "nothing")
    shutil.copy(tmp_path / "cold.db", tmp_path / "empty.db")
    shop.declare(
        candidates=[
            {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"},
            {"name": "forest", "estimator": "sklearn.ensemble.RandomForestClassifier"},
            {"name": "boosted", "estimator": "sklearn.ensemble.HistGradientBoostingClassifier"},
        ]
    )
    command = [sys.executable, "-W", "ignore", "-c", PROCESS, str(shop.folder), str(FORKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    output: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return output


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems start a new process for a task, and nothing is shared"
)
def test_a_warm_process_is_safe_to_fork(warm: dict[str, Any], shop: Any) -> None:
    assert warm["missing"] == []
    assert all(warm["looked_up"]), "MLflow and narwhals know what is installed"
    assert warm["declaring"] == []
    assert set(warm["threads"]) - HARMLESS == {"python"}
    assert warm["threads"].count("python") == 1, "neither BLAS nor OpenMP nor anything else has a pool"
    assert warm["sockets"] == []
    assert warm["child"]["threads"] == 1
    # Its forks compute with as many threads as a process that began by itself.
    cold = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, sklearn.ensemble, scipy.linalg, threadpoolctl;"
            "print(json.dumps(sorted((p['internal_api'], p['num_threads']) for p in threadpoolctl.threadpool_info())))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {tuple(pool) for pool in json.loads(cold.stdout)} <= {tuple(pool) for pool in warm["child"]["pools"]}
    # All of them have worked, on all that is threaded, without importing again what takes long.
    assert [run["code"] for run in warm["runs"]] == [0] * FORKS
    assert all(len(run["new"]) < FEW for run in warm["runs"]), warm["runs"]
    # And what they have made is what a process makes that was never warm.
    assert shop.run("cold").code == 0
    created = [digests(shop, folder, run_id) for folder, run_id in [("store", "cold"), ("fork-0", "fork-0")]]
    assert created[0] == created[1]
    assert {"train", "evaluate", "decide"} <= created[0].keys()


def digests(shop: Any, folder: str, run_id: str) -> dict[str, Any]:
    records = ArtifactStore(str(shop.folder / folder)).run("shop", run_id)
    tasks = {f"{record.identity.task_id}{record.identity.map_index}": record.result for record in records}
    return {
        result.step: (result.key, {name: ref.sha256 for name, ref in result.outputs.items()})
        for result in tasks.values()
        if result.outputs
    }
