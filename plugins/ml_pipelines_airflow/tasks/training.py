"""Callables of the training DAG's tasks.

A task runs the steps that the step table lists for it, in order; see :mod:`ml_pipelines_airflow.tasks.task_run`. A
branch task returns the id of the task to continue with.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import JsonValue, StepResult
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.facts import (
    Approval,
    CompareFacts,
    DecideFacts,
    DeployFacts,
    EvaluateFacts,
    IngestFacts,
    QualityFacts,
)
from ml_pipelines.pipeline.step_parameters import DecideParameters
from ml_pipelines.pipeline.step_table import find_step
from ml_pipelines.pipeline.wiring import upstream_steps
from ml_pipelines.runner.task import run_task
from ml_pipelines.spec.task_steps import TRAINING_TASKS, task_of
from ml_pipelines_airflow.execution import worker_process
from ml_pipelines_airflow.links import link_urls
from ml_pipelines_airflow.tasks.task_run import TaskRun, is_test_run, pull_results, run_options, run_url

__all__ = [
    "check_quality",
    "evaluate_model",
    "handle_poor_quality",
    "keep_champion",
    "record_decision",
    "run_steps",
    "step_result",
    "train_model",
]

log = logging.getLogger(__name__)

CARD = "card"
"""XCom key of the decision card that the approval task shows."""
APPROVE = "ML_PIPELINES_APPROVE"
"""Environment variable that answers the approval question in a run of `airflow dags test`: `yes` approves."""
MAPPED = frozenset({"train"})
"""Steps whose task is mapped."""


def run_steps(
    *,
    parameters: Mapping[str, dict[str, Any]],
    seed: int,
    ti: Any,
    params: Any,
    outlet_events: Any,
    dag_run: Any,
    docker: dict[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, JsonValue]] | None = None,
    **_context: Any,
) -> dict[str, StepResult]:
    """Run the steps of a task until a verdict ends the task, push its links and describe its asset events.

    Args:
        parameters: declared parameters by step, as JSON.
        seed: seed of the pipeline.
        ti: the running task instance.
        params: values of the trigger form.
        outlet_events: events of the task's assets.
        dag_run: the DAG run.
        docker: image and limits of the steps' containers as JSON; None runs the steps in this process.
        facts: by step, facts that do not come from an earlier step, such as an approval.

    Returns:
        Results by step. If a verdict ends the task early, the later steps have no result.
    """
    run = TaskRun(ti=ti, seed=seed, options=run_options(params), docker=docker, test=is_test_run(dag_run))

    def run_one(step: str) -> StepResult:
        earlier = {name: run.results.get(name) or step_result(ti, name) for name in upstream_steps(step)}
        if run.test and step in MAPPED:
            # All tasks of a test run are in this process, so the smoke test's process can start during the training.
            run.services.prepare_smoke_test()
        declared = import_object(find_step(step).parameters).model_validate(parameters[step])
        result = run.run_step(step, declared, earlier, (facts or {}).get(step))
        for key, url in link_urls(step, result.values, lambda name: _values(earlier[name]), run_url(ti)).items():
            ti.xcom_push(key=key, value=url)
        return result

    results = run_task(ti.task_id, run_one)
    for asset in ti.task.outlets:
        outlet_events[asset].extra = {"pipeline": ti.dag_id, "run_id": ti.run_id, **_event_values(ti, results)}
    return results


def check_quality(**context: Any) -> str:
    """Branch: preprocess, handle poor quality, or keep the champion if nothing changed since its training."""
    results = run_steps(**context)
    if CompareFacts.of(results["compare_with_champion"]).verdict == "no_change":
        return "keep_champion"
    passed = QualityFacts.of(results["check_quality"]).verdict == "passed"
    return task_of("preprocess") if passed else "handle_poor_quality"


def train_model(*, parameters: Mapping[str, dict[str, Any]], params: Any, **context: Any) -> None:
    """Train one candidate.

    Raises:
        AirflowSkipException: the run trains only other candidates.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    name, selected = parameters["train"]["candidate"]["name"], run_options(params).candidates
    if selected and name not in selected:
        raise AirflowSkipException(f"the run trains only {', '.join(selected)}")
    run_steps(parameters=parameters, params=params, **context)


