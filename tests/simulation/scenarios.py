"""The scenarios: which processes share a world, and which faults they meet. A seed determines all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from tests.simulation import invariants, messages
from tests.simulation.operators import Operator, start_person, start_watcher
from tests.simulation.scheduler import Faults, Process
from tests.simulation.training_runs import Orchestrator, Run
from tests.simulation.world import STORE, World, running

from ml_pipelines.errors import PipelineError
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.retention import prune

__all__ = ["SCENARIOS", "simulate"]


def simulate(seed: int, scenario: str | None = None, *, trace: bool = False) -> World:
    """Run the schedule of a seed, and check its invariants.

    Args:
        seed: determines the schedule.
        scenario: name of a scenario; by default the seed determines it.
        trace: whether to keep one line for each event.

    Raises:
        AssertionError: an invariant does not hold. Its attribute `world` has the systems at that moment.
    """
    random = Random(seed)
    chosen = random.choices([*SCENARIOS], _WEIGHTS)[0]
    world = World(seed, _faults(random))
    if trace:
        world.scheduler.trace = []
    with running(world):
        try:
            SCENARIOS[scenario or chosen](world, random)
        except AssertionError as exc:
            exc.world = world  # type: ignore[attr-defined]
            raise
    return world


def _faults(random: Random) -> Faults:
    def rate() -> float:
        return random.choice((0.0, 0.01, 0.05))

    return Faults(
        crash=rate(), refused=rate() / 2, lost=rate(), duplicate=rate(), stale=rate(), freeze=rate() / 2,
        jump=rate() / 4, budget=random.choice((0, 1, 2, 4, 8)),
    )  # fmt: skip


def _results(world: World, random: Random) -> None:
    """Two to five runs train on the same few versions of the data, each up to the trained model."""
    runs = [Run(f"run{number}", random.randrange(2), last="train") for number in range(random.randint(2, 5))]
    _run_all(world, runs)
    invariants.check_store(world)
    invariants.check_trained(world, runs)


def _promotions(world: World, random: Random) -> None:
    """Two to four runs of one model, which deploy at the same time, or one that is cleared after its end."""
    invariants.watch_aliases(world)
    runs = [
        Run(
            f"run{number}",
            random.randrange(6),
            hold=random.random() < 0.2,
            approved=random.random() < 0.7,
        )
        for number in range(random.randint(2, 4))
    ]
    if random.random() < 0.15:
        runs = [Run("run0", random.randrange(6), again=True)]
    _run_all(world, runs)
    invariants.check_end(world, runs)


def _operations(world: World, random: Random) -> None:
    """Runs that deploy while others roll back, promote, watch the registry or click in MLflow's pages."""
    invariants.watch_aliases(world)
    orchestrator = Orchestrator(world)
    first = [Run(f"first{number}", random.randrange(6)) for number in range(2)]
    budget, world.scheduler.faults.budget = world.scheduler.faults.budget, 0
    for run in first:
        orchestrator.start(run)
        world.scheduler.run()
    world.scheduler.faults.budget = budget
    runs = [Run(f"run{number}", random.randrange(6)) for number in range(random.randint(1, 2))]
    kinds = random.choices(("promote", "roll_back", "roll_back"), k=random.randint(1, 2))
    tasks: list[Run | Operator] = [*runs, *(Operator(f"operator{number}", kind) for number, kind in enumerate(kinds))]
    if random.random() < 0.4:
        start_watcher(world)
    if random.random() < 0.2:
        start_person(world)
    used = _run_all(world, tasks)
    start_watcher(world)
    world.scheduler.run()
    operators = [task for task in tasks if isinstance(task, Operator)]
    invariants.check_operators(world, operators, used)
    invariants.check_end(world, [*first, *runs])


def _retention(world: World, random: Random) -> None:
    """Old results are deleted while runs find or compute them."""
    orchestrator, revisions = Orchestrator(world), random.randint(1, 2)
    budget, world.scheduler.faults.budget = world.scheduler.faults.budget, 0
    for number in range(revisions):
        orchestrator.start(Run(f"old{number}", number, last="train"))
        world.scheduler.run()
    world.scheduler.now += 86_400.0 * random.choice((0.3, 0.6, 1.5, 3.0))
    world.scheduler.faults.budget = budget
    runs = [Run(f"run{number}", random.randrange(revisions), last="train") for number in range(random.randint(1, 3))]
    for _ in range(random.randint(1, 2)):
        start_prune(world)
    _run_all(world, runs)
    invariants.check_store(world)
    invariants.check_kept(world, runs)


def _messages(world: World, random: Random) -> None:
    """Two to five processes report events of one run, some twice and in another order."""
    events = messages.events_of(random)
    *early, end = events
    delivered = [*early, *(event for event in early if random.random() < 0.2)]
    random.shuffle(delivered)
    world.channel = channel = messages.Channel(world.scheduler)
    acknowledged: list[Any] = []
    workers = random.randint(2, 5)
    for worker in range(workers):
        share = delivered[worker::workers]
        world.scheduler.spawn(world.start("callbacks"), partial(_report_all, world, share, acknowledged))
    budget = world.scheduler.faults.budget
    world.scheduler.run()
    used, world.scheduler.faults.budget = budget - world.scheduler.faults.budget, 0
    world.scheduler.now += 120.0
    world.scheduler.spawn(world.start("end"), partial(messages.report, world, end, acknowledged))
    world.scheduler.run()
    messages.check_messages(world, channel, acknowledged, used)


def _report_all(world: World, events: list[Any], acknowledged: list[Any]) -> None:
    for event in events:
        world.scheduler.sleep(world.scheduler.random.choice((0.0, 0.0, 0.5)))
        messages.report(world, event, acknowledged)


def start_prune(world: World) -> None:
    """Start a process that deletes results older than a day."""

    def run() -> None:
        world.scheduler.sleep(world.scheduler.random.choice((0.0, 0.1, 1.0)))
        with suppress(PipelineError):
            prune(ArtifactStore(STORE), keep_days=1)

    world.scheduler.spawn(world.start("prune"), run)


def _run_all(world: World, tasks: Sequence[Run | Operator]) -> int:
    """Run with faults; then without faults, one after the other, what did not end. Return the number of faults."""
    orchestrator, budget = Orchestrator(world), world.scheduler.faults.budget
    _delay_faults(world)
    for task in tasks:
        _start(orchestrator, task)
    world.scheduler.run()
    faults, world.scheduler.faults.budget = budget - world.scheduler.faults.budget, 0
    for task in tasks:
        if not task.finished:
            _start(orchestrator, task)
            world.scheduler.run()
    return faults


def _delay_faults(world: World) -> None:
    """Let the faults begin at some time, so that they also meet the last steps of a run."""
    scheduler = world.scheduler
    faults, seconds = scheduler.faults, scheduler.random.choice((0.0, 0.0, 2.0, 5.0, 10.0, 15.0))
    budget, faults.budget = faults.budget, 0 if seconds else faults.budget

    def begin() -> None:
        scheduler.sleep(seconds)
        faults.budget = budget

    if seconds:
        scheduler.spawn(Process("faults", "", scheduler), begin)


def _start(orchestrator: Orchestrator, task: Run | Operator) -> None:
    if isinstance(task, Run):
        orchestrator.start(task)
    else:
        task.start(orchestrator)


SCENARIOS: dict[str, Callable[[World, Random], None]] = {
    "messages": _messages,
    "operations": _operations,
    "promotions": _promotions,
    "results": _results,
    "retention": _retention,
}
_WEIGHTS = (8, 1, 2, 4, 4)
