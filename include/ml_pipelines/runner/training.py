"""A whole pipeline without Airflow: the same steps, the same artifacts, the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.cache_key import code_digests, package_versions
from ml_pipelines.pipeline.facts import Approval, CompareFacts, DecideFacts, Facts, QualityFacts
from ml_pipelines.pipeline.parameters import Parameters, RunOptions, TrainParameters
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.wiring import upstream_steps, wire_inputs
from ml_pipelines.ports import Services
from ml_pipelines.runner.step import run_step
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

_CHECKED = "checked"  # where a list of candidates was "published" to

FactsT = TypeVar("FactsT", bound=Facts)
RunResults = dict[str, StepResult | list[StepResult] | None]
Runner = Callable[[Sequence[StepRequest]], Sequence[StepResult]]
Approve = Callable[[StepResult], str | None]


def run_pipeline(
    spec: PipelineSpec,
    services: Services,
    *,
    store: str,
    run_id: str,
    options: RunOptions | None = None,
    approve: Approve = lambda decision: None,
    on_start: Callable[[str], None] = lambda task: None,
    on_done: Callable[[str, StepResult], None] = lambda task, result: None,
) -> RunResults:
    """Run all steps of a pipeline in this process, one after the other.

    Args:
        spec: the declaration.
        services: the outside world.
        store: URI of the artifact store.
        run_id: name of the run; the same name again is a retry.
        options: what to do differently this time.
        approve: asked if the gate holds the model; a name ships it, and is written down as who approved.
        on_start: called with the task's label before a step.
        on_done: called with the task's label and result after it.

    Returns:
        Results by step; None for a step that was not reached.

    Raises:
        PipelineError: from the step that failed.
    """

    def run(requests: Sequence[StepRequest]) -> list[StepResult]:
        results = []
        for request in requests:
            on_start(request_label(request))
            if request.step == "train":
                services.prepare_smoke_test()
            results.append(run_step(request, services))
            on_done(request_label(request), results[-1])
        return results

    return orchestrate(spec, run, store=store, run_id=run_id, options=options, approve=approve)


def orchestrate(
    spec: PipelineSpec,
    run: Runner,
    *,
    store: str,
    run_id: str,
    options: RunOptions | None = None,
    approve: Approve = lambda decision: None,
) -> RunResults:
    """Go through a pipeline as its verdicts tell, whoever runs the steps: this process, or an orchestrator's tasks.

    Args:
        spec: the declaration.
        run: runs the requests that it is given, which do not depend on each other, and gives their results in order.
        store: URI of the artifact store.
        run_id: name of the run; the same name again is a retry.
        options: what to do differently this time.
        approve: asked if the gate holds the model; a name ships it, and is written down as who approved.

    Returns:
        Results by step; None for a step that was not reached.

    Raises:
        RequestError: `options` name a candidate that there is not.
        PipelineError: what `run` raises.
    """
    options = options or RunOptions()
    chosen = selected_candidates(spec, options.candidates)
    results: RunResults = dict.fromkeys(TRAINING_STEPS)
    approval: list[Approval] = []

    def request(step: str, map_index: int = -1, candidate: Candidate | None = None) -> StepRequest:
        wired = wire_inputs(TRAINING_STEPS[step], {name: results[name] for name in upstream_steps(step)})
        if step == "record_decision" and approval:
            wired["facts"]["approval"] = approval[0].model_dump(mode="json")
        return StepRequest(
            step=step,
            parameters=step_parameters(spec, step, candidate).for_run(options).model_dump(mode="json"),
            **wired,
            seed=spec.seed,
            store=store,
            identity=Identity(pipeline=spec.name, run_id=run_id, task_id=step, map_index=map_index),
            force=options.force,
        )

    def run_all(*steps: str) -> None:
        for step in steps:
            (results[step],) = run([request(step)])

    def train_and_decide() -> None:
        run_all("preprocess", "split")
        results["train"] = [*run([request("train", index, candidate) for index, candidate in enumerate(chosen)])]
        run_all("evaluate", "decide")
        decided = results["decide"]
        assert isinstance(decided, StepResult)
        outcome = DecideFacts.of(decided).decision.outcome
        if outcome == "held" and (approver := approve(decided)):
            approval.append(Approval(approver=approver))
        if outcome == "promoted" or approval:
            run_all("register", "deploy")

    run_all("ingest", "compare_with_champion")
    if _of(CompareFacts, results["compare_with_champion"]).verdict == "go_on":
        run_all("check_quality")
        if _of(QualityFacts, results["check_quality"]).verdict == "passed":
            train_and_decide()
    run_all("record_decision")
    return results


def validate_candidates(spec: PipelineSpec, store: str) -> None:
    """Build every candidate of a declaration, unless the store remembers that these were built with these packages.

    Raises:
        ModelError: at least one can't be built; tells all mistakes.
        MissingExtra: scikit-learn is not installed, so that nothing can be checked.
    """
    trained = [candidate.model_dump(mode="json") for candidate in spec.effective_candidates]
    told = [
        spec.model.task,
        spec.seed,
        trained,
        package_versions(TRAINING_STEPS["train"]),
        code_digests(TRAINING_STEPS["train"]),
    ]
    key = json_digest(told)
    memory = ArtifactStore(store)
    if memory.load_publication("train", key, _CHECKED) is None:
        import_object("ml_pipelines.modeling.estimators:validate_candidates")(spec)
        memory.save_publication("train", key, _CHECKED, {})


def request_label(request: StepRequest) -> str:
    """What a request is called for people: its step, and which candidate it trains."""
    candidate = request.parameters.get("candidate")
    return f"{request.step}[{candidate['name']}]" if isinstance(candidate, dict) else request.step


def selected_candidates(spec: PipelineSpec, names: tuple[str, ...]) -> tuple[Candidate, ...]:
    """The candidates of these names, all if none are named.

    Raises:
        RequestError: no candidate has that name.
    """
    known = {candidate.name: candidate for candidate in spec.effective_candidates}
    if unknown := [name for name in names if name not in known]:
        raise RequestError(
            f"there is no candidate {unknown[0]!r}",
            where=f"pipeline {spec.name}",
            expected=f"some of {', '.join(known)}",
            got=", ".join(names),
            fix="name candidates of the declaration",
        )
    return tuple(candidate for name, candidate in known.items() if not names or name in names)


def step_parameters(spec: PipelineSpec, step: str, candidate: Candidate | None = None) -> Parameters:
    """What the declaration tells a step; `candidate` is for `train` alone."""
    if step == "train":
        return TrainParameters.of(spec, candidate)
    return cast("Parameters", import_object(TRAINING_STEPS[step].parameters).of(spec))


def _of(contract: type[FactsT], result: StepResult | list[StepResult] | None) -> FactsT:
    assert isinstance(result, StepResult)
    return contract.of(result)