def evaluate_model(
    *, ti: Any, parameters: Mapping[str, dict[str, Any]], params: Any, dag_run: Any, **context: Any
) -> str:
    """Branch: register and deploy, request approval, or keep the champion."""
    results = run_steps(ti=ti, parameters=parameters, params=params, dag_run=dag_run, **context)
    decision = DecideFacts.of(results["decide"]).decision
    if decision.outcome == "promoted":
        return task_of("register")
    if decision.outcome != "held":
        return "keep_champion"
    if is_test_run(dag_run):
        return _test_answer()
    approval = DecideParameters.model_validate(parameters["decide"]).gate.approval
    if approval.when == "never" and run_options(params).promote != "hold":
        return "keep_champion"
    from ml_pipelines.reporting.decision_card import decision_markdown

    ti.xcom_push(key=CARD, value=decision_markdown(decision))
    return "request_approval"


def record_decision(*, ti: Any, dag_run: Any, **context: Any) -> None:
    """Append the outcome of the run, and the approver if there is one, to the ledger."""
    answer = ti.xcom_pull(task_ids="request_approval")
    approver = _approver(answer) if answer else _test_approver(ti, dag_run)
    facts = {"approval": Approval(approver=approver).model_dump(mode="json")} if approver else {}
    try:
        run_steps(ti=ti, facts={"record_decision": facts}, dag_run=dag_run, **context)
    finally:
        worker_process.current.end_test_run()


def handle_poor_quality(*, ti: Any) -> None:
    """Log the failed checks with their remedies. The run ends successfully, and nothing is trained."""
    from ml_pipelines.reporting.findings import finding_text

    result = step_result(ti, "check_quality")
    assert isinstance(result, StepResult)
    log.warning("training stopped by the quality checks; report: %s", result.outputs["report"].uri)
    for finding in QualityFacts.of(result).findings:
        log.warning("%s", finding_text(finding))


def keep_champion(*, ti: Any) -> None:
    """Log why no model is deployed."""
    if decided := step_result(ti, "decide"):
        decision = DecideFacts.of(decided).decision
        log.info("%s: %s", decision.outcome, visible(decision.reason))
    else:
        log.info("no_change: %s", visible(CompareFacts.of(step_result(ti, "compare_with_champion")).reason))


def step_result(ti: Any, step: str) -> Any:
    """Return the result of an earlier step, a list for a mapped step; None if its task was skipped."""
    results = pull_results(ti, task_of(step, TRAINING_TASKS), step)
    if step in MAPPED:
        return results or None
    return results[0] if results else None


def _values(result: StepResult | list[StepResult] | None) -> Any:
    return [instance.values for instance in result] if isinstance(result, list) else result and result.values


def _event_values(ti: Any, results: Mapping[str, StepResult]) -> Mapping[str, Any]:
    """Return the values of the task's asset event.

    Those of the model come from `deploy`, `evaluate` and `ingest`, those of the dataset from `ingest`.
    """
    if "deploy" not in results:
        return results["ingest"].values
    return {
        **DeployFacts.of(results["deploy"]).as_values(),
        "metrics": EvaluateFacts.of(step_result(ti, "evaluate")).test,
        "pin": IngestFacts.of(step_result(ti, "ingest")).pin.model_dump(mode="json"),
    }


def _test_answer() -> str:
    if os.environ.get(APPROVE) == "yes":
        log.info("held, and approved by %s=yes", APPROVE)
        return task_of("register")
    log.warning("held: a test run can't ask for approval, so the champion stays; %s=yes approves", APPROVE)
    return "keep_champion"


def _approver(answer: Mapping[str, Any]) -> str | None:
    """Return the name of the person who approved, from the XCom of ApprovalOperator; None after a rejection."""
    if answer["chosen_options"] != ["Approve"]:
        return None
    user = answer.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "unknown")


def _test_approver(ti: Any, dag_run: Any) -> str | None:
    """Return the user of a test run that deployed a held model, else None."""
    from ml_pipelines._utils.process import user_name

    if not is_test_run(dag_run):
        return None
    decided, deployed = step_result(ti, "decide"), step_result(ti, "deploy")
    held = decided is not None and DecideFacts.of(decided).decision.outcome == "held"
    return user_name() if held and deployed is not None else None
