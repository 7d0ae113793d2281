"""Build the training DAG of a declaration."""

from __future__ import annotations

from typing import Any, TypeVar

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, AssetWatcher, Param
from airflow.sdk.definitions.mappedoperator import MappedOperator

from ml_pipelines.errors import RequestError
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.pipeline.step_table import steps_of
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.assets import dataset_asset, drift_asset, model_asset, revision_asset
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
from ml_pipelines_airflow.operators.branch import TransitiveBranchPythonOperator
from ml_pipelines_airflow.tasks import training as tasks

__all__ = ["build_training_dag", "training_dag"]

Operator = TypeVar("Operator", bound=PythonOperator)

# A branch skips the paths that it does not take. This rule lets a task run after any path that succeeded.
_AFTER_BRANCH = "none_failed_min_one_success"


def training_dag(dag_file: str) -> DAG:
    """Return the training DAG of the YAML file that is next to a DAG file and has the same name.

    Args:
        dag_file: `__file__` of the DAG file.

    Raises:
        SpecError: the YAML file has mistakes. The error lists each mistake with its line and fix.
    """
    return build_training_dag(load_declaration(dag_file, load_spec))


def build_training_dag(spec: PipelineSpec) -> DAG:
    """Return the training DAG of a declaration."""
    dataset, model = dataset_asset(spec.name), model_asset(spec.model.name)
    with new_dag(spec, callbacks(spec), document=_document(spec), assets=_schedule_assets(spec)) as dag:
        ingest_data = _task(spec, "ingest_data", outlets=[dataset])
        check_quality = _branch(spec, "check_quality", tasks.check_quality)
        handle_poor_quality = PythonOperator(task_id="handle_poor_quality", python_callable=tasks.handle_poor_quality)
        preprocess_data = _task(spec, "preprocess_data")
        train_model = _mapped_task(spec, "train_model")
        evaluate_model = _branch(spec, "evaluate_model", tasks.evaluate_model, trigger_rule=_AFTER_BRANCH)
        request_approval = ApprovalOperator(
            task_id="request_approval",
            subject=f"Deploy the new version of {spec.model.name}?",
            body="{{ ti.xcom_pull(task_ids='evaluate_model', key='card') }}",
            defaults="Reject",
            # A waiting run blocks the next run, so the wait is limited. Without an answer, the champion stays.
            response_timeout=spec.gate.approval.timeout,
            execution_timeout=None,  # the declared timeout is only for tasks that compute
        )
        keep_champion = PythonOperator(
            task_id="keep_champion", python_callable=tasks.keep_champion, trigger_rule=_AFTER_BRANCH
        )
        register_and_deploy = _task(spec, "register_and_deploy", outlets=[model], trigger_rule=_AFTER_BRANCH)
        record_decision = _task(spec, "record_decision", tasks.record_decision, trigger_rule="none_failed")

        ingest_data >> check_quality >> [preprocess_data, handle_poor_quality, keep_champion]
        preprocess_data >> train_model >> evaluate_model
        evaluate_model >> [register_and_deploy, request_approval, keep_champion]
        request_approval >> register_and_deploy
        [handle_poor_quality, keep_champion, register_and_deploy] >> record_decision
    # The parameters are added last, because each operator copies and validates the parameters that its DAG already has.
    # This took three times as long as everything else together. `update` validates nothing, but an assignment would.
    dag.params.update(_form(spec))
    return dag


def _task(spec: PipelineSpec, task_id: str, python_callable: Any = tasks.run_steps, **options: Any) -> PythonOperator:
    return _new_task(PythonOperator, spec, task_id, python_callable=python_callable, do_xcom_push=False, **options)


def _branch(spec: PipelineSpec, task_id: str, python_callable: Any, **options: Any) -> TransitiveBranchPythonOperator:
    return _new_task(TransitiveBranchPythonOperator, spec, task_id, python_callable=python_callable, **options)


