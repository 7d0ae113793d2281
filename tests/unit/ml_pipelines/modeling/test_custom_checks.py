"""Checks of a declaration that are functions of the table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_pipelines.contracts import Finding
from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.errors import SpecError, UserCodeError
from ml_pipelines.pipeline.step_parameters import CheckQualityParameters, PreprocessParameters
from ml_pipelines.spec.checks import Checks
from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, use_code_folder
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.steps.training.check_quality import check_quality
from ml_pipelines.steps.training.preprocess import preprocess

NAME = "shop_rules:rule"
TABLE = pl.DataFrame(
    {"id": range(100), "x": [float(row) for row in range(100)], "city": ["a", "b"] * 50, "y": [0, 1] * 50}
)
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the quality check with a custom check of this body."""
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_rules")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    monkeypatch.delitem(sys.modules, "shop_rules", raising=False)
    use_code_folder(tmp_path)

    def run(body: str, on_fail: str = "error") -> dict[str, Any]:
        header = "from ml_pipelines import Finding\n\ndef rule(frame):\n"
        (tmp_path / "shop_rules.py").write_text(f"{header}    {body}\n")
        checks = Checks.model_validate({"custom": [{"function": NAME, "on_fail": on_fail}]})
        parameters = CheckQualityParameters(task="classification", key="id", target="y", columns={}, checks=checks)
        assert parameters.code == (NAME,)
        output = check_quality(table=TABLE.lazy(), parameters=parameters, seed=0)
        report = QualityReport.model_validate(output.outputs["report"])
        (result,) = (result for result in report.checks if result.check == NAME)
        return {**output.outputs, "result": result, "report": report}

    return run


@pytest.mark.parametrize("body", ["return []", "return None", "return frame['x'] < 0", "yield from ()"])
def test_check_that_reports_nothing_passes(check: Check, body: str) -> None:
    actual = check(body)
    assert actual["result"].passed
    assert actual["report"].verdict == "passed"


def test_marked_rows_go_to_quarantine(check: Check) -> None:
    actual = check("return frame['x'] >= 97", "quarantine")
    assert (actual["result"].passed, actual["result"].rows) == (False, 3)
    flagged = actual["flagged"].collect()
    assert flagged["row"].to_list() == [97, 98, 99]
    assert set(flagged["reason"]) == {f"{NAME} marks the row"}
    rows = preprocess(
        table=TABLE.lazy(), flagged=actual["flagged"], parameters=PreprocessParameters(target="y"), seed=0
    )
    assert rows.outputs["clean"].collect()["id"].to_list() == list(range(97))


@pytest.mark.parametrize(("on_fail", "verdict"), [("error", "stopped"), ("hold", "passed"), ("warn", "passed")])
def test_text_has_the_declared_severity(check: Check, on_fail: str, verdict: str) -> None:
    actual = check("return ['rows are late']", on_fail)
    assert actual["report"].verdict == verdict
    (finding,) = (finding for finding in actual["report"].findings if finding.check == NAME)
    assert (finding.severity, finding.detail) == (on_fail, "rows are late")


def test_finding_has_its_own_severity(check: Check) -> None:
    body = "return [Finding(check='any', column='x', severity='warn', detail='x is odd', remedy='Look at it.')]"
    actual = check(body, "error")
    (finding,) = (finding for finding in actual["report"].findings if finding.check == NAME)
    assert finding == Finding(check=NAME, column="x", severity="warn", detail="x is odd", remedy="Look at it.")
    assert actual["report"].verdict == "passed"


@pytest.mark.parametrize(
    ("body", "on_fail"),
    [
        ("return [1]", "error"),
        ("return frame['x']", "error"),
        ("return (frame['x'] > 3)[::-1]", "error"),
        ("return (frame['x'] > 3).head(3)", "error"),
        ("return ['a text']", "quarantine"),
        ("return True", "error"),
    ],
)
def test_another_result_is_one_error(check: Check, body: str, on_fail: str) -> None:
    with pytest.raises(UserCodeError):
        check(body, on_fail)


def test_error_of_a_check_shows_the_users_line(check: Check) -> None:
    with pytest.raises(UserCodeError) as caught:
        check("yield frame['gone']")
    assert "shop_rules.py:4: KeyError" in caught.value.what


def test_check_does_not_change_the_table(check: Check) -> None:
    before = TABLE.clone()
    check("frame['x'] = 0.0")
    assert TABLE.equals(before)


def test_name_that_is_not_allowed_is_an_issue_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PACKAGES_VARIABLE, raising=False)
    text = """\
model: {name: churn, task: classification}
data: {file: {path: a.csv}, target: label, key: id}
features: {transform: shop_rules:change}
checks:
  custom:
    - function: shop_rules:rule
"""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, path="churn.yaml")
    places = [(issue.path, issue.line) for issue in caught.value.issues]
    assert places == [("features.transform", 3), ("checks.custom[0].function", 6)]
    assert all(PACKAGES_VARIABLE in issue.hint for issue in caught.value.issues)
