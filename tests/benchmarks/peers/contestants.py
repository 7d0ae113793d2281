"""Who takes part: how each is set up, and the command that runs the pipeline of a folder once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import yaml

from ml_pipelines_airflow.local.process_groups import find_free_port, stop_processes

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SAMPLE = files("ml_pipelines") / "sample_data" / "customers-2026-11.csv"
SECONDS = 300  # for a server to answer

Run = Callable[[Path], float | None]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One column of the comparison.

    Attributes:
        title: for people.
        environment: name of its file in `requirements`; None: this project's own environment.
        command: what runs the pipeline of a folder; `{folder}` and `{python}` are filled in.
        variables: of its process; the same names are filled in.
        prepare: makes a folder ready, which is not measured.
        server: runs beside it, and gives variables; for one that is asked instead of started, `run`.
    """

    title: str
    environment: str | None = None
    command: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda folder: None
    server: Callable[[Path], contextlib.AbstractContextManager[dict[str, str] | Run]] | None = None


def declare(folder: Path, name: str = "race") -> None:
    """Write the pipeline as this project has it: the same forest on the same rows, and all that comes with it."""
    task = json.loads((folder / "task.json").read_text())
    declared = {
        "model": {"name": name, "task": "classification"},
        "data": {"file": {"path": task["source"]}, "key": "customer_id", "target": "label"},
        "checks": {"rows": {"min": 1000}, "missing": {"max_share": 0.2}, "labels": {"min_share": 0.05}},
        "candidates": [
            {
                "name": "forest",
                "estimator": "sklearn.ensemble.RandomForestClassifier",
                "params": {"n_estimators": task["trees"], "max_depth": 10},
            }
        ],
        "gate": {"metric": "average_precision", "thresholds": {"roc_auc": 0.6}},
        "default_args": {"owner": "race", "retries": 0},
    }
    (folder / "dags").mkdir(exist_ok=True)
    (folder / "dags" / f"{name}.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    (folder / "dags" / f"{name}.py").write_text(
        '"""An Airflow DAG from the declaration beside it."""\n\n'
        "from ml_pipelines_airflow.dag_builders.training import training_dag\n\ndag = training_dag(__file__)\n"
    )


def bundle_of(folder: Path) -> str:
    """Airflow's setting that serves a folder's DAGs."""
    served = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"path": f"{folder}/dags"}}
    return json.dumps([{"name": "race", **served}])


def _airflow(folder: Path) -> None:
    declare(folder)
    _call(folder, {"AIRFLOW_HOME": str(folder / "airflow")}, str(BIN / "airflow"), "db", "migrate")


def _dvc(folder: Path) -> None:
    work = {name: {"cmd": f"$WORK {name} .", "deps": [], "outs": []} for name in _FILES}
    for name, (needs, makes) in _FILES.items():
        work[name]["deps"], work[name]["outs"] = list(needs), [{item: {"cache": True}} for item in makes]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": work}, sort_keys=False))
    dvc = str(folder.parents[1] / "environments" / "dvc" / "bin" / "dvc")
    _call(folder, {"DVC_NO_ANALYTICS": "1"}, dvc, "init", "--no-scm", "--quiet")


# What each stage reads and makes, as DVC has to be told.
_FILES = {
    "ingest": (("task.json",), ("raw.parquet",)),
    "check": (("raw.parquet",), ("checked.json",)),
    "preprocess": (("raw.parquet", "checked.json"), ("clean.parquet",)),
    "split": (("clean.parquet",), ("train.parquet", "test.parquet")),
    "train": (("train.parquet",), ("model.joblib",)),
    "evaluate": (("model.joblib", "test.parquet"), ("metrics.json",)),
    "register": (("model.joblib", "metrics.json"), ("registered.json",)),
    "promote": (("registered.json",), ("promoted.json",)),
}


@contextlib.contextmanager
def _prefect_server(place: Path) -> Iterator[dict[str, str]]:
    port = find_free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [str(place / "environments" / "prefect" / "bin" / "prefect"), "server", "start", "--host", "127.0.0.1"]
    variables = os.environ | QUIET | {"PREFECT_HOME": str(place / "prefect-server")}
    with (place / "prefect-server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], env=variables, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _await(f"{url}/health")
        yield {"PREFECT_API_URL": url}
    finally:
        stop_processes(server)


@contextlib.contextmanager
def _celery(place: Path) -> Iterator[Run]:
    """A native stack with warm workers; a run is triggered over the API, and over when the scheduler says so."""
    from tests.benchmarks.peers.stack_runs import stack_runs

    with stack_runs(place) as run:
        yield run


def _await(url: str) -> None:
    end = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return
        if time.monotonic() > end:
            raise SystemExit(f"{url} does not answer")
        time.sleep(0.2)


def _call(folder: Path, variables: Mapping[str, str], *command: str) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


# Nobody is told of these runs.
QUIET = {
    "DAGSTER_TELEMETRY_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
_OURS = {
    "MLFLOW_TRACKING_URI": "sqlite:///{folder}/mlflow.db",
    "ML_PIPELINES_LEDGER": "sqlite:///{folder}/ledger.db",
    "ML_PIPELINES_STORE": "file://{folder}/store",
}
_PREFECT = {"PREFECT_HOME": "{folder}/prefect", "PREFECT_LOGGING_LEVEL": "WARNING"}

CONTESTANTS: dict[str, Contestant] = {
    "plain": Contestant(
        title="plain script", environment="plain", command=("{python}", f"{HERE}/plain_run.py", "{folder}")
    ),
    "ours-cli": Contestant(
        title="ml-pipelines run",
        command=(f"{BIN}/ml-pipelines", "run", "dags/race.yaml"),
        variables=_OURS,
        prepare=declare,
    ),
    "ours-airflow": Contestant(
        title="airflow dags test",
        command=(f"{BIN}/airflow", "dags", "test", "race"),
        variables=_OURS
        | {
            "AIRFLOW_HOME": "{folder}/airflow",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": "{bundle}",
            "AIRFLOW__ML_PIPELINES__STORE": "file://{folder}/store",
        },
        prepare=_airflow,
    ),
    "ours-celery": Contestant(title="Airflow on warm Celery workers", prepare=declare, server=_celery),
    "kedro": Contestant(title="Kedro", environment="kedro", command=("{python}", f"{HERE}/kedro_run.py", "{folder}")),
    "dagster": Contestant(
        title="Dagster, in process",
        environment="dagster",
        command=("{python}", f"{HERE}/dagster_run.py", "{folder}"),
    ),
    "prefect": Contestant(
        title="Prefect, own server",
        environment="prefect",
        command=("{python}", f"{HERE}/prefect_run.py", "{folder}"),
        variables=_PREFECT,
    ),
    "prefect-server": Contestant(
        title="Prefect, running server",
        environment="prefect",
        command=("{python}", f"{HERE}/prefect_run.py", "{folder}"),
        variables=_PREFECT,
        server=_prefect_server,
    ),
    "metaflow": Contestant(
        title="Metaflow",
        environment="metaflow",
        command=("{python}", f"{HERE}/metaflow_run.py", "--quiet", "run", "--folder", "{folder}"),
        variables={"METAFLOW_DATASTORE_SYSROOT_LOCAL": "{folder}", "METAFLOW_USER": "race"},
    ),
    "dvc": Contestant(
        title="DVC repro",
        environment="dvc",
        command=("{bin}/dvc", "repro", "--quiet"),
        variables={"WORK": f"{{python}} {HERE}/work.py"},
        prepare=_dvc,
    ),
}
