"""Build the drift-monitoring DAG of a declaration."""

from __future__ import annotations

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, AssetAlias, Param

from ml_pipelines.spec.batch import DriftSpec
from ml_pipelines.spec.loader import load_drift
from ml_pipelines.spec.task_steps import DRIFT_TASKS
from ml_pipelines_airflow.assets import drift_asset, scores_asset
from ml_pipelines_airflow.dag_builders.callbacks import callbacks
from ml_pipelines_airflow.dag_builders.common import (
    declared_parameters,
    form_field,
    load_declaration,
    new_dag,
    placement,
    task_arguments,
)
from ml_pipelines_airflow.links import operator_links
from ml_pipelines_airflow.tasks import drift as tasks

__all__ = ["build_drift_dag", "drift_dag"]


def drift_dag(dag_file: str) -> DAG:
    """Return the drift DAG of the YAML file with the same folder and name as a DAG file.

    Args:
        dag_file: `__file__` of the DAG file.

    Raises:
        SpecError: the YAML file has mistakes; the error lists each with its line and fix.
    """
    return build_drift_dag(load_declaration(dag_file, load_drift))


def build_drift_dag(spec: DriftSpec) -> DAG:
    """Return the drift DAG of a declaration."""
    assets = [scores_asset(spec.watch)] if spec.schedule and spec.schedule.on_scores else []
    with new_dag(spec, callbacks(spec, tasks.drift_headline), document=_document(spec), assets=assets) as dag:
        steps = DRIFT_TASKS["measure_drift"]
        measure_drift = PythonOperator(
            task_id="measure_drift",
            python_callable=tasks.measure_drift,
            op_kwargs=task_arguments(spec, "measure_drift", declared_parameters(spec, steps)),
            **placement(spec, "measure_drift"),
        )
        measure_drift.operator_extra_links = operator_links(*steps)
        request_training = PythonOperator(
            task_id="request_training",
            python_callable=tasks.request_training,
            op_kwargs={
                "model": spec.model.name,
                "retrain": spec.retrain.model_dump(mode="json") if spec.retrain else None,
            },
            # The inlet gives access to earlier requests. The outlet is an alias, because an outlet that is an asset
            # would get an event from every successful run.
            inlets=[drift_asset(spec.model.name)],
            outlets=[AssetAlias(f"{spec.name}.drift")],
        )
        measure_drift >> request_training
    dag.params.update(_form())  # last, as in training.py
    return dag


def _form() -> dict[str, Param]:
    return {
        "model_version": form_field(
            None,
            type=["null", "string"],
            title="Model version",
            description="Number or alias of the version whose training data is the reference. Empty: as declared.",
        ),
        "force": form_field(
            False, type="boolean", title="Force", description="Measure again, even if the store has the result."
        ),
    }


def _document(spec: DriftSpec) -> str:
    retrain = (
        f"Drift of {spec.retrain.on} requests a training, at most one per {spec.retrain.cooldown}."
        if spec.retrain
        else "Drift does not request a training."
    )
    return f"""{spec.description}

Compares the batch that **{spec.watch}** scored last with the training data of **{spec.model.name}**. {retrain}
"""
