"""Metrics of `gate.report` are shown with the decision and take no part in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

CODE = """
import numpy as np


def profit(truth, predicted):
    return np.array([[0.0, -10.0], [0.0, 40.0]])[truth, predicted].mean()


def broken(truth, probability):
    raise ValueError("no <b>costs</b>")
"""
PROFIT = "shop_report:profit higher labels"
BROKEN = "shop_report:broken lower probabilities"
REPORT = [
    "brier",
    {"function": "shop_report:profit", "better": "higher", "needs": "labels"},
    {"function": "shop_report:broken", "better": "lower", "needs": "probabilities"},
]


def test_metrics_of_the_report_are_shown_and_decide_nothing(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "shop_report")
    monkeypatch.syspath_prepend(str(shop.folder))
    monkeypatch.delitem(__import__("sys").modules, "shop_report", raising=False)
    (shop.folder / "shop_report.py").write_text(CODE)
    model = {"name": "reporting", "task": "classification"}
    shop.declare(model=model)
    assert shop.run("plain").code == 0
    shop.declare(model=model, gate={"metric": "roc_auc", "report": REPORT})
    ran = shop.run("reported", "--force")
    assert ran.code == 0, ran.err
    plain, entry = (shop.ledger.entry("shop", name) for name in ("plain", "reported"))
    decision = entry.decision
    assert (plain.decision.outcome, decision.outcome) == ("promoted", "no_change")
    assert decision.report == ("brier", PROFIT)
    for metrics in (decision.metrics, decision.champion_metrics, decision.dummy_metrics):
        assert metrics[PROFIT] is not None
        assert BROKEN not in metrics
    assert decision.intervals[PROFIT].low < decision.metrics[PROFIT] < decision.intervals[PROFIT].high
    assert PROFIT in decision.champion_intervals
    assert decision.metrics["roc_auc"] == plain.decision.metrics["roc_auc"]
    assert decision.intervals["roc_auc"] == plain.decision.intervals["roc_auc"]
    (finding,) = [finding for finding in decision.findings if finding.check == "report_metric"]
    assert finding.severity == "warn"
    assert "ValueError: no <b>costs</b>" in finding.detail
    assert "profit" in ran.out
    assert "the metric broken of gate.report could not be computed" in " ".join(ran.out.split())
    report = Path(entry.details.report.uri.removeprefix("file://")).read_text()
    assert "Profit" in report
    assert "the metric broken of gate.report could not be computed" in report
    assert "<b>costs</b>" not in report
