"""Build the batch-scoring DAG of a declaration."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from ml_pipelines.spec.batch import ScoringSpec
from ml_pipelines.spec.loader import load_scoring
from ml_pipelines.spec.task_steps import SCORING_TASKS
from ml_pipelines_airflow.assets import model_asset, scores_asset
from ml_pipelines_airflow.dag_builders.callbacks import callbacks
from ml_pipelines_airflow.dag_builders.common import (
    declared_parameters,
    form_field,
    load_declaration,
    new_dag,
    placement,
    task_arguments,
)
from ml_pipelines_airflow.tasks import scoring as tasks

__all__ = ["build_scoring_dag", "scoring_dag"]


def scoring_dag(dag_file: str) -> DAG:
    """Return the scoring DAG of the YAML file with the same folder and name as a DAG file.

    Args:
        dag_file: `__file__` of the DAG file.

    Raises:
        SpecError: the YAML file has mistakes; the error lists each with its line and fix.
    """
    return build_scoring_dag(load_declaration(dag_file, load_scoring))


def build_scoring_dag(spec: ScoringSpec) -> DAG:
    """Return the scoring DAG of a declaration."""
    assets = [model_asset(spec.model.name)] if spec.schedule and spec.schedule.on_champion else []
    with new_dag(spec, callbacks(spec, tasks.scores_headline), document=_document(spec), assets=assets) as dag:
        ingest_batch = PythonOperator(**_arguments(spec, "ingest_batch", tasks.ingest_batch))
        plan_shards = PythonOperator(**_arguments(spec, "plan_shards", tasks.plan_shards))
        score_shard = PythonOperator.partial(
            **_arguments(spec, "score_shard", tasks.score_shard), map_index_template="shard {{ task.op_args[0] }}"
        ).expand(op_args=plan_shards.output)
        collect_scores = PythonOperator(
            **_arguments(spec, "collect_scores", tasks.collect_scores),
            # Runs also after failed shards, and fails only if too few rows have a score.
            trigger_rule="all_done",
            outlets=[scores_asset(spec.name)],
        )
        ingest_batch >> plan_shards >> score_shard >> collect_scores
    dag.params.update(_form())  # last, as in training.py
    return dag


def _arguments(spec: ScoringSpec, task_id: str, python_callable: Any) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "python_callable": python_callable,
        "op_kwargs": task_arguments(spec, task_id, declared_parameters(spec, SCORING_TASKS[task_id])),
        **placement(spec, task_id),
    }


def _form() -> dict[str, Param]:
    return {
        "data_revision": form_field(
            None,
            type=["null", "string"],
            title="Data revision",
            description="Branch, tag or commit of the data repository. Empty: the declared revision.",
        ),
        "model_version": form_field(
            None,
            type=["null", "string"],
            title="Model version",
            description="Number or alias of the version to score with. Empty: the declared version.",
        ),
        "shard_rows": form_field(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Shard size",
            description="Rows per shard. Empty: the declared size.",
        ),
        "force": form_field(
            False,
            type="boolean",
            title="Force",
            description="Compute every step, even if the store has a result for the same inputs, parameters and code.",
        ),
    }


def _document(spec: ScoringSpec) -> str:
    version = (
        f"version {spec.model.version}" if spec.model.version else f"the version with the alias {spec.model.alias}"
    )
    return f"""{spec.description}

Scores with **{spec.model.name}**, {version}. The run fails and publishes no scores if fewer than
{spec.min_scored:.1%} of the rows have a score. The log names each failed shard.
"""
