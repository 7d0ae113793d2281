"""Run a training in one process, with the steps, artifacts and results that an orchestrator would have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import Identity, JsonValue, StepRequest, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.cache_key import code_digests, package_versions
from ml_pipelines.pipeline.facts import Approval, DecideFacts, QualityFacts
from ml_pipelines.pipeline.step_parameters import Parameters, RunOptions, TrainParameters
from ml_pipelines.pipeline.step_table import find_step, require_last_step, training_steps
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.user_code import source_digests
from ml_pipelines.ports import Services
from ml_pipelines.runner.step import run_step
from ml_pipelines.runner.task import CONTINUE, build_request, run_task
from ml_pipelines.spec.training import Candidate, PipelineSpec
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = [
    "Approve",
    "RunResults",
    "Runner",
    "orchestrate",
    "request_label",
    "run_pipeline",
    "selected_candidates",
    "step_parameters",
    "validate_candidates",
]

# The "server" that validated candidates are recorded for.
_VALIDATED = "validated"

RunResults = dict[str, StepResult | list[StepResult] | None]
Runner = Callable[[Sequence[StepRequest]], Sequence[StepResult]]
Approve = Callable[[StepResult], str | None]


class _LastStep(Exception):
    """The last step of a partial run has run."""


def run_pipeline(
    spec: PipelineSpec,
    services: Services,
    *,
    store: str,
    run_id: str,
    options: RunOptions | None = None,
    approve: Approve = lambda decision: None,
    until: str | None = None,
    on_start: Callable[[str], None] = lambda task: None,
    on_done: Callable[[str, StepResult], None] = lambda task, result: None,
) -> RunResults:
    """Run all steps of a pipeline in this process, one after the other.

    Args:
        spec: the declaration.
        services: the services that the steps use.
        store: URI of the artifact store.
        run_id: name of the run; the same name again is a retry.
        options: options of the run.
        approve: called with the result of `decide` if the gate holds the model; returns the name of the approver, or
            None to keep the champion.
        until: last step to run; see :func:`orchestrate`.
        on_start: called with the label of a step before it runs.
        on_done: called with the label and the result of a step after it ran.

    Returns:
        Results by step; None for a step that did not run.

    Raises:
        PipelineError: from the step that failed.
    """

    def run(requests: Sequence[StepRequest]) -> list[StepResult]:
        results = []
        for request in requests:
            on_start(request_label(request))
            if request.step == "train" and until is None:  # a partial run registers no model
                services.prepare_smoke_test()
            results.append(run_step(request, services))
            on_done(request_label(request), results[-1])
        return results

    return orchestrate(spec, run, store=store, run_id=run_id, options=options, approve=approve, until=until)


def orchestrate(
    spec: PipelineSpec,
    run: Runner,
    *,
    store: str,
    run_id: str,
    options: RunOptions | None = None,
    approve: Approve = lambda decision: None,
    until: str | None = None,
) -> RunResults:
    """Run the tasks of a training in order, and follow the branches that their verdicts select.

    Args:
        spec: the declaration.
        run: runs requests that do not depend on each other, and returns their results in the same order.
        store: URI of the artifact store.
        run_id: name of the run; the same name again is a retry.
        options: options of the run.
        approve: called with the result of `decide` if the gate holds the model; returns the name of the approver, or
            None to keep the champion.
        until: last step to run. The run then also computes if nothing has changed since the champion, and records no
            decision. None for a complete run.

    Returns:
        Results by step; None for a step that did not run.

    Raises:
        RequestError: `options` select a candidate that is not declared, or the run can't end after `until`.
        PipelineError: from `run`.
    """
    if until is not None:
        require_last_step(until)
    spec.enable_code()
    options = options or RunOptions()
    candidates = selected_candidates(spec, options.candidates)
    results: RunResults = dict.fromkeys(training_steps())
    facts: dict[str, JsonValue] = {}

    def request(step: str, map_index: int = -1, candidate: Candidate | None = None) -> StepRequest:
        return build_request(
            step,
            step_parameters(spec, step, candidate),
            results,
            seed=spec.seed,
            store=store,
            identity=Identity(pipeline=spec.name, run_id=run_id, task_id=step, map_index=map_index),
            options=options,
            facts=facts if step == "record_decision" else None,
        )

    def run_one(step: str) -> StepResult:
        (result,) = run([request(step)])
        results[step] = result
        if step == until:
            raise _LastStep
        return result

    def train() -> None:
        results["train"] = [*run([request("train", index, candidate) for index, candidate in enumerate(candidates)])]
        if until == "train":
            raise _LastStep

    def train_and_decide() -> None:
        run_task("preprocess_data", run_one)
        train()
        decided = run_task("evaluate_model", run_one)["decide"]
        outcome = DecideFacts.of(decided).decision.outcome
        if outcome == "held" and (approver := approve(decided)):
            facts["approval"] = Approval(approver=approver).model_dump(mode="json")
        if outcome == "promoted" or facts:
            run_task("register_and_deploy", run_one)

    with suppress(_LastStep):
        run_task("ingest_data", run_one)
        # A partial run shows its results also if they are those of the champion.
        go_on = CONTINUE if until is None else CONTINUE | {"no_change"}
        checked = run_task("check_quality", run_one, go_on=go_on).get("check_quality")
        if checked and QualityFacts.of(checked).verdict == "passed":
            train_and_decide()
        if until is None:
            run_task("record_decision", run_one)
    return results


def validate_candidates(spec: PipelineSpec, store: str) -> None:
    """Build every candidate of a declaration, unless the store records that the same code has built the same ones.

    Raises:
        ModelError: at least one candidate can't be built; the message lists all mistakes.
        MissingExtra: scikit-learn is not installed.
    """
    spec.enable_code()
    step, candidates = TRAINING_STEPS["train"], spec.effective_candidates
    paths = [path for candidate in candidates for path in candidate.estimators]
    components = {
        "task": spec.model.task,
        "seed": spec.seed,
        "candidates": [candidate.model_dump(mode="json") for candidate in candidates],
        "environment": package_versions(step, paths),
        "code": code_digests(step),
        "user_code": source_digests(paths),
    }
    key = json_digest(components)
    artifacts = ArtifactStore(store)
    if artifacts.load_publication("train", key, _VALIDATED) is None:
        import_object("ml_pipelines.modeling.estimators:validate_candidates")(spec)
        artifacts.save_publication("train", key, _VALIDATED, {})


def request_label(request: StepRequest) -> str:
    """Return the label of a request for display: its step, with the candidate that it trains."""
    candidate = request.parameters.get("candidate")
    return f"{request.step}[{candidate['name']}]" if isinstance(candidate, dict) else request.step


def selected_candidates(spec: PipelineSpec, names: tuple[str, ...]) -> tuple[Candidate, ...]:
    """Return the candidates of these names, or all if there are no names.

    Raises:
        RequestError: no candidate has that name.
    """
    candidates = {candidate.name: candidate for candidate in spec.effective_candidates}
    if unknown := [name for name in names if name not in candidates]:
        raise RequestError(
            f"there is no candidate {unknown[0]!r}",
            where=f"pipeline {spec.name}",
            expected=f"some of {', '.join(candidates)}",
            got=", ".join(names),
            fix="name candidates of the declaration",
        )
    return tuple(candidate for name, candidate in candidates.items() if not names or name in names)


def step_parameters(spec: PipelineSpec, step: str, candidate: Candidate | None = None) -> Parameters:
    """Return the parameters of a step from a declaration. Only `train` has a candidate."""
    if step == "train":
        return TrainParameters.of(spec, candidate)
    return cast("Parameters", import_object(find_step(step).parameters).of(spec))
