"""A candidate that fails does not stop the others, is shown everywhere, and is tried again by the next run."""

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

CODE = '''
from pathlib import Path

from sklearn.linear_model import LogisticRegression


class Faulty(LogisticRegression):
    """Fails in one phase, while the file `broken` is beside this module."""

    def __init__(self, fails_in="fit", C=1.0):
        super().__init__(C=C)
        self.fails_in = fails_in

    def fail(self, phase):
        if phase == self.fails_in and Path(__file__).with_name("broken").exists():
            raise ZeroDivisionError("<b>no</b>\\nreason")

    def fit(self, X, y, sample_weight=None):
        self.fail("fit")
        return super().fit(X, y, sample_weight)

    def predict_proba(self, X):
        if 70 <= len(X) <= 100:  # the test rows, but neither the training nor the validation rows
            self.fail("predict")
        return super().predict_proba(X)
'''
LINEAR = {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}
# Valid values that do not fit together, which only `fit` finds.
BAD = {
    "name": "bad",
    "estimator": "sklearn.linear_model.LogisticRegression",
    "params": {"solver": "lbfgs", "l1_ratio": 1.0},
}


def faulty(name: str, fails_in: str) -> dict[str, Any]:
    return {"name": name, "estimator": "shop_faulty.Faulty", "params": {"fails_in": fails_in}}


@pytest.fixture
def broken(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that lets the classes beside the declaration fail."""
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "shop_faulty")
    monkeypatch.setenv("ML_PIPELINES_TRUSTED_TYPES", "shop_faulty.Faulty")
    monkeypatch.syspath_prepend(str(shop.folder))
    monkeypatch.delitem(__import__("sys").modules, "shop_faulty", raising=False)
    (shop.folder / "shop_faulty.py").write_text(CODE)
    path: Path = shop.folder / "broken"
    path.write_text("")
    return path


def declare(shop: Any, model: str, *candidates: dict[str, Any]) -> None:
    shop.declare(
        model={"name": model, "task": "classification"},
        candidates=candidates,
        gate={"metric": "roc_auc", "lift_over_dummy": 0, "improvement": -1, "non_inferiority": 1},
    )


def statuses(shop: Any, run_id: str) -> dict[str, str]:
    """Statuses of the trainings and the evaluation."""
    results = [record.result for record in shop.store.run("shop", run_id)]
    return {
        str(result.values.get("candidate", result.step)): result.status
        for result in results
        if result.step in ("train", "evaluate")
    }


def test_a_run_continues_without_the_candidates_that_fail(shop: Any, broken: Path) -> None:
    declare(shop, "failing", LINEAR, faulty("in_fit", "fit"), faulty("in_predict", "predict"), BAD)
    ran = shop.run("first")
    assert (ran.code, shop.outcome("first")) == (0, "promoted"), ran.err
    assert "Traceback" not in ran.err
    assert statuses(shop, "first") == {
        "linear": "computed",
        "in_fit": "failed",
        "in_predict": "computed",
        "bad": "failed",
        "evaluate": "partial",
    }
    decision = shop.ledger.entry("shop", "first").decision
    assert decision.candidate == "linear"
    errors = {failure.candidate: failure.error for failure in decision.failures}
    assert list(errors) == ["in_fit", "bad", "in_predict"]
    assert "shop_faulty.py:" in errors["in_fit"]
    assert "ZeroDivisionError: <b>no</b> reason" in errors["in_predict"]
    assert [finding.check for finding in decision.findings] == ["candidate_failed"] * 3
    assert all(finding.severity == "warn" and finding.remedy for finding in decision.findings)
    card = " ".join(ran.out.split())
    assert "in_fit failed" in card
    assert "linear is the only candidate that did not fail" in card
    history = shop.command("history", "failing").out
    report = Path(shop.ledger.entry("shop", "first").details.report.uri.removeprefix("file://")).read_text()
    for name in errors:
        assert f"the candidate {name} failed" in card
        assert f"the candidate {name} failed" in " ".join(history.split())
        assert f"the candidate {name} failed" in report
    assert "<b>no</b>" not in report

    again = shop.run("again")
    assert (again.code, shop.outcome("again")) == (0, "no_change"), again.err
    assert statuses(shop, "again") == {
        "linear": "cached",
        "in_fit": "failed",
        "in_predict": "cached",
        "bad": "failed",
        "evaluate": "partial",
    }
    assert "in_fit" in shop.records("again")["compare_with_champion"].result.values["reason"]

    broken.unlink()
    assert shop.run("fixed").code == 0
    assert statuses(shop, "fixed") == {
        "linear": "cached",
        "in_fit": "computed",
        "in_predict": "cached",
        "bad": "failed",
        "evaluate": "computed",
    }
    failures = shop.ledger.entry("shop", "fixed").decision.failures
    assert [failure.candidate for failure in failures] == ["bad"]


def test_a_run_stops_with_all_errors_if_all_candidates_fail(shop: Any, broken: Path) -> None:
    declare(shop, "all-failing", faulty("in_fit", "fit"), faulty("in_predict", "predict"))
    ran = shop.run("first")
    assert ran.code == 1
    assert "ModelError: all candidates failed" in ran.err
    assert "in_fit, training: shop_faulty.Faulty can't be fitted" in ran.err
    assert "in_predict, evaluation: the model fails to predict" in ran.err
    assert "Traceback" not in ran.err
    assert shop.ledger.entry("shop", "first") is None
