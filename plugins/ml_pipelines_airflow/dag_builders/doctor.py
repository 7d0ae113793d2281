"""Build the DAG `ml_doctor`, which checks a worker of every queue and the store that they share.

A worker with a store of its own, such as a folder that is not shared, reads everything that it writes. Each worker
therefore reads a probe that another worker has written.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow.config import option
from ml_pipelines_airflow.dag_builders.common import START

__all__ = ["doctor_dag", "examine_worker", "read_all_probes", "write_first_probe"]

log = logging.getLogger(__name__)

PROBE = "probe"
"""XCom key of the probes."""
_DOCUMENT = """Checks a worker of every queue in `[ml_pipelines] doctor_queues`: packages, git, MLflow and the store.
Each worker also reads a probe that another worker has written into the store.
"""


def doctor_dag() -> DAG:
    """Return the DAG, which has no schedule and one task per queue of `[ml_pipelines] doctor_queues`."""
    queues = [name.strip() for name in option("doctor_queues").split(",") if name.strip()]
    queues = queues or [str(conf.get("operators", "default_queue"))]
    with DAG(
        dag_id="ml_doctor",
        description="Check a worker of every queue.",
        doc_md=_DOCUMENT,
        schedule=None,
        start_date=START,
        catchup=False,
        default_args={"retries": 0},
        tags={"ml-pipelines"},
    ) as dag:
        write_probe = PythonOperator(task_id="write_probe", python_callable=write_first_probe, queue=queues[0])
        checks = [
            PythonOperator(task_id=f"examine_{_identifier(queue)}", python_callable=examine_worker, queue=queue)
            for queue in queues
        ]
        read_probes = PythonOperator(
            task_id="read_probes",
            python_callable=read_all_probes,
            op_kwargs={"task_ids": [task.task_id for task in checks]},
            queue=queues[0],
        )
        write_probe >> checks >> read_probes
    return dag


def write_first_probe(*, ti: Any) -> None:
    """Write a probe into the store for the workers of all queues."""
    ti.xcom_push(key=PROBE, value=_put_probe(ti))


def examine_worker(*, ti: Any) -> None:
    """Check the packages and systems that this worker needs, read the first probe and write another.

    Raises:
        RequestError: a check failed.
        ArtifactMissing: this worker uses another store than the worker that wrote the first probe.
    """
    from ml_pipelines.errors import RequestError
    from ml_pipelines.services.diagnostics import run_diagnostics
    from ml_pipelines_airflow.connections import airflow_settings

    diagnostics = run_diagnostics(airflow_settings())
    for diagnostic in diagnostics:
        log.info("%s %s: %s", "ok  " if diagnostic.ok else "FAIL", diagnostic.what, diagnostic.detail)
    if failed := [diagnostic for diagnostic in diagnostics if not diagnostic.ok]:
        raise RequestError(
            f"this worker fails the checks: {', '.join(diagnostic.what for diagnostic in failed)}",
            where=f"host {socket.gethostname()}",
            got="; ".join(diagnostic.detail for diagnostic in failed),
            fix="correct the cause of each failed check on the workers of this queue",
        )
    _read_probe(ti, "write_probe")
    ti.xcom_push(key=PROBE, value=_put_probe(ti))


def read_all_probes(*, ti: Any, task_ids: Sequence[str]) -> None:
    """Read the probes of the workers of all queues.

    Raises:
        ArtifactMissing: one of the workers writes into another store.
    """
    for task_id in task_ids:
        _read_probe(ti, task_id)


def _identifier(queue: str) -> str:
    return re.sub("[^a-zA-Z0-9_-]", "_", queue)


def _put_probe(ti: Any) -> dict[str, Any]:
    from ml_pipelines.store.artifact_store import ArtifactStore
    from ml_pipelines_airflow.connections import store_uri

    # Unique per task and run: the probe of an earlier run would hide a store that is not shared any more.
    content = f"{socket.gethostname()} {ti.run_id} {ti.task_id} {datetime.now(UTC)}"
    ref = ArtifactStore(store_uri()).put_bytes(content.encode(), kind="html")
    log.info("%s wrote %s", socket.gethostname(), ref.uri)
    return ref.model_dump(mode="json")


def _read_probe(ti: Any, task_id: str) -> None:
    from ml_pipelines.contracts import ArtifactRef
    from ml_pipelines.store.artifact_store import ArtifactStore
    from ml_pipelines_airflow.connections import store_uri

    ref = ArtifactRef.model_validate(ti.xcom_pull(task_ids=task_id, key=PROBE))
    writer, _, _ = ArtifactStore(store_uri()).read(ref).decode().partition(" ")
    log.info("%s read the probe of %s: %s", socket.gethostname(), writer, ref.uri)
