"""`make stack-native`: Airflow as a team runs it, on this machine, without Docker and without root.

PostgreSQL, a Redis, MLflow, Airflow's API server, scheduler, DAG processor and triggerer, and Celery workers: all of
them processes on the loopback interface, in one folder. Passwords and keys are made once, and kept there for its owner.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg2
from celery import Celery
from cryptography.fernet import Fernet
from rich.console import Console

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.local.demo import Workspace
from ml_pipelines_airflow.local.processes import ProcessGroup, find_free_port
from ml_pipelines_airflow.local.servers import run_postgres, run_redis

__all__ = ["QUEUES", "main", "run_stack", "start_mlflow"]

QUEUES = ("default", "training")
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
HEALTHY = {"metadatabase", "scheduler", "dag_processor", "triggerer"}
# A message that is not acknowledged for so long is delivered again: above the longest step there is.
VISIBILITY_SECONDS = 24 * 3600

out = Console(highlight=False)


@contextlib.contextmanager
def run_stack(
    root: Path,
    environment: Mapping[str, str],
    *,
    port: int,
    workers: int = 2,
    durable: bool = True,
    data: Path | None = None,
    grace_seconds: float = 30,
    tell: Callable[[str], None] = lambda what: None,
) -> Iterator[ProcessGroup]:
    """Run the whole stack: everything answers when the block begins, and is gone when it ends.

    Args:
        root: where it lives; the same folder again goes on with what is there.
        environment: variables of all processes: the DAG bundles, the store, whatever the DAGs need. What belongs to the
            stack is added where it is not given.
        port: of Airflow's API and pages.
        workers: how many Celery workers, of two tasks each.
        durable: whether the databases survive a power cut.
        data: where PostgreSQL keeps its data, if not in `root`.
        grace_seconds: that tasks have to end when the stack is stopped.
        tell: is told what is there.

    Raises:
        PipelineError: something does not start.
    """
    root.mkdir(parents=True, exist_ok=True)
    keys = _keys(root / "secrets.json")
    with contextlib.ExitStack() as servers:
        database = servers.enter_context(
            run_postgres(data or root / "postgres", port=find_free_port(), password=keys["postgres"], durable=durable)
        )
        tell("PostgreSQL")
        broker = servers.enter_context(run_redis(root / "redis", port=find_free_port(), password=keys["redis"]))
        tell("Redis")
        own = _settings(root, keys, database=database, broker=broker, port=port)
        stack = ProcessGroup(root, {**own, **environment})
        try:
            _start(stack, database, [f"worker-{number + 1}" for number in range(workers)], tell)
            yield stack
        finally:
            stack.stop(grace_seconds)


def _start(stack: ProcessGroup, database: str, workers: list[str], tell: Callable[[str], None]) -> None:
    # The workers ask the database nothing that has to be there: they get ready meanwhile.
    for worker in workers:
        _start_worker(stack, worker)
    mlflow = stack.environment["MLFLOW_TRACKING_URI"]
    for name in ("ledger", "mlflow"):
        _make_database(database, name)
    start_mlflow(stack)
    stack.start("db-migrate", "airflow", "db", "migrate")
    stack.finish("db-migrate")
    tell("Airflow's database")
    for name in COMPONENTS:
        stack.start(name, "airflow", name)
    stack.until("MLflow", lambda: _answer(f"{mlflow}/health") is not None)
    tell("MLflow")
    stack.until("health", lambda: _is_healthy(stack.environment["AIRFLOW__API__BASE_URL"]))
    tell("Airflow")
    stack.until("workers", lambda: _answering(stack.environment["AIRFLOW__CELERY__BROKER_URL"]) >= len(workers))
    tell(f"{len(workers)} workers of the queues {' and '.join(QUEUES)}")


def start_mlflow(stack: ProcessGroup) -> None:
    """Start the stack's MLflow, on what it has left if it was there before."""
    database, mlflow = (
        stack.environment[name] for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "MLFLOW_TRACKING_URI")
    )
    stack.start(
        "mlflow",
        *("mlflow", "server", "--host", "127.0.0.1", "--port", mlflow.rpartition(":")[2], "--workers", "1"),
        *("--artifacts-destination", str(stack.root / "mlflow-artifacts")),
        # By its environment: arguments are for everyone to see.
        MLFLOW_BACKEND_STORE_URI=_beside(database, "mlflow"),
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )


def _start_worker(stack: ProcessGroup, name: str) -> None:
    """Start a Celery worker of all queues."""
    stack.start(
        name,
        *("airflow", "celery", "worker", "--celery-hostname", f"{name}@%h", "--queues", ",".join(QUEUES)),
        *("--pid", str(stack.root / f"{name}.pid"), "--skip-serve-logs"),  # the logs are in one folder for all
    )


