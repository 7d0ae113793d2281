"""From the declaration of a watch over drift to its DAG."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, AssetAlias, Param

from ml_pipelines.pipeline.batch_parameters import MeasureDriftParameters
from ml_pipelines.spec.batch import DriftSpec
from ml_pipelines.spec.loader import load_drift
from ml_pipelines_airflow.assets import drift_asset, scores_asset
from ml_pipelines_airflow.dag_builders.callbacks import callbacks
from ml_pipelines_airflow.dag_builders.common import arguments, field, new_dag, placement
from ml_pipelines_airflow.links import operator_links
from ml_pipelines_airflow.tasks import drift as tasks

__all__ = ["build_drift_dag", "drift_dag"]


def drift_dag(dag_file: str) -> DAG:
    """The DAG that the YAML file beside a DAG file declares: same folder, same name.

    Args:
        dag_file: `__file__` of the DAG file.

    Raises:
        SpecError: with every mistake of the YAML file, its line, and how to mend it.
    """
    return build_drift_dag(load_drift(Path(dag_file).with_suffix(".yaml")))


def build_drift_dag(spec: DriftSpec) -> DAG:
    """The DAG of a declaration."""
    assets = [scores_asset(spec.watch)] if spec.schedule and spec.schedule.on_scores else []
    with new_dag(spec, callbacks(spec, tasks.drift_headline), document=_document(spec), assets=assets) as dag:
        measure_drift = PythonOperator(
            task_id="measure_drift",
            python_callable=tasks.measure_drift,
            op_kwargs=arguments(spec, "measure_drift", MeasureDriftParameters.of(spec)),
            **placement(spec, "measure_drift"),
        )
        measure_drift.operator_extra_links = operator_links("measure_drift")
        request_training = PythonOperator(
            task_id="request_training",
            python_callable=tasks.request_training,
            op_kwargs={
                "model": spec.model.name,
                "retrain": spec.retrain.model_dump(mode="json") if spec.retrain else None,
            },
            # What was called for before is read from the events of the asset; an alias has an event only if told so.
            inlets=[drift_asset(spec.model.name)],
            outlets=[AssetAlias(f"{spec.name}.drift")],
        )
        measure_drift >> request_training
    dag.params.update(_form())  # last, as in dag.py
    return dag


def _form() -> dict[str, Param]:
    return {
        "model_version": field(
            None,
            type=["null", "string"],
            title="Model version",
            description="Number or alias of the version whose training is compared with. Empty: the declared one.",
        ),
        "force": field(False, type="boolean", title="Force", description="Measure again what was measured before."),
    }


def _document(spec: DriftSpec) -> str:
    calls = (
        f"Drift of {spec.retrain.on} calls for a training, once within {spec.retrain.cooldown}."
        if spec.retrain
        else "It calls for no training."
    )
    return f"""{spec.description}

Compares the last batch that **{spec.watch}** has scored with what **{spec.model.name}** has learned from. {calls}
"""
