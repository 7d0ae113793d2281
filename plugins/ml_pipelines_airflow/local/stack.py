"""`make stack-native`: Airflow on Celery with its servers on this machine, without Docker and root.

PostgreSQL, Redis, MLflow, the components of Airflow and Celery workers run as processes on the loopback interface. All
data is in one folder. Passwords and keys are generated once; only the owner of the folder can read them.
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
from ml_pipelines_airflow.local.postgres_and_redis import run_postgres, run_redis
from ml_pipelines_airflow.local.process_groups import ProcessGroup, find_free_port

__all__ = ["QUEUES", "main", "run_stack", "start_mlflow"]

QUEUES = ("default", "training")
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
HEALTHY = {"metadatabase", "scheduler", "dag_processor", "triggerer"}
# An unacknowledged message is delivered again after this time: it exceeds the longest step.
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
    report: Callable[[str], None] = lambda message: None,
) -> Iterator[ProcessGroup]:
    """Run the stack. All servers answer when the block begins, and are stopped when it ends.

    Args:
        root: folder of the stack; an existing folder keeps its data.
        environment: variables of all processes, such as DAG bundles and the store. They override those of the stack.
        port: port of Airflow's API and UI.
        workers: number of Celery workers with two slots each.
        durable: whether the databases survive a power failure.
        data: folder of PostgreSQL's data; default: in `root`.
        grace_seconds: time that tasks have to end when the stack stops.
        report: called with a message when a part of the stack is ready.

    Raises:
        PipelineError: a server does not start.
    """
    root.mkdir(parents=True, exist_ok=True)
    keys = _keys(root / "secrets.json")
    with contextlib.ExitStack() as servers:
        database = servers.enter_context(
            run_postgres(data or root / "postgres", port=find_free_port(), password=keys["postgres"], durable=durable)
        )
        report("PostgreSQL")
        broker = servers.enter_context(run_redis(root / "redis", port=find_free_port(), password=keys["redis"]))
        report("Redis")
        own = _settings(root, keys, database=database, broker=broker, port=port)
        stack = ProcessGroup(root, {**own, **environment})
        try:
            _start(stack, database, [f"worker-{number + 1}" for number in range(workers)], report)
            yield stack
        finally:
            stack.stop(grace_seconds)


def _start(stack: ProcessGroup, database: str, workers: list[str], report: Callable[[str], None]) -> None:
    # Workers start slowly and need no database at first, so they start before the migration.
    for worker in workers:
        _start_worker(stack, worker)
    mlflow = stack.environment["MLFLOW_TRACKING_URI"]
    for name in ("celery", "ledger", "mlflow"):
        _create_database(database, name)
    start_mlflow(stack)
    stack.start("db-migrate", "airflow", "db", "migrate")
    stack.finish("db-migrate")
    report("Airflow's database")
    for name in COMPONENTS:
        stack.start(name, "airflow", name)
    stack.until("MLflow", lambda: _response(f"{mlflow}/health") is not None)
    report("MLflow")
    stack.until("health", lambda: _is_healthy(stack.environment["AIRFLOW__API__BASE_URL"]))
    report("Airflow")
    stack.until("workers", lambda: _worker_count(stack.environment["AIRFLOW__CELERY__BROKER_URL"]) >= len(workers))
    report(f"{len(workers)} workers of the queues {' and '.join(QUEUES)}")


def start_mlflow(stack: ProcessGroup) -> None:
    """Start the MLflow server of the stack on its existing data, if any."""
    database, mlflow = (
        stack.environment[name] for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "MLFLOW_TRACKING_URI")
    )
    stack.start(
        "mlflow",
        *("mlflow", "server", "--host", "127.0.0.1", "--port", mlflow.rpartition(":")[2], "--workers", "1"),
        *("--artifacts-destination", str(stack.root / "mlflow-artifacts")),
        # In the environment, because other processes can read arguments.
        MLFLOW_BACKEND_STORE_URI=_sibling_database(database, "mlflow"),
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )


def _start_worker(stack: ProcessGroup, name: str) -> None:
    """Start a Celery worker that serves all queues, without the keys and the database that only servers need."""
    stack.start(
        name,
        *("airflow", "celery", "worker", "--celery-hostname", f"{name}@%h", "--queues", ",".join(QUEUES)),
        *("--pid", str(stack.root / f"{name}.pid"), "--skip-serve-logs"),  # all processes share one folder of logs
        AIRFLOW__API_AUTH__JWT_SECRET="",
        AIRFLOW__CORE__FERNET_KEY="",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{stack.root}/no-database-of-{name}.db",
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
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{_sibling_database(database, 'celery')}",
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
        # A new scheduler adopts the tasks of a dead one after one minute instead of five.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        # A worker frees the slot of an ended task at its next heartbeat.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "30",  # tasks survive 30 seconds without an API server
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{_kept_port(root / 'mlflow.port')}",
        "ML_PIPELINES_LEDGER": _sibling_database(database, "ledger"),
    }


def _kept_port(file: Path) -> int:
    """Return the same port at each start, because MLflow's URLs are stored in runs."""
    if not file.exists():
        file.write_text(str(find_free_port()))
    return int(file.read_text())


