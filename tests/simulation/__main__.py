"""Run many schedules, or replay one: `python -m tests.simulation --schedules 1000000 --seed 0`, `--replay 4711`."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable

from tests.simulation.scenarios import SCENARIOS, simulate
from tests.simulation.world import simulated

_REPORT_SECONDS = 30.0
_COLLECT_EVERY = 500


def main() -> int:
    """Return 1 if an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000_000, help="number of schedules")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first schedule")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), help="only this scenario")
    parser.add_argument("--replay", type=int, metavar="SEED", help="show the events of one schedule")
    arguments = parser.parse_args()
    with simulated():
        if arguments.replay is not None:
            return _replay(arguments.replay, arguments.scenario)
        seeds = range(arguments.seed, arguments.seed + arguments.schedules)
        return _explore(seeds, arguments.scenario)


def _replay(seed: int, scenario: str | None) -> int:
    try:
        world, error = simulate(seed, scenario, trace=True), None
    except AssertionError as exc:
        world, error = exc.world, exc  # type: ignore[attr-defined]
    print("\n".join(world.scheduler.trace or ()))
    print(f"seed {seed}: {error or 'all invariants hold'}")
    return 1 if error else 0


def _explore(seeds: Iterable[int], scenario: str | None) -> int:
    started = reported = time.monotonic()
    gc.disable()  # a third of the time; collected by number instead
    done = 0
    for seed in seeds:
        try:
            simulate(seed, scenario)
        except AssertionError as exc:
            option = f" --scenario {scenario}" if scenario else ""
            print(f"seed {seed}: {exc}\nreplay it: python -m tests.simulation --replay {seed}{option}")
            return 1
        done += 1
        if done % _COLLECT_EVERY == 0:
            gc.collect()
        if time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            print(f"{done} schedules, {done / (reported - started):.0f} a second", flush=True)
    print(f"{done} schedules in {time.monotonic() - started:.0f} s: all invariants hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
