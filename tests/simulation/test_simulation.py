"""Schedules of the simulated protocol: every invariant holds in each, and a seed replays its schedule."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.simulation.scenarios import SCENARIOS, simulate
from tests.simulation.world import simulated

SCHEDULES, CHUNKS = 20_000, 50


@pytest.fixture(autouse=True)
def _world() -> Iterator[None]:
    with simulated():
        yield
    gc.collect()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_invariant_holds(chunk: int) -> None:
    size = SCHEDULES // CHUNKS
    for seed in range(chunk * size, (chunk + 1) * size):
        try:
            simulate(seed)
        except AssertionError as exc:
            pytest.fail(f"seed {seed}: {exc}\nreplay it: python -m tests.simulation --replay {seed}")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_seed_replays_its_schedule(scenario: str) -> None:
    for seed in range(5):
        first, again = (simulate(seed, scenario, trace=True).scheduler for _ in range(2))
        assert first.trace == again.trace
        assert first.trace
