"""Tests of one file go on from each other here, so they run in one process and in their order."""

from __future__ import annotations

import pytest


def test_the_tests_of_a_file_are_one_group(request: pytest.FixtureRequest) -> None:
    # pytest-xdist notes the group in a test's id.
    grouped = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@test_order") is bool(grouped)
