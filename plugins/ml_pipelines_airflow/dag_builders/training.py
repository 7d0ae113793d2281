"""From a declaration to a DAG. This file alone knows the wiring; it reads like the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetWatcher,
    Param,
)

from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline import parameters as told
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.assets import dataset_asset, drift_asset, model_asset, revision_asset
from ml_pipelines_airflow.dag_builders.callbacks import callbacks
from ml_pipelines_airflow.dag_builders.common import arguments, field, new_dag, placement
from ml_pipelines_airflow.links import operator_links
from ml_pipelines_airflow.operators.branch import TransitiveBranchPythonOperator
from ml_pipelines_airflow.tasks import training as tasks
from ml_pipelines_airflow.tasks.training import TASK_IDS

__all__ = ["build_training_dag", "training_dag"]


def training_dag(dag_file: str) -> DAG:
    """The DAG that the YAML file beside a DAG file declares: same folder, same name.

    Args:
        dag_file: `__file__` of the DAG file.

    Raises:
        SpecError: with every mistake of the YAML file, its line, and how to mend it.
    """
    return build_training_dag(load_spec(str(Path(dag_file).with_suffix(".yaml"))))


def build_training_dag(spec: PipelineSpec) -> DAG:
    """The DAG of a declaration."""
    dataset, model = dataset_asset(spec.name), model_asset(spec.model.name)
    with new_dag(spec, callbacks(spec), document=_document(spec), assets=_watched(spec)) as dag:
        ingest_data = _task(spec, "ingest", told.IngestParameters.of(spec), outlets=[dataset])
        compare_with_champion = _branch(
            spec,
            "compare_with_champion",
            told.CompareWithChampionParameters.of(spec),
            tasks.compare_with_champion,
        )
        check_quality = _branch(spec, "check_quality", told.CheckQualityParameters.of(spec), tasks.check_quality)
        handle_poor_quality = PythonOperator(task_id="handle_poor_quality", python_callable=tasks.handle_poor_quality)
        preprocess_data = _task(spec, "preprocess", told.PreprocessParameters.of(spec))
        split_data = _task(spec, "split", told.SplitParameters.of(spec))
        train_model = PythonOperator.partial(
            task_id=TASK_IDS["train"],
            python_callable=tasks.train,
            map_index_template="{{ task.op_kwargs['parameters']['candidate']['name'] }}",
            **placement(spec, "train"),
        ).expand(
            op_kwargs=[
                arguments(spec, "train", told.TrainParameters.of(spec, each)) for each in spec.effective_candidates
            ]
        )
        train_model.operator_extra_links = operator_links("train")
        evaluate_model = _task(
            spec, "evaluate", told.EvaluateParameters.of(spec), trigger_rule="none_failed_min_one_success"
        )
        decide = _branch(spec, "decide", told.DecideParameters.of(spec), tasks.decide)
        request_approval = ApprovalOperator(
            task_id="request_approval",
            subject=f"Ship the new {spec.model.name}?",
            body="{{ ti.xcom_pull(task_ids='decide', key='card') }}",
            defaults="Reject",
            # A run that waits keeps the next one waiting; without an answer the champion stays.
            response_timeout=spec.gate.approval.timeout,
            execution_timeout=None,  # is for tasks that work
        )
        keep_champion = PythonOperator(
            task_id="keep_champion",
            python_callable=tasks.keep_champion,
            trigger_rule="none_failed_min_one_success",
        )
        register_model = _task(
            spec, "register", told.RegisterParameters.of(spec), trigger_rule="none_failed_min_one_success"
        )
        deploy_model = _task(spec, "deploy", told.DeployParameters.of(spec), outlets=[model])
        record_decision = _task(
            spec, "record_decision", told.RecordParameters.of(spec), tasks.record_decision, trigger_rule="none_failed"
        )

        ingest_data >> compare_with_champion >> [check_quality, keep_champion]
        check_quality >> [preprocess_data, handle_poor_quality]
        preprocess_data >> split_data >> train_model >> evaluate_model >> decide
        decide >> [register_model, request_approval, keep_champion]
        request_approval >> register_model >> deploy_model
        [handle_poor_quality, keep_champion, deploy_model] >> record_decision
    # Given last: every operator made while a DAG has parameters copies them all, and each copy is validated against its
    # JSON schema again when the DAG is serialised, which took three times as long as everything else together. Added,
    # not assigned, which would validate them here as well.
    dag.params.update(_form(spec))
    return dag


def _watched(spec: PipelineSpec) -> list[Asset]:
    """What a run starts for beside the clock: new data, or a call for a training as the data has drifted."""
    declared = spec.schedule
    if declared is None:
        return []
    assets = [_revision(spec)] if declared.on_new_data else []
    return assets + ([drift_asset(spec.model.name)] if declared.on_drift else [])


def _revision(spec: PipelineSpec) -> Asset:
    dvc = spec.data.dvc
    if dvc is None:
        raise RequestError(
            "only the revision of data in DVC can be watched",
            where=f"pipeline {spec.name}",
            expected="data.dvc, since schedule.on_new_data is given",
            got=type(spec.data.source).__name__,
            fix="declare the data under data.dvc, or give schedule.cron instead",
        )
    # Not imported for a DAG that watches nothing.
    from ml_pipelines_airflow.triggers import DvcRevisionTrigger

    assert spec.schedule is not None
    assert spec.schedule.on_new_data is not None
    name, seconds = f"{spec.name}.revision", spec.schedule.on_new_data.total_seconds()
    trigger = DvcRevisionTrigger(**dvc.model_dump(), poll_seconds=seconds, name=name)
    return revision_asset(spec.name, dvc.path, AssetWatcher(name=name, trigger=trigger))


def _task(
    spec: PipelineSpec, step: str, parameters: told.Parameters, call: Any = tasks.run_task, **options: Any
) -> PythonOperator:
    task = PythonOperator(
        task_id=TASK_IDS[step],
        python_callable=call,
        op_kwargs=arguments(spec, step, parameters),
        do_xcom_push=False,  # of what is returned: it is pushed as `result` already
        **placement(spec, step),
        **options,
    )
    task.operator_extra_links = operator_links(step)
    return task


def _branch(spec: PipelineSpec, step: str, parameters: told.Parameters, choose: Any) -> TransitiveBranchPythonOperator:
    task = TransitiveBranchPythonOperator(
        task_id=TASK_IDS[step],
        python_callable=choose,
        op_kwargs=arguments(spec, step, parameters),
        **placement(spec, step),
    )
    task.operator_extra_links = operator_links(step)
    return task


def _form(spec: PipelineSpec) -> dict[str, Param]:
    names = [candidate.name for candidate in spec.effective_candidates]
    return {
        "data_revision": field(
            None,
            type=["null", "string"],
            title="Data revision",
            description="Branch, tag or commit of the data repository. Empty: the declared one.",
        ),
        "candidates": field(
            names,
            type="array",
            items={"type": "string", "enum": names},
            minItems=1,
            examples=names,
            title="Candidates",
            description="Which candidates to train.",
        ),
        "promote": field(
            "auto",
            type="string",
            enum=["auto", "hold", "never"],
            values_display={
                "auto": "If the gate lets it pass",
                "hold": "If the gate lets it pass and a person approves",
                "never": "No, only train and judge",
            },
            title="Promote",
            description="Whether a better model may take over.",
        ),
        "force": field(
            False,
            type="boolean",
            title="Force",
            description="Compute every step, even where a stored result has the same inputs, parameters and code.",
        ),
    }


def _document(spec: PipelineSpec) -> str:
    rows = "\n".join(f"| {each.name} | `{each.estimator}` |" for each in spec.effective_candidates)
    return f"""{spec.description}

Model **{spec.model.name}** ({spec.model.task}), judged by **{spec.gate.metric}**.

| candidate | estimator |
|---|---|
{rows}

A run ends well when the pipeline worked, also with the outcome *rejected*, *stopped* or *no_change*; a failed run means
that the pipeline is broken.
"""
