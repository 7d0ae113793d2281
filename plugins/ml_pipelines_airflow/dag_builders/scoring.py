"""From the declaration of batch scoring to its DAG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from ml_pipelines.pipeline import batch_parameters as told
from ml_pipelines.pipeline.parameters import Parameters
from ml_pipelines.spec.batch import ScoringSpec
from ml_pipelines.spec.loader import load_scoring
from ml_pipelines_airflow.assets import model_asset, scores_asset
from ml_pipelines_airflow.dag_builders.callbacks import callbacks
from ml_pipelines_airflow.dag_builders.common import arguments, field, new_dag, placement
from ml_pipelines_airflow.tasks import scoring as tasks

__all__ = ["build_scoring_dag", "scoring_dag"]


def scoring_dag(dag_file: str) -> DAG:
    """The DAG that the YAML file beside a DAG file declares: same folder, same name.

    Args:
        dag_file: `__file__` of the DAG file.

    Raises:
        SpecError: with every mistake of the YAML file, its line, and how to mend it.
    """
    return build_scoring_dag(load_scoring(Path(dag_file).with_suffix(".yaml")))


def build_scoring_dag(spec: ScoringSpec) -> DAG:
    """The DAG of a declaration."""
    assets = [model_asset(spec.model.name)] if spec.schedule and spec.schedule.on_champion else []
    with new_dag(spec, callbacks(spec, tasks.scores_headline), document=_document(spec), assets=assets) as dag:
        ingest_batch = _task(spec, "ingest_batch", told.IngestBatchParameters.of(spec), tasks.ingest_batch)
        plan_shards = _task(spec, "plan_shards", told.PlanShardsParameters.of(spec), tasks.plan_shards)
        score_shard = PythonOperator.partial(
            task_id="score_shard",
            python_callable=tasks.score_shard,
            op_kwargs=arguments(spec, "score_shard", told.ScoreShardParameters.of(spec)),
            map_index_template="shard {{ task.op_args[0] }}",
            **placement(spec, "score_shard"),
        ).expand(op_args=plan_shards.output)
        collect_scores = _task(
            spec,
            "collect_scores",
            told.CollectScoresParameters.of(spec),
            tasks.collect_scores,
            # Whatever has become of the shards: it judges whether enough rows have a score.
            trigger_rule="all_done",
            outlets=[scores_asset(spec.name)],
        )
        ingest_batch >> plan_shards >> score_shard >> collect_scores
    dag.params.update(_form())  # last, as in dag.py
    return dag


def _task(spec: ScoringSpec, step: str, parameters: Parameters, call: Any, **options: Any) -> PythonOperator:
    return PythonOperator(
        task_id=step,
        python_callable=call,
        op_kwargs=arguments(spec, step, parameters),
        **placement(spec, step),
        **options,
    )


def _form() -> dict[str, Param]:
    return {
        "data_revision": field(
            None,
            type=["null", "string"],
            title="Data revision",
            description="Branch, tag or commit of the data repository. Empty: the declared one.",
        ),
        "model_version": field(
            None,
            type=["null", "string"],
            title="Model version",
            description="Number of the version to score with, or its alias. Empty: the declared one.",
        ),
        "shard_rows": field(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Shard size",
            description="Rows of a shard. Empty: as declared.",
        ),
        "force": field(
            False,
            type="boolean",
            title="Force",
            description="Compute every step, even where a stored result has the same inputs, parameters and code.",
        ),
    }


def _document(spec: ScoringSpec) -> str:
    version = (
        f"version {spec.model.version}" if spec.model.version else f"the version with the alias {spec.model.alias}"
    )
    return f"""{spec.description}

Scores with **{spec.model.name}**, {version}. At least {spec.min_scored:.1%} of the rows must get a score, or the run
fails and hands nothing on; a shard that failed is named either way.
"""
