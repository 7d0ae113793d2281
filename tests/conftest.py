"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in each run, so that a failure can be repeated. `--hypothesis-profile=random` searches new ones.
# No deadline, because the time of an example depends on the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", derandomize=False, deadline=None)
settings.load_profile("repeatable")

INTEGRATION = Path(__file__).with_name("integration")


# Before pytest-xdist, which reads the groups in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests of one file run in one process and in their order: they share servers, and go on from each other."""
    for item in items:
        if item.path.is_relative_to(INTEGRATION) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(name=item.path.stem))
