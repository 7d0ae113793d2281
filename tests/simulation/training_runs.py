"""Training runs as an orchestrator runs them: each step in a process of its own, tried again until it succeeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.scheduler import Process, Thread
from tests.simulation.steps import STEPS
from tests.simulation.world import STORE, SimulatedServices, World

from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.pipeline.facts import Approval, DecideFacts
from ml_pipelines.pipeline.wiring import wire_inputs
from ml_pipelines.runner.step import run_step

__all__ = ["Orchestrator", "Run"]

_TRIES = 5
_CLEARS = 3
_ORDER = ("ingest", "train", "evaluate", "decide", "register", "deploy", "record_decision")
# When the orchestrator takes a task without a heartbeat for dead. It may still run.
_HEARTBEAT_SECONDS = 60.0
_QUEUE_SECONDS = (0.0, 0.1, 1.0, 5.0)


@dataclass
class Run:
    """One run of a pipeline, and what its tasks returned.

    Attributes:
        run_id: name of the run.
        revision: version of the data.
        hold: whether the gate holds a better model.
        approved: whether a person approves a model that is held.
        model: name in the registry.
        last: the last step.
        again: whether a person clears the run when it has ended.
        cleared: whether the run was started again from its first step.
        results: results by step.
        finished: whether the last step has succeeded.
        error: error of the latest try.
        results_seen: result of each try by step.
    """

    run_id: str
    revision: int
    hold: bool = False
    approved: bool = False
    model: str = "m"
    last: str = "record_decision"
    again: bool = False
    cleared: bool = False
    results: dict[str, StepResult | list[StepResult]] = field(default_factory=dict)
    finished: bool = False
    error: BaseException | None = None
    results_seen: list[tuple[str, StepResult]] = field(default_factory=list)

    @property
    def pipeline(self) -> str:
        """Name of the pipeline: one for each model."""
        return f"pipeline of {self.model}"

    def decision(self) -> Any:
        """Return the decision of the gate."""
        result = self.results["decide"]
        assert isinstance(result, StepResult)
        return DecideFacts.of(result).decision

    def next_step(self) -> str | None:
        """Return the first step without a result; None after the last one."""
        for step in _ORDER:
            if step not in self.results and (step not in ("register", "deploy") or self._is_deployed()):
                return step
            if step == self.last:
                break
        return None

    def _is_deployed(self) -> bool:
        outcome = self.decision().outcome
        return outcome == "promoted" or (outcome == "held" and self.approved)

    def request(self, step: str) -> StepRequest:
        """Return the request of a step, wired as in the step table."""
        row = STEPS[step]
        parameters: dict[str, Any] = {"model": self.model}
        if row.compute:
            parameters["revision"] = self.revision
        if step == "decide":
            parameters["hold"] = self.hold
        wired = wire_inputs(row, self.results)
        if step == "record_decision" and self.results.get("deploy") and self.decision().outcome == "held":
            wired["facts"]["approval"] = Approval(approver="a person").model_dump(mode="json")
        identity = Identity(
            pipeline=self.pipeline, run_id=self.run_id, task_id=step, map_index=0 if step == "train" else -1
        )
        return StepRequest(step=step, parameters=parameters, **wired, seed=1, store=STORE, identity=identity)


class Orchestrator:
    """Runs training runs in a world. It never fails itself, as a database keeps its state."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process("orchestrator", "", world.scheduler)

    def start(self, run: Run) -> None:
        """Start a run."""
        self.world.scheduler.spawn(self.process, lambda: self._end(run))

    def _end(self, run: Run) -> None:
        try:
            self._orchestrate(run)
            if run.finished and run.again:
                # A person clears the run in Airflow, after the data has changed.
                run.again, run.cleared, run.finished = False, True, False
                run.revision += 1
                run.results.clear()
                run.results_seen.clear()
                self._orchestrate(run)
        except PipelineError as exc:
            raise AssertionError(f"the orchestrator can't go on: {exc}") from exc

    def _orchestrate(self, run: Run) -> None:
        tries = clears = 0
        while step := run.next_step():
            error = self._try_step(run, step)
            if error is None:
                tries = 0
                continue
            tries += 1
            if tries == _TRIES:
                return
            if isinstance(error, PipelineError) and not isinstance(error, TransientError):
                clears += 1
                if clears == _CLEARS:
                    return
                self.world.scheduler.sleep(30.0)
                run.results.clear()
                run.cleared = True
        run.finished = True

    def _try_step(self, run: Run, step: str) -> BaseException | None:
        """Run a step in a process, or in two at once. Return the error of the first one."""
        scheduler = self.world.scheduler
        scheduler.sleep(scheduler.random.choice(_QUEUE_SECONDS))
        request = run.request(step)
        threads = [self._process(run, step, request)]
        if scheduler.is_faulty("duplicate"):
            threads.append(self._process(run, step, request))
        scheduler.wait(lambda: any(thread.done for thread in threads), _HEARTBEAT_SECONDS)
        done = next((thread for thread in threads if thread.done), None)
        if done is None or scheduler.is_faulty("lost"):
            return TransientError("the orchestrator has no answer of the task")
        if done.error is None:
            run.results[step] = [done.result] if step == "train" else done.result
            run.results_seen.append((step, done.result))
        run.error = done.error
        return done.error

    def _process(self, run: Run, step: str, request: StepRequest) -> Thread:
        process = self.world.start(f"{run.run_id} {step}")
        return self.world.scheduler.spawn(process, lambda: run_step(request, SimulatedServices(self.world)))
