"""Run scenarios with `dag.test()` in one process and write their results as JSON.

Usage: scenarios.py SCENARIOS.json RESULTS.json, with a list of `{"name", "dag", "conf", "environment", "damage",
"breaks"}`. `damage` is an artifact of an earlier scenario: its scenario, task, step and name. Before the run, other
bytes replace it. `breaks` is `{"model", "how"}`: before the run, all copies of the champion are removed or altered.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select


def main() -> None:
    scenarios = json.loads(Path(sys.argv[1]).read_text())
    bag = DagBag(dag_folder=os.environ["DAGS"])
    assert not bag.import_errors, bag.import_errors
    results: dict[str, dict[str, Any]] = {}
    for scenario in scenarios:
        if "damage" in scenario:
            damage(results[scenario["damage"][0]], *scenario["damage"][1:])
        results[scenario["name"]] = run(bag.dags[scenario["dag"]], scenario)
    events = asset_events()
    document = {"runs": results, "asset_events": events, **mlflow_contents(), "without_airflow": without_airflow()}
    Path(sys.argv[2]).write_text(json.dumps(document))


def run(dag: Any, scenario: dict[str, Any]) -> dict[str, Any]:
    if "breaks" in scenario:
        break_champion(**scenario["breaks"])
    before = dict(os.environ)
    os.environ.update(scenario.get("environment", {}))
    started = time.monotonic()
    print(f"=== {scenario['name']}", flush=True)
    try:
        dag_run = dag.test(run_conf=scenario.get("conf", {}))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {
        "state": str(dag_run.state),
        "run_id": dag_run.run_id,
        "seconds": time.monotonic() - started,
        "tasks": task_instances(dag.dag_id, dag_run.run_id),
        "xcom": xcom(dag.dag_id, dag_run.run_id),
    }


def damage(result: dict[str, Any], task: str, step: str, output: str) -> None:
    """Replace an artifact by other bytes of the same number."""
    ref = json.loads(result["xcom"][task][step])["outputs"][output]
    path = Path(ref["uri"].removeprefix("file://"))
    path.chmod(0o644)
    path.write_bytes(bytes(ref["bytes"]))


def break_champion(model: str, how: str) -> None:
    """Remove every copy of a champion's file, in the store and in MLflow, or change the last byte of each."""
    from mlflow import MlflowClient

    uri = os.environ["MLFLOW_TRACKING_URI"]
    champion = MlflowClient(tracking_uri=uri, registry_uri=uri).get_model_version_by_alias(model, "champion")
    digest = json.loads(champion.tags["ml_pipelines.artifact"])["sha256"]
    root = Path(os.environ["DAGS"]).parent
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix not in (".db", ".log")]
    copies = [path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() == digest]
    assert len(copies) == 2, copies
    for path in copies:
        content = path.read_bytes()
        path.unlink()
        if how == "altered":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def without_airflow() -> dict[str, Any]:
    """Run the pipeline `small` without Airflow, with another store and MLflow database, and return its results."""
    from ml_pipelines.runner.training import run_pipeline
    from ml_pipelines.services.connected import ConnectedServices
    from ml_pipelines.services.settings import Settings
    from ml_pipelines.spec.loader import load_spec

    folder = Path(os.environ["DAGS"]).parent / "elsewhere"
    folder.mkdir()
    settings = Settings(
        store=f"file://{folder}/store",
        ledger=f"sqlite:///{folder}/ledger.db",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        environment=os.environ,
    )
    results = run_pipeline(
        load_spec(str(Path(os.environ["DAGS"], "small.yaml"))),
        ConnectedServices(settings),
        store=settings.store,
        run_id="without-airflow",
    )
    steps = {
        step: [row.model_dump(mode="json") for row in (result if isinstance(result, list) else [result])]
        for step, result in results.items()
        if result is not None
    }
    entry = ConnectedServices(settings).ledger.entry("small", "without-airflow")
    assert entry is not None
    return {"steps": steps, "decision": entry.decision.model_dump(mode="json")}


def label(row: Any) -> str:
    return f"{row.task_id}[{row.map_index}]" if row.map_index >= 0 else str(row.task_id)


def task_instances(dag_id: str, run_id: str) -> dict[str, Any]:
    with create_session() as session:
        rows = session.scalars(select(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id))
        return {
            label(row): {"state": str(row.state), "tries": row.try_number, "shown": row.rendered_map_index}
            for row in rows
        }


def xcom(dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the text of every XCom in the database by task and key."""
    texts: dict[str, dict[str, Any]] = {}
    with create_session() as session:
        for row in session.scalars(select(XComModel).filter_by(dag_id=dag_id, run_id=run_id)):
            text = row.value if isinstance(row.value, str) else json.dumps(row.value)
            texts.setdefault(label(row), {})[row.key] = text
    return texts


def asset_events() -> list[dict[str, Any]]:
    with create_session() as session:
        rows = session.execute(
            select(AssetModel.name, AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        )
        return [
            {"asset": name, "dag": event.source_dag_id, "run_id": event.source_run_id, "extra": event.extra}
            for name, event in rows
        ]


def mlflow_contents() -> dict[str, Any]:
    from mlflow import MlflowClient

    uri = os.environ["MLFLOW_TRACKING_URI"]
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    runs = [
        {"experiment": experiment.name, "tags": run.data.tags, "metrics": run.data.metrics, "status": run.info.status}
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
    ]
    models = {
        model.name: {
            "aliases": client.get_registered_model(model.name).aliases,
            "versions": len(client.search_model_versions(f"name = '{model.name}'")),
        }
        for model in client.search_registered_models()
    }
    return {"mlflow_runs": runs, "models": models}


if __name__ == "__main__":
    main()
