from __future__ import annotations

import pytest

from ml_pipelines.spec.difference_limits import as_share


@pytest.mark.parametrize(("lift", "share"), [(0.01, None), (0, None), ("1%", 0.01), ("-2.5%", -0.025), ("+100%", 1.0)])
def test_as_share(lift: float | str, share: float | None) -> None:
    assert as_share(lift) == share
