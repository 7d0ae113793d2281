"""Each planted bug is found: the invariants and scenarios are strong enough to see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulation.planted import FOLDER, load, planted
from tests.simulation.scenarios import simulate
from tests.simulation.world import simulated

PATCHES = sorted(FOLDER.glob("*.patch"))
MOST_SCHEDULES = 1500


def test_there_are_at_least_twenty_bugs() -> None:
    assert len(PATCHES) >= 20


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_planted_bug_is_found(path: Path) -> None:
    bug = load(path)
    with simulated(), planted(bug):
        for seed in range(MOST_SCHEDULES):
            try:
                simulate(seed, bug.scenario)
            except AssertionError:
                return
    pytest.fail(f"{bug.description} No invariant saw it in {MOST_SCHEDULES} schedules of {bug.scenario}.")


def test_the_product_has_no_bug_after_a_patch_is_removed() -> None:
    bug = load(PATCHES[0])
    with simulated():
        with planted(bug):
            pass
        simulate(0, bug.scenario)
