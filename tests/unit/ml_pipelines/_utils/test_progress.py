from __future__ import annotations

import logging

import pytest

from ml_pipelines._utils.progress import progress_logger


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_logged_every_five_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    log_progress = progress_logger("writing table", "rows", 10_000, clock=clock)
    for second in (2.0, 4.0, 5.0, 9.0, 11.0):
        clock.now = 100 + second
        log_progress(1_000)
    assert caplog.messages == [
        "writing table: 3,000 of 10,000 (30%) rows, 600 per second",
        "writing table: 5,000 of 10,000 (50%) rows, 455 per second",
    ]


def test_progress_of_unknown_total_has_no_share(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    log_progress = progress_logger("copying", "bytes", clock=clock)
    clock.now += 10
    log_progress(2_000_000)
    assert caplog.messages == ["copying: 2,000,000 bytes, 200,000 per second"]
