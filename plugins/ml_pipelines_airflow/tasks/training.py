"""What the tasks do: make a StepRequest from the task's context, run the step, push its result.

Results travel as XCom `result`: references with digests and small numbers, never data.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import Decision, StepResult
from ml_pipelines.pipeline.facts import (
    Approval,
    CompareFacts,
    DecideFacts,
    DeployFacts,
    EvaluateFacts,
    IngestFacts,
    QualityFacts,
)
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.wiring import upstream_steps, wire_inputs
from ml_pipelines_airflow.links import link_urls
from ml_pipelines_airflow.tasks.run_step import RESULT, execute_step, run_url

__all__ = [
    "MAPPED",
    "RESULT",
    "TASK_IDS",
    "check_quality",
    "compare_with_champion",
    "decide",
    "handle_poor_quality",
    "keep_champion",
    "record_decision",
    "run_options",
    "run_task",
    "step_result",
    "train",
]

log = logging.getLogger(__name__)

CARD = "card"
# Answers what a person would be asked, in a run of `airflow dags test`, which has nobody to ask: `yes` approves.
APPROVE = "ML_PIPELINES_APPROVE"
MAPPED = frozenset({"train"})
TASK_IDS = {
    "ingest": "ingest_data",
    "compare_with_champion": "compare_with_champion",
    "check_quality": "check_quality",
    "preprocess": "preprocess_data",
    "split": "split_data",
    "train": "train_model",
    "evaluate": "evaluate_model",
    "decide": "decide",
    "register": "register_model",
    "deploy": "deploy_model",
    "record_decision": "record_decision",
}


def run_task(
    *,
    step: str,
    parameters: dict[str, Any],
    seed: int,
    ti: Any,
    params: Any,
    outlet_events: Any,
    dag_run: Any,
    docker: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    **_rest_of_the_context: Any,
) -> StepResult:
    """Run a step for a task instance, push its result and tell it with the task's assets.

    Args:
        step: name in the catalog.
        parameters: what the declaration tells the step, as JSON.
        seed: of the pipeline.
        ti: the running task instance.
        params: the run's parameters, as the trigger form left them.
        outlet_events: what the task's assets will say.
        dag_run: the run, as Airflow tells it.
        docker: the container that the step runs in, as JSON; None: in this process.
        facts: small values for the step that are no step's.
    """
    options = run_options(params)
    row = TRAINING_STEPS[step]
    earlier = {name: step_result(ti, name) for name in upstream_steps(step)}
    wired = wire_inputs(row, earlier)
    wired["facts"] |= facts or {}
    told = import_object(row.parameters).model_validate(parameters).for_run(options)
    test = _is_test(dag_run)
    result = execute_step(step, told, wired, ti=ti, seed=seed, force=options.force, docker=docker, test=test)
    for key, url in link_urls(step, result.values, lambda name: _told(earlier[name]), run_url(ti)).items():
        ti.xcom_push(key=key, value=url)
    for asset in ti.task.outlets:
        outlet_events[asset].extra = {"pipeline": ti.dag_id, "run_id": ti.run_id, **_news(ti, result)}
    return result


def check_quality(*, ti: Any, **arguments: Any) -> str:
    """Branch: go on to preprocess, or handle poor quality."""
    result = run_task(ti=ti, **arguments)
    return TASK_IDS["preprocess"] if QualityFacts.of(result).verdict == "passed" else "handle_poor_quality"


def train(*, parameters: dict[str, Any], params: Any, **arguments: Any) -> None:
    """Train one candidate, unless the run asked for others."""
    from airflow.sdk.exceptions import AirflowSkipException

    name, chosen = parameters["candidate"]["name"], run_options(params).candidates
    if chosen and name not in chosen:
        raise AirflowSkipException(f"the run asks for {', '.join(chosen)} only")
    run_task(parameters=parameters, params=params, **arguments)


def compare_with_champion(*, ti: Any, **arguments: Any) -> str:
    """Branch: go on, or keep the champion as nothing has changed since."""
    result = run_task(ti=ti, **arguments)
    compared = CompareFacts.of(result)
    log.info("%s", compared.reason)
    return TASK_IDS["check_quality"] if compared.verdict == "go_on" else "keep_champion"


def decide(*, ti: Any, parameters: dict[str, Any], params: Any, dag_run: Any, **arguments: Any) -> str:
    """Branch: register, ask a person, or keep the champion."""
    result = run_task(ti=ti, parameters=parameters, params=params, dag_run=dag_run, **arguments)
    decision = DecideFacts.of(result).decision
    outcome = decision.outcome
    if outcome == "promoted":
        return TASK_IDS["register"]
    if outcome != "held":
        return "keep_champion"
    if _is_test(dag_run):
        return _answer_of_test()
    if parameters["gate"]["approval"]["when"] == "never" and run_options(params).promote != "hold":
        return "keep_champion"
    ti.xcom_push(key=CARD, value=_card(decision))
    return "request_approval"


def record_decision(*, ti: Any, dag_run: Any, **arguments: Any) -> None:
    """Write down what became of the run, and who approved it if somebody did."""
    answer = ti.xcom_pull(task_ids="request_approval")
    approver = _approver(answer) if answer else _tester(ti, dag_run)
    facts = {"approval": Approval(approver=approver).model_dump(mode="json")} if approver else {}
    run_task(ti=ti, facts=facts, dag_run=dag_run, **arguments)


def handle_poor_quality(*, ti: Any) -> None:
    """Say what is wrong with the data; the run ends well, and nothing is trained."""
    result = step_result(ti, "check_quality")
    assert isinstance(result, StepResult)
    log.warning(
        "training stopped: the data failed %s; report: %s",
        ", ".join(QualityFacts.of(result).failed),
        result.outputs["report"].uri,
    )


def keep_champion(*, ti: Any) -> None:
    """Say why nothing is shipped: nothing is new, or what was decided. A run that poor data stopped comes by, too."""
    from airflow.sdk.exceptions import AirflowSkipException

    if decided := step_result(ti, "decide"):
        decision = DecideFacts.of(decided).decision
        log.info("%s: %s", decision.outcome, decision.reason)
        return
    compared = CompareFacts.of(step_result(ti, "compare_with_champion"))
    if compared.verdict == "go_on":
        raise AirflowSkipException("nothing was decided")
    log.info("no_change: %s", compared.reason)


def _is_test(dag_run: Any) -> bool:
    """Is this a run of `airflow dags test` or `dag.test()`? It has no scheduler that would end the wait for an answer.

    Airflow tells tasks who has triggered a run; these runs it calls so itself.
    """
    return bool(dag_run.triggering_user_name == "dag_test")


def _answer_of_test() -> str:
    if os.environ.get(APPROVE) == "yes":
        log.info("held, and approved by %s=yes", APPROVE)
        return TASK_IDS["register"]
    log.warning("held, and nobody can be asked in a test run: the champion stays. %s=yes approves", APPROVE)
    return "keep_champion"


def _card(decision: Decision) -> str:
    """The decision as Markdown, for the request for approval."""
    from ml_pipelines.reporting.decision_card import decision_markdown

    return decision_markdown(decision)


def _approver(answer: dict[str, Any]) -> str | None:
    """Who approved, by what ApprovalOperator tells; None if nobody did."""
    if answer["chosen_options"] != ["Approve"]:
        return None
    user = answer.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "unknown")


def _tester(ti: Any, dag_run: Any) -> str | None:
    from ml_pipelines._utils.process import user_name

    if not _is_test(dag_run):
        return None
    decided, deployed = step_result(ti, "decide"), step_result(ti, "deploy")
    held = decided is not None and DecideFacts.of(decided).decision.outcome == "held"
    return user_name() if held and deployed is not None else None


def run_options(params: Any) -> RunOptions:
    """The trigger form's values that are ours; a DAG may have more parameters."""
    return RunOptions.model_validate({name: params[name] for name in RunOptions.model_fields if name in params})


def step_result(ti: Any, step: str) -> Any:
    """The result of an earlier step; None if its task was skipped."""
    found = [StepResult.model_validate(each) for each in ti.xcom_pull(task_ids=[TASK_IDS[step]], key=RESULT) if each]
    if step in MAPPED:
        return found or None
    return found[0] if found else None


def _told(result: Any) -> Any:
    """The values of an earlier step, of a mapped one the list of them; None if its task was skipped."""
    return [each.values for each in result] if isinstance(result, list) else result and result.values


def _news(ti: Any, result: StepResult) -> dict[str, Any]:
    """What the assets of a task say: its own values, and of a new champion also its metrics and its data."""
    if result.step != "deploy":
        return result.values
    return {
        **DeployFacts.of(result).as_values(),
        "metrics": EvaluateFacts.of(step_result(ti, "evaluate")).test,
        "pin": IngestFacts.of(step_result(ti, "ingest")).pin.model_dump(mode="json"),
    }