def _keys(file: Path) -> dict[str, str]:
    """Return the passwords and keys of the stack; the first call generates them."""
    if not file.exists():
        keys = {name: secrets.token_hex(16) for name in ("postgres", "redis", "admin")}
        keys |= {"jwt": secrets.token_hex(64), "api": secrets.token_hex(32), "fernet": Fernet.generate_key().decode()}
        _write_secret(file, keys)
    return dict(json.loads(file.read_text()))


def _write_secret(file: Path, content: Mapping[str, str]) -> None:
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(json.dumps(content))


def _sibling_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{name}"


def _create_database(url: str, name: str) -> None:
    with contextlib.closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select 1 from pg_database where datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f"create database {name}")


def _response(url: str) -> bytes | None:
    """Return the response of a URL; None if the request fails."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  loopback interface
            return bytes(response.read())
    except (urllib.error.URLError, OSError):
        return None


def _is_healthy(url: str) -> bool:
    body = _response(f"{url}/api/v2/monitor/health")
    health = json.loads(body) if body else {}
    return {name for name, state in health.items() if state and state["status"] == "healthy"} >= HEALTHY


def _worker_count(broker: str) -> int:
    """Return the number of workers that answer."""
    with Celery(broker=broker, set_as_current=False) as app:
        return len(app.control.ping(timeout=2))


def main() -> None:
    """Run the stack on the demo's workspace until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="stack-native", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(".workspace"))
    parser.add_argument("--dags", type=Path, default=Path("dags"))
    parser.add_argument("--port", type=int, default=8080, help="port of the UI on 127.0.0.1")
    parser.add_argument("--workers", type=int, default=2, help="number of Celery workers with two slots each")
    arguments = parser.parse_args()
    # A shell ignores Ctrl-C for background processes; SIGTERM must also stop all servers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        _serve(Workspace(arguments.workspace.resolve(), arguments.dags.resolve()), arguments.port, arguments.workers)
    except PipelineError as error:
        out.print(str(error), style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        out.print("stopped")


def _serve(workspace: Workspace, port: int, workers: int) -> None:
    started = time.monotonic()

    def report(message: str) -> None:
        out.print(f"  {message:<60} {time.monotonic() - started:6.1f} s")

    workspace.prepare_data(None)
    report("data in DVC")
    root = workspace.root / "stack"
    environment = {name: value for name, value in workspace.environment(port).items() if _is_of_workspace(name)}
    # Step containers need the host's network for MLflow, and the workspace for the store and the data.
    environment |= {
        "AIRFLOW__ML_PIPELINES__DOCKER_NETWORK": "host",
        "AIRFLOW__ML_PIPELINES__DOCKER_VOLUMES": f"{workspace.root}:{workspace.root}",
    }
    with run_stack(root, environment, port=port, workers=workers, report=report) as stack:
        url, mlflow = (stack.environment[name] for name in ("AIRFLOW__API__BASE_URL", "MLFLOW_TRACKING_URI"))
        password = _keys(root / "secrets.json")["admin"]
        out.print(f"\n[bold]Airflow is up:[/] {url}   user admin   password {password}", soft_wrap=True)
        out.print(f"MLflow: {mlflow}   logs: {root}/*.log\nStop with Ctrl-C.\n", soft_wrap=True)
        try:
            while True:
                stack.check()
                time.sleep(1)
        except KeyboardInterrupt:
            out.print("stopping; tasks have 30 s to end")
            raise


def _is_of_workspace(name: str) -> bool:
    """Return whether a variable of the demo also applies to the stack, which has its own databases."""
    stack = ("AIRFLOW__DAG_PROCESSOR__", "AIRFLOW__ML_PIPELINES__")
    return not name.startswith(("AIRFLOW", "MLFLOW", "ML_PIPELINES_LEDGER")) or name.startswith(stack)


if __name__ == "__main__":
    main()
