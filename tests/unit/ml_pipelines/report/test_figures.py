from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from ml_pipelines.report.figures import figures
from ml_pipelines.scoring import Problem, describe

BINARY = Problem("classification", ("good", "bad"), "bad")
REGRESSION = Problem("regression")
TRUTH = np.array([0, 1] * 50)


def candidate(problem: Problem, truth: np.ndarray, score: np.ndarray, name: str = "tree") -> dict:
    return {"candidate": name, **describe(problem, truth, score)}


@pytest.fixture
def binary() -> dict:
    return candidate(BINARY, TRUTH, np.linspace(0, 1, 100))


def test_two_classes_have_four_figures_that_are_png(binary: Any) -> None:
    drawn = figures(binary)
    assert set(drawn) == {"roc.png", "precision_recall.png", "calibration.png", "confusion.png"}
    for data in drawn.values():
        assert data.startswith(b"\x89PNG\r\n\x1a\n")


def test_a_regression_has_its_residuals() -> None:
    truth = np.linspace(0, 9, 50)
    assert set(figures(candidate(REGRESSION, truth, truth + 1))) == {"residuals.png"}


def test_many_classes_have_their_confusion() -> None:
    problem = Problem("classification", tuple("abcde$"))
    assert set(figures(candidate(problem, np.arange(6), np.eye(6)))) == {"confusion.png"}


def test_a_single_class_has_no_curves() -> None:
    drawn = figures(candidate(BINARY, np.zeros(5), np.zeros(5)))
    assert set(drawn) == {"confusion.png"}


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(binary: Any) -> None:
    assert figures(binary) == figures(binary)
    other = candidate(BINARY, TRUTH, np.linspace(1, 0, 100))
    assert figures(binary)["roc.png"] != figures(other)["roc.png"]


def test_a_name_may_hold_dollars() -> None:
    assert figures(candidate(REGRESSION, np.arange(3.0), np.arange(3.0), name="$x^$ \\frac"))


def test_a_figure_shows_the_curve(binary: Any) -> None:
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(figures(binary)["roc.png"]))
    assert pixels.shape[:2] == (440, 550)
    coloured = (pixels[..., :3].max(axis=-1) - pixels[..., :3].min(axis=-1)) > 0.3
    assert coloured.any()


def test_importing_it_does_not_import_matplotlib() -> None:
    code = "import sys, ml_pipelines.report.figures; assert not {'matplotlib', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
