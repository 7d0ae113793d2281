"""Faults of components during runs: the runs succeed after at most one retry, and nothing is lost or duplicated."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator

import pytest
from tests.integration.airflow.server import run_id_of
from tests.system.pipelines import GATE, GATED, gated_step
from tests.system.stack import Stack

from ml_pipelines.spec.task_steps import task_of

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

TRAIN = "train_model[0]"


@pytest.fixture(autouse=True)
def _started(stack: Stack) -> Iterator[None]:
    # A test that failed must not leave paused or stopped containers or a full store to the next one.
    yield
    (keeper,) = stack.containers("keeper")
    stack.docker("exec", keeper, "rm", "--force", "/artifacts/filler")
    if paused := stack.compose("ps", "--quiet", "--status", "paused").split():
        stack.docker("unpause", *paused)
    (initial,) = stack.containers("airflow-init")
    if stopped := set(stack.compose("ps", "--all", "--quiet", "--status", "exited").split()) - {initial}:
        stack.docker("start", *stopped)


def test_kill_of_worker_and_scheduler_during_a_training(stack: Stack) -> None:
    run = stack.trigger("killed")
    worker = stack.until_state(run, TRAIN, "running")["hostname"]
    stack.kill(worker)
    stack.kill(stack.containers("airflow-scheduler")[0])
    assert stack.end_of(run) == "success"
    assert stack.tasks(run)[TRAIN]["try_number"] == 2
    stack.assert_whole(run, model="killed", trained=1)


def test_loss_of_redis_data_and_restart_of_postgres(stack: Stack) -> None:
    # One run trains while the message of another is lost. Later PostgreSQL restarts during `evaluate_model`.
    training = stack.trigger("emptied")
    stack.until_state(training, TRAIN, "running")
    workers = stack.containers("airflow-worker")
    stack.docker("pause", *workers)
    # Close the connections of the paused workers, which would receive the message.
    stack.redis("CLIENT", "KILL", "TYPE", "normal")
    waiting = stack.trigger("waiting")
    stack.until_state(waiting, "ingest_data", "queued")
    stack.until("message", lambda: stack.redis("LLEN", "default") == ["1"])
    stack.compose("rm", "--stop", "--force", "redis")
    stack.docker("volume", "rm", f"{stack.environment['COMPOSE_PROJECT_NAME']}_redis")
    stack.compose("up", "--detach", "--no-deps", "--wait", "redis")
    assert stack.redis("LLEN", "default") == ["0"]
    stack.docker("unpause", *workers)
    stack.until_state(training, "evaluate_model", "running")
    stack.compose("restart", "postgres")
    assert [stack.end_of(run) for run in (training, waiting)] == ["success", "success"]
    ledger = stack.ledger()
    stack.assert_whole(training, model="emptied", trained=1, ledger=ledger)
    stack.assert_whole(waiting, model="waiting", trained=2, ledger=ledger)
    assert stack.tasks(training)[TRAIN]["try_number"] == 1


def test_outage_of_mlflow_at_training_and_registration(stack: Stack) -> None:
    runs = {name: stack.trigger(name) for name in GATED}
    tasks = {name: task_of(gated_step(name)) + ("[0]" if gated_step(name) == "train" else "") for name in GATED}
    for name, run in runs.items():
        stack.until_state(run, tasks[name], "scheduled")
    stack.compose("stop", "mlflow")
    stack.slots(GATE, 8)
    for name, run in runs.items():
        stack.until_state(run, tasks[name], "up_for_retry")
    stack.compose("start", "mlflow")
    for name, run in runs.items():
        assert "MLflow does not answer, or has an internal error" in stack.log_of(run, tasks[name], 1)
        assert stack.end_of(run) == "success"
        assert stack.tasks(run)[tasks[name]]["try_number"] == 2
    ledger = stack.ledger()
    for name, run in runs.items():
        stack.assert_whole(run, model=name, trained=2, ledger=ledger)


def test_stop_of_a_worker_during_a_training_with_a_redelivered_message(stack: Stack) -> None:
    # The other worker gets the same message and ignores it. It runs the new tasks until the first worker ends.
    training = stack.trigger("stopped")
    busy = stack.until_state(training, TRAIN, "running")["hostname"]
    queue, message = delivered(stack, training, "train_model")
    stack.redis("LPUSH", queue, message)
    refused = "Task already running elsewhere, ignoring redelivered message"
    stack.until("second delivery", lambda: refused in stack.compose("logs", "--no-color", "airflow-worker"))
    stopping = subprocess.Popen(["docker", "stop", busy], env=stack.environment, stdout=subprocess.DEVNULL)
    stack.until("stop", lambda: "Warm shutdown" in stack.compose("logs", "--no-color", "airflow-worker"))
    beside = stack.trigger("beside")
    assert stack.end_of(beside) == "success"
    assert stack.end_of(training) == "success"
    assert stopping.wait(timeout=600) == 0
    assert stack.docker("inspect", "--format", "{{.State.ExitCode}}", busy).strip() == "0"
    # Deliver the message again after the end of its task.
    stack.redis("LPUSH", queue, message)
    refused = "'previous_state': 'success'"
    stack.until("third delivery", lambda: refused in stack.compose("logs", "--no-color", "airflow-worker"))
    stack.docker("start", busy)
    instance = stack.tasks(training)[TRAIN]
    assert (instance["hostname"], instance["try_number"]) == (busy, 1)
    assert busy not in {row["hostname"] for row in stack.tasks(beside).values()}
    ledger = stack.ledger()
    stack.assert_whole(training, model="stopped", trained=1, tries=1, ledger=ledger)
    stack.assert_whole(beside, model="beside", trained=2, tries=1, ledger=ledger)


def test_full_store_costs_one_retry(stack: Stack) -> None:
    run = stack.trigger("full")
    stack.until_state(run, "ingest_data", "success")
    (keeper,) = stack.containers("keeper")
    stack.docker("exec", keeper, "sh", "-c", "dd if=/dev/zero of=/artifacts/filler bs=1M", check=False)
    failed = str(stack.until("task that fails", lambda: in_state(stack, run, "up_for_retry")))
    stack.docker("exec", keeper, "rm", "/artifacts/filler")
    log = stack.log_of(run, failed, 1)
    assert "the store is full" in log
    assert "free space; `ml-pipelines store prune` deletes results that are not needed" in log
    assert stack.end_of(run) == "success"
    stack.assert_whole(run, model="full", trained=2)


def test_kill_of_all_containers_and_start_in_any_order(stack: Stack) -> None:
    # As after a failure of the machine. The training runs in a container, which is killed too and starts again.
    run = stack.trigger("restarted")
    contained = ("ps", "--quiet", "--filter", f"label=ml-pipelines.run={run_id_of(run)}")
    (training,) = stack.until("container of the training", lambda: stack.docker(*contained).split())
    running = stack.compose("ps", "--quiet").split()
    # This container keeps the store, which is in memory.
    running.remove(*stack.containers("keeper"))
    stack.docker("kill", training, *running)
    stack.docker("start", *sorted(running))
    assert stack.end_of(run) == "success"
    assert stack.tasks(run)[TRAIN]["try_number"] == 2
    stack.assert_whole(run, model="restarted", trained=1)


def in_state(stack: Stack, run: str, state: str) -> str | None:
    return next((name for name, row in stack.tasks(run).items() if row["state"] == state), None)


def delivered(stack: Stack, run: str, task: str) -> tuple[str, str]:
    """Return the queue and the message of a task that a worker has not acknowledged."""
    messages = []
    for line in stack.redis("HVALS", "unacked"):
        message, _, queue = json.loads(line)
        body = base64.b64decode(message["body"]).decode()
        if f"run_id={run_id_of(run)}/task_id={task}/" in body:
            messages.append((str(queue), json.dumps(message)))
    (delivery,) = messages
    return delivery
