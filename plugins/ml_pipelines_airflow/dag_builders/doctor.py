"""The DAG `ml_doctor`: can a worker of every queue do the work, and do all of them see the same store?

A store in a folder that a worker does not share looks well from there: what it writes, it can read. So each worker
reads what another one has written.
"""

from __future__ import annotations

import logging
import re
import socket
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow.config import option

__all__ = ["doctor_dag"]

log = logging.getLogger(__name__)

PROBE = "probe"
_DOCUMENT = """Can a worker of every queue do the work? One task a queue looks for packages, git, MLflow and the store,
and reads there what a worker of another queue has written. The queues are those of `[ml_pipelines] doctor_queues`.
"""


def doctor_dag() -> DAG:
    """The DAG, with a task for each queue of `[ml_pipelines] doctor_queues`; it runs when it is triggered."""
    queues = [each.strip() for each in option("doctor_queues").split(",") if each.strip()]
    queues = queues or [str(conf.get("operators", "default_queue"))]
    with DAG(
        dag_id="ml_doctor",
        description="Can a worker of every queue do the work?",
        doc_md=_DOCUMENT,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        default_args={"retries": 0},
        tags={"ml-pipelines"},
    ) as dag:
        write_probe = PythonOperator(task_id="write_probe", python_callable=leave, queue=queues[0])
        each = [
            PythonOperator(task_id=f"examine_{re.sub('[^a-zA-Z0-9_-]', '_', queue)}", python_callable=look, queue=queue)
            for queue in queues
        ]
        read_probes = PythonOperator(
            task_id="read_probes",
            python_callable=gather,
            op_kwargs={"task_ids": [task.task_id for task in each]},
            queue=queues[0],
        )
        write_probe >> each >> read_probes
    return dag


def leave(*, ti: Any) -> None:
    """Write something into the store, for the workers of all queues to read."""
    ti.xcom_push(key=PROBE, value=_probe(ti))


def look(*, ti: Any) -> None:
    """Look at everything that this worker needs.

    Raises:
        ArtifactMissing: it has another store than the worker that wrote the probe.
        RequestError: something else is not well.
    """
    from ml_pipelines.errors import RequestError
    from ml_pipelines.services.diagnostics import run_diagnostics
    from ml_pipelines_airflow.connections import airflow_settings

    findings = run_diagnostics(airflow_settings())
    for finding in findings:
        log.info("%s %s: %s", "ok  " if finding.ok else "FAIL", finding.what, finding.detail)
    if wrong := [finding for finding in findings if not finding.ok]:
        raise RequestError(
            f"this worker can't do the work: {', '.join(finding.what for finding in wrong)}",
            where=f"host {socket.gethostname()}",
            got="; ".join(finding.detail for finding in wrong),
            fix="mend each of them on the workers of this queue",
        )
    _read(ti, "write_probe")
    ti.xcom_push(key=PROBE, value=_probe(ti))


def gather(*, ti: Any, task_ids: list[str]) -> None:
    """Read what the workers of all queues have written.

    Raises:
        ArtifactMissing: one of them writes into another store.
    """
    for task_id in task_ids:
        _read(ti, task_id)


def _probe(ti: Any) -> dict[str, Any]:
    from ml_pipelines.store.artifact_store import ArtifactStore
    from ml_pipelines_airflow.connections import store_uri

    # Different for each task and run: a probe of an earlier run must not pass for it.
    content = f"{socket.gethostname()} {ti.run_id} {ti.task_id} {datetime.now(UTC)}"
    ref = ArtifactStore(store_uri()).put_bytes(content.encode(), kind="html")
    log.info("%s wrote %s", socket.gethostname(), ref.uri)
    return ref.model_dump(mode="json")


def _read(ti: Any, task_id: str) -> None:
    from ml_pipelines.contracts import ArtifactRef
    from ml_pipelines.store.artifact_store import ArtifactStore
    from ml_pipelines_airflow.connections import store_uri

    ref = ArtifactRef.model_validate(ti.xcom_pull(task_ids=task_id, key=PROBE))
    who = ArtifactStore(store_uri()).read(ref).decode().partition(" ")[0]
    log.info("%s read what %s has written: %s", socket.gethostname(), who, ref.uri)
