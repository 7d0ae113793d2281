"""The stack of `make stack-native` with two workers for these tests."""

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

from ml_pipelines_airflow.fake_slack import SlackServer
from ml_pipelines_airflow.local.process_groups import ProcessGroup, find_free_port
from ml_pipelines_airflow.local.stack import run_stack

SHIPPED = ("ml_doctor", "ml_model_rollback")
DAGS = {"small", "recovers", "breaks", "slow", "survives", "endures", "warm", *SHIPPED}
SHIPPED_DAGS = Path(__file__).parents[4] / "dags"
WORKERS = ("worker-1", "worker-2")
# The timeout after which the scheduler fails a task without a heartbeat; long enough for busy machines.
HEARTBEAT_SECONDS = 60

# These trainings take seconds, so that the tests can interrupt them.
SLOW = [
    {"name": name, "estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": trees}}
    for name, trees in {"forest": 300, "large_forest": 301}.items()
]


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """The folder of PostgreSQL. Its user can't read the folders of pytest if root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder, "server")


@pytest.fixture(scope="session")
def stack(make_airflow: Callable[..., Airflow], postgres_folder: Path) -> Iterator[Server]:
    """The stack with the DAGs of this folder, and the pipelines `small`, `survives` and `endures`."""
    airflow = make_airflow(database=False)
    for file in [*(Path(__file__).parent / "dags").glob("*.py"), *(SHIPPED_DAGS / f"{name}.py" for name in SHIPPED)]:
        shutil.copy(file, airflow.root / "dags")
    # A model on newer data is promoted unless it is clearly worse.
    gate = {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}, "improvement": -1}
    airflow.add_pipeline("small", runtime={"train_model": {"queue": "training"}}, gate=gate)
    model = {"name": "survives-model", "task": "classification"}
    one_retry = {"owner": "tests", "retries": 1, "retry_delay": "0s"}
    # Another seed than that of `small`, so that nothing is a cache hit.
    placed: dict[str, Any] = {"runtime": {"train_model": {"queue": "training"}}, "seed": 7}
    airflow.add_pipeline("survives", model=model, candidates=SLOW, default_args=one_retry, **placed)
    # Servers are down for some seconds during its runs; the retry delay is longer than that.
    six_retries = {"owner": "tests", "retries": 6, "retry_delay": "15s"}
    model = {"name": "endures-model", "task": "classification"}
    placed |= {"seed": 8}
    airflow.add_pipeline("endures", model=model, candidates=SLOW, gate=gate, default_args=six_retries, **placed)
    with SlackServer() as slack, running_in(airflow, slack, data=postgres_folder) as started:
        server = Server(airflow.root, started.environment, slack, started.running)
        try:
            server.login()
            server.until("DAGs", lambda: set(server.dags()) == DAGS)
            server.unpause(*DAGS)
            yield server
        except BaseException as exc:
            exc.add_note(server.log_tails())
            raise
        finally:
            server.session.close()


def running_in(airflow: Airflow, slack: SlackServer, *, data: Path) -> AbstractContextManager[ProcessGroup]:
    settings = settings_of(airflow, slack)
    return run_stack(airflow.root, settings, port=find_free_port(), data=data, durable=False, grace_seconds=5)


def settings_of(airflow: Airflow, slack: SlackServer) -> dict[str, str]:
    stack_variables = ("MLFLOW_TRACKING_URI", "ML_PIPELINES_LEDGER")
    own = {name: value for name, value in airflow.environment.items() if name not in stack_variables}
    return own | {
        "AIRFLOW_CONN_SLACK_API_DEFAULT": slack.connection(),
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
        # Airflow queues a task with a lost message again after this time; the default is ten minutes.
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the first answer takes long on a busy machine
    }