def _new_task(operator: type[Operator], spec: PipelineSpec, task_id: str, **options: Any) -> Operator:
    steps = steps_of(task_id)
    task = operator(
        task_id=task_id,
        op_kwargs=task_arguments(spec, task_id, declared_parameters(spec, steps)),
        **placement(spec, task_id),
        **options,
    )
    task.operator_extra_links = operator_links(*steps)
    return task


def _mapped_task(spec: PipelineSpec, task_id: str) -> MappedOperator:
    """Return the mapped task, which has one instance for each candidate."""
    steps = steps_of(task_id)
    others = declared_parameters(spec, [step for step in steps if step != "train"])
    task = PythonOperator.partial(
        task_id=task_id,
        python_callable=tasks.train_model,
        map_index_template="{{ task.op_kwargs['parameters']['train']['candidate']['name'] }}",
        do_xcom_push=False,
        **placement(spec, task_id),
    ).expand(
        op_kwargs=[
            task_arguments(spec, task_id, {"train": TrainParameters.of(spec, candidate), **others})
            for candidate in spec.effective_candidates
        ]
    )
    task.operator_extra_links = operator_links(*steps)
    return task


def _schedule_assets(spec: PipelineSpec) -> list[Asset]:
    """Return the assets whose events start a run: a new data revision, or a training request after drift."""
    schedule = spec.schedule
    if schedule is None:
        return []
    assets = [_revision_asset(spec)] if schedule.on_new_data else []
    return assets + ([drift_asset(spec.model.name)] if schedule.on_drift else [])


def _revision_asset(spec: PipelineSpec) -> Asset:
    dvc = spec.data.dvc
    if dvc is None:
        raise RequestError(
            "schedule.on_new_data needs data in DVC",
            where=f"pipeline {spec.name}",
            expected="data.dvc",
            got=type(spec.data.source).__name__,
            fix="declare the data under data.dvc, or use schedule.cron instead of schedule.on_new_data",
        )
    # Imported only for a DAG that watches its data.
    from ml_pipelines_airflow.triggers import DvcRevisionTrigger

    assert spec.schedule is not None
    assert spec.schedule.on_new_data is not None
    name, seconds = f"{spec.name}.revision", spec.schedule.on_new_data.total_seconds()
    trigger = DvcRevisionTrigger(**spec.located(dvc).model_dump(), poll_seconds=seconds, name=name)
    return revision_asset(spec.name, dvc.path, AssetWatcher(name=name, trigger=trigger))


def _form(spec: PipelineSpec) -> dict[str, Param]:
    names = [candidate.name for candidate in spec.effective_candidates]
    return {
        "data_revision": form_field(
            None,
            type=["null", "string"],
            title="Data revision",
            description="Branch, tag or commit of the data repository. If empty, the declared revision is used.",
        ),
        "candidates": form_field(
            names,
            type="array",
            items={"type": "string", "enum": names},
            minItems=1,
            examples=names,
            title="Candidates",
            description="The candidates to train.",
        ),
        "promote": form_field(
            "auto",
            type="string",
            enum=["auto", "hold", "never"],
            values_display={
                "auto": "Yes, if the gate promotes it",
                "hold": "Yes, if the gate promotes it and a person approves",
                "never": "No, only train and evaluate",
            },
            title="Promote",
            description="Whether this run may deploy a new champion.",
        ),
        "force": form_field(
            False,
            type="boolean",
            title="Force",
            description="Compute every step, even if the store has a result for the same inputs, parameters and code.",
        ),
    }


def _document(spec: PipelineSpec) -> str:
    rows = "\n".join(f"| {candidate.name} | `{candidate.estimator}` |" for candidate in spec.effective_candidates)
    return f"""{visible(spec.description, lines=True)}

Trains **{spec.model.name}** ({spec.model.task}) and compares the candidates by **{spec.gate.metric}**.

| candidate | estimator |
|---|---|
{rows}

A run that ends as *rejected*, *stopped* or *no_change* also succeeds. A failed run means that the pipeline is broken.
"""
