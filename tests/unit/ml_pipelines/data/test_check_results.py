from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ml_pipelines.contracts import Finding
from ml_pipelines.data.check_results import MAX_FINDINGS, CheckResult, QualityReport


def result(check="missing", column="x", severity="error", passed=False, remedy=""):
    return CheckResult(check=check, column=column, severity=severity, passed=passed, detail="a sentence", remedy=remedy)


def report(*checks):
    return QualityReport(verdict="stopped", rows=3, quarantined=1, checks=checks)


def test_check_result_name_has_the_column():
    assert result().name == "x: missing"
    assert result(check="rows", column=None).name == "rows"


def test_quality_report_separates_failures_and_warnings():
    checks = [
        result(severity=severity, passed=passed)
        for severity in ("warn", "quarantine", "hold", "error")
        for passed in (True, False)
    ]
    document = report(*checks)
    assert document.failures == [checks[7]]
    assert document.holds == [checks[5]]
    assert document.warnings == [checks[1]]


def test_the_findings_of_a_report_are_its_failed_checks_the_most_severe_first():
    checks = [
        result(check=severity, severity=severity, passed=passed, remedy="fix it")
        for severity in ("warn", "quarantine", "hold", "error")
        for passed in (True, False)
    ]
    assert report(*checks).findings == tuple(
        Finding(check=severity, column="x", severity=severity, detail="a sentence", remedy="fix it")
        for severity in ("error", "hold", "warn")
    )
    assert report(*checks).findings[0].name == checks[7].name


def test_quality_report_survives_json():
    document = report(result())
    assert QualityReport.model_validate(json.loads(document.model_dump_json())) == document
    assert QualityReport.model_validate(document.model_dump(mode="json")) == document


def test_quality_report_refuses_an_unknown_verdict():
    with pytest.raises(ValidationError):
        QualityReport(verdict="maybe", rows=0, quarantined=0, checks=())


def test_the_findings_of_a_report_do_not_grow_with_the_number_of_columns():
    findings = report(*(result(column=f"c{number}", severity="warn") for number in range(5000)), result()).findings
    assert [finding.severity for finding in findings] == ["error", *["warn"] * MAX_FINDINGS]
    assert findings[-1].column is None
    assert str(5001 - MAX_FINDINGS) in findings[-1].detail
