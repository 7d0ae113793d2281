from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ml_pipelines.data.check_results import CheckResult, QualityReport


def result(check="missing", column="x", severity="error", passed=False):
    return CheckResult(check=check, column=column, severity=severity, passed=passed, detail="a sentence")


def report(*checks):
    return QualityReport(verdict="stopped", rows=3, quarantined=1, checks=checks)


def test_check_result_name_has_the_column():
    assert result().name == "x: missing"
    assert result(check="rows", column=None).name == "rows"


def test_quality_report_separates_failures_and_warnings():
    checks = [
        result(severity=severity, passed=passed)
        for severity in ("error", "warn", "quarantine")
        for passed in (True, False)
    ]
    document = report(*checks)
    assert document.failures == [checks[1]]
    assert document.warnings == [checks[3]]


def test_quality_report_survives_json():
    document = report(result())
    assert QualityReport.model_validate(json.loads(document.model_dump_json())) == document
    assert QualityReport.model_validate(document.model_dump(mode="json")) == document


def test_quality_report_refuses_an_unknown_verdict():
    with pytest.raises(ValidationError):
        QualityReport(verdict="maybe", rows=0, quarantined=0, checks=())