def _settings(root: Path, keys: Mapping[str, str], *, database: str, broker: str, port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}"
    passwords = root / "passwords.json"
    _write_secret(passwords, {"admin": keys["admin"]})
    return {
        "AIRFLOW_HOME": str(root / "home"),
        "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt"],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": keys["api"],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS),
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": json.dumps(
            {"imports": ["ml_pipelines_airflow.execution.celery_preload"]}
        ),
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__CELERY__TASK_ACKS_LATE": "True",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(find_free_port()),
        "AIRFLOW__ML_PIPELINES__DOCTOR_QUEUES": ",".join(QUEUES),
        # What a scheduler that has died was watching over is taken over by the next one a minute later, and not five.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # So long a worker may keep a place for a task that has ended: it looks when it would send a heartbeat.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "30",  # half a minute without an API server ends no task
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{_kept_port(root / 'mlflow.port')}",
        "ML_PIPELINES_LEDGER": _beside(database, "ledger"),
    }


def _kept_port(file: Path) -> int:
    """The same port at every start: addresses of runs in MLflow are kept, and whether a model was logged there."""
    if not file.exists():
        file.write_text(str(find_free_port()))
    return int(file.read_text())


def _keys(file: Path) -> dict[str, str]:
    """The stack's passwords and keys, made at the first call."""
    if not file.exists():
        made = {name: secrets.token_hex(16) for name in ("postgres", "redis", "admin")}
        made |= {"jwt": secrets.token_hex(64), "api": secrets.token_hex(32), "fernet": Fernet.generate_key().decode()}
        _write_secret(file, made)
    return dict(json.loads(file.read_text()))


def _write_secret(file: Path, content: Mapping[str, str]) -> None:
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(json.dumps(content))


def _beside(url: str, name: str) -> str:
    """The address of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{name}"


def _make_database(url: str, name: str) -> None:
    with contextlib.closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select 1 from pg_database where datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f"create database {name}")


def _answer(url: str) -> bytes | None:
    """What an address of the stack answers, None if it does not."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  of the loopback interface
            return bytes(answer.read())
    except (urllib.error.URLError, OSError):
        return None


def _is_healthy(url: str) -> bool:
    answer = _answer(f"{url}/api/v2/monitor/health")
    health = json.loads(answer) if answer else {}
    return {name for name, is_ in health.items() if is_ and is_["status"] == "healthy"} >= HEALTHY


def _answering(broker: str) -> int:
    """How many workers there are."""
    with Celery(broker=broker, set_as_current=False) as app:
        return len(app.control.ping(timeout=2))


def main() -> None:
    """Run the stack on the demo's workspace until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="stack-native", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(".workspace"))
    parser.add_argument("--dags", type=Path, default=Path("dags"))
    parser.add_argument("--port", type=int, default=8080, help="of the UI, on 127.0.0.1")
    parser.add_argument("--workers", type=int, default=2, help="Celery workers, of two tasks each")
    given = parser.parse_args()
    # Also for who starts it in the background, where Ctrl-C is not listened to, and for who ends it from outside.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        _serve(Workspace(given.workspace.resolve(), given.dags.resolve()), given.port, given.workers)
    except PipelineError as error:
        out.print(str(error), style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        out.print("stopped")


def _serve(workspace: Workspace, port: int, workers: int) -> None:
    started = time.monotonic()

    def tell(what: str) -> None:
        out.print(f"  {what:<60} {time.monotonic() - started:6.1f} s")

    workspace.prepare_data(None)
    tell("data in DVC")
    root = workspace.root / "stack"
    theirs = {name: value for name, value in workspace.environment(port).items() if _is_of_workspace(name)}
    # For steps in containers: MLflow listens on this machine only, and the store and the data are in the workspace.
    theirs |= {
        "AIRFLOW__ML_PIPELINES__DOCKER_NETWORK": "host",
        "AIRFLOW__ML_PIPELINES__DOCKER_VOLUMES": f"{workspace.root}:{workspace.root}",
    }
    with run_stack(root, theirs, port=port, workers=workers, tell=tell) as stack:
        url, mlflow = (stack.environment[name] for name in ("AIRFLOW__API__BASE_URL", "MLFLOW_TRACKING_URI"))
        password = _keys(root / "secrets.json")["admin"]
        out.print(f"\n[bold]Airflow is up:[/] {url}   user admin   password {password}", soft_wrap=True)
        out.print(f"MLflow: {mlflow}   logs: {root}/*.log\nStop with Ctrl-C.\n", soft_wrap=True)
        try:
            while True:
                stack.check()
                time.sleep(1)
        except KeyboardInterrupt:
            out.print("stopping; tasks have half a minute to end")
            raise


def _is_of_workspace(name: str) -> bool:
    """Whether a variable of the demo's is also one of the stack's, which has databases of its own."""
    stack = ("AIRFLOW__DAG_PROCESSOR__", "AIRFLOW__ML_PIPELINES__")
    return not name.startswith(("AIRFLOW", "MLFLOW", "ML_PIPELINES_LEDGER")) or name.startswith(stack)


if __name__ == "__main__":
    main()
