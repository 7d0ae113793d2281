"""Airflow as a team runs it: `make stack-native`'s own stack, with two workers, for these tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow.conftest import Airflow
from tests.integration.airflow.server import Server

from ml_pipelines_airflow.processes import Processes, find_port
from ml_pipelines_airflow.stack import running
from ml_pipelines_airflow.testing import SlackServer

SHIPPED = ("ml_doctor", "ml_model_rollback")
DAGS = {"small", "recovers", "breaks", "slow", "survives", "warm", *SHIPPED}
SHIPPED_DAGS = Path(__file__).parents[4] / "dags"
WORKERS = ("worker-1", "worker-2")
# How soon the scheduler takes a task for dead whose process says nothing: on a busy machine not too soon.
HEARTBEAT_SECONDS = 60

# Take seconds from the first import to the stored model, which is long enough to be found at it.
SLOW = [
    {"name": name, "estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": trees}}
    for name, trees in {"forest": 300, "large_forest": 301}.items()
]


@pytest.fixture(scope="session")
def stack(make_airflow: Callable[..., Airflow]) -> Iterator[Server]:
    """The whole of it; the DAGs of this folder are in it, and the pipelines `small` and `survives`."""
    airflow = make_airflow(database=False)
    for file in [*(Path(__file__).parent / "dags").glob("*.py"), *(SHIPPED_DAGS / f"{name}.py" for name in SHIPPED)]:
        shutil.copy(file, airflow.root / "dags")
    # Newer data is enough for a new champion, if it is not clearly worse.
    gate = {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}, "improvement": -1}
    airflow.add_pipeline("small", runtime={"train": {"queue": "training"}}, gate=gate)
    model = {"name": "survives-model", "task": "classification"}
    patient = {"owner": "tests", "retries": 1, "retry_delay": "0s"}
    # With a seed of its own nothing that `small` has made is found.
    placed: dict[str, Any] = {"runtime": {"train": {"queue": "training"}}, "seed": 7}
    airflow.add_pipeline("survives", model=model, candidates=SLOW, default_args=patient, **placed)
    with (
        SlackServer() as slack,
        # pytest's folders are closed to who runs PostgreSQL for root.
        tempfile.TemporaryDirectory(prefix="pg-") as data,
        running_in(airflow, slack, data=Path(data)) as started,
    ):
        server = Server(airflow.root, started.environment, slack, started.running)
        try:
            server.login()
            server.until("DAGs", lambda: set(server.dags()) == DAGS)
            server.unpause(*DAGS)
            yield server
        except BaseException as exc:
            exc.add_note(server.printed())
            raise
        finally:
            server.session.close()


def running_in(airflow: Airflow, slack: SlackServer, *, data: Path) -> AbstractContextManager[Processes]:
    data.chmod(0o711)
    settings = settings_of(airflow, slack)
    return running(airflow.root, settings, port=find_port(), data=data / "server", durable=False, grace_seconds=5)


def settings_of(airflow: Airflow, slack: SlackServer) -> dict[str, str]:
    of_stack = ("MLFLOW_TRACKING_URI", "ML_PIPELINES_LEDGER")
    own = {name: value for name, value in airflow.environment.items() if name not in of_stack}
    return own | {
        "AIRFLOW_CONN_SLACK_API_DEFAULT": slack.connection(),
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # a busy machine takes long for the first answer
    }
