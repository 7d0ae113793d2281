from __future__ import annotations

import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.reporting.figure_export import export_figures

BINARY = TargetSchema("classification", ("good", "bad"), "bad")
REGRESSION = TargetSchema("regression")
SVG = "{http://www.w3.org/2000/svg}"
TRUTH = np.array([0, 1] * 50)


def candidate(target: TargetSchema, truth: np.ndarray, score: np.ndarray, name: str = "tree") -> dict:
    return {"candidate": name, **curves_and_confusion(target, truth, score)}


@pytest.fixture
def binary() -> dict:
    return candidate(BINARY, TRUTH, np.linspace(0, 1, 100))


def parsed(drawing: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)  # noqa: S314  trusted


def draw(entry: dict) -> dict[str, bytes]:
    return export_figures({"test": {}, **entry}, {"average_precision": 0.5})


def test_export_figures_returns_four_svg_files_of_a_binary_model(binary: Any) -> None:
    files = draw(binary)
    assert set(files) == {"roc.svg", "precision_recall.svg", "calibration.svg", "confusion.svg"}
    for data in files.values():
        root = parsed(data)
        assert root.tag == f"{SVG}svg"
        # Image viewers need a size.
        assert (root.get("width"), root.get("height")) == ("720", "540")
        assert "--candidate" in (root.findtext(f"{SVG}style") or "")


def test_export_figures_returns_the_residuals_of_a_regression() -> None:
    truth = np.linspace(0, 9, 50)
    assert set(draw(candidate(REGRESSION, truth, truth + 1))) == {"residuals.svg"}


def test_export_figures_returns_the_confusion_matrix_of_many_classes() -> None:
    target = TargetSchema("classification", tuple("abcde$"))
    assert set(draw(candidate(target, np.arange(6), np.eye(6)))) == {"confusion.svg"}


def test_export_figures_omits_the_curves_of_a_single_class() -> None:
    files = draw(candidate(BINARY, np.zeros(5), np.zeros(5)))
    assert set(files) == {"confusion.svg"}


def test_export_figures_is_deterministic(binary: Any) -> None:
    assert draw(binary) == draw(binary)
    other = candidate(BINARY, TRUTH, np.linspace(1, 0, 100))
    assert draw(binary)["roc.svg"] != draw(other)["roc.svg"]


def test_export_figures_escapes_class_names() -> None:
    target = TargetSchema("classification", ("<script>", "a&b", "c"))
    root = parsed(draw(candidate(target, np.arange(3), np.eye(3)))["confusion.svg"])
    assert {"<script>", "a&b", "c"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_export_figures_draws_the_curve_and_the_base_rate(binary: Any) -> None:
    root = parsed(draw(binary)["precision_recall.svg"])
    lines = {line.get("class"): line.get("points") or "" for line in root.iter(f"{SVG}polyline")}
    assert len(lines["line candidate"].split()) == len(binary["curves"]["pr"]["x"])
    (_, left), (_, right) = (point.split(",") for point in lines["line reference"].split())
    assert left == right


def test_figure_export_does_not_import_numpy() -> None:
    code = "import sys, ml_pipelines.reporting.figure_export; assert not {'matplotlib', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
