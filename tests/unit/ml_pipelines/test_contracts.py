from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_pipelines.contracts import (
    ArtifactRef,
    Decision,
    Finding,
    Identity,
    RuleVerdict,
    SliceMetrics,
    StepRequest,
    StepResult,
    describe_validation_error,
)
from ml_pipelines.escaping import visible

REF = ArtifactRef(uri="file:///a.parquet", sha256="a" * 64, bytes=3, rows=1, kind="table")
TEXT = st.text(max_size=20)
VALUES = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)


@given(run_id=TEXT, values=VALUES, seed=st.integers())
def test_request_survives_json(run_id: str, values: dict[str, object], seed: int) -> None:
    request = StepRequest(
        step="train",
        parameters=values,
        inputs={"table": REF, "models": (REF, REF)},
        facts=values,
        seed=seed,
        store="file:///store",
        identity=Identity(pipeline="p", run_id=run_id, task_id="t", map_index=1),
    )
    assert StepRequest.model_validate_json(request.model_dump_json()) == request


@given(values=VALUES)
def test_result_survives_json(values: dict[str, object]) -> None:
    result = StepResult(step="train", key="b" * 64, status="computed", reason="miss", outputs={"t": REF}, values=values)
    assert StepResult.model_validate_json(result.model_dump_json()) == result


def test_number_that_is_not_finite_becomes_null() -> None:
    decision = Decision(outcome="held", model="m", reason="so", metrics={"r2": math.nan, "rmse": math.inf})
    assert Decision.model_validate_json(decision.model_dump_json()).metrics == {"r2": None, "rmse": None}


def test_contract_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        REF.uri = "file:///b"  # type: ignore[misc]


def test_describe_validation_error_is_one_line() -> None:
    with pytest.raises(ValidationError) as caught:
        ArtifactRef.model_validate({**REF.model_dump(), "sha256": "x", "size": 3})
    assert describe_validation_error(caught.value) == (
        "sha256: String should match pattern '^[0-9a-f]{64}$'; size: Extra inputs are not permitted"
    )
    with pytest.raises(ValidationError) as caught:
        ArtifactRef.model_validate_json("a: b")
    assert describe_validation_error(caught.value).startswith("Invalid JSON: ")


@given(text=st.text())
def test_a_decision_has_no_control_character_of_the_data(text: str) -> None:
    finding = Finding(check="c", column=text, severity="warn", detail=text, remedy=text)
    group = SliceMetrics(column=text, value=text, rows=1)
    rule = RuleVerdict(rule=text, passed=False, detail=text)
    fields = {"reason": text, "champion_error": text, "findings": (finding,), "slices": (group,), "rules": (rule,)}
    decision = Decision(outcome="held", model="m", **fields)
    stored = json.loads(decision.model_dump_json())
    texts = [
        stored["reason"],
        *stored["findings"][0].values(),
        stored["slices"][0]["value"],
        stored["rules"][0]["rule"],
    ]
    assert set(texts) <= {visible(text), "c", "warn"}
    assert "\x00" not in str(stored)
    assert Decision.model_validate(stored) == decision


@given(severities=st.lists(st.sampled_from(["error", "hold", "warn"])))
def test_the_findings_of_a_decision_are_sorted_by_severity(severities: list[str]) -> None:
    findings = [Finding(check=str(number), severity=severity, detail="d") for number, severity in enumerate(severities)]
    decision = Decision(outcome="held", model="m", reason="so", findings=findings)
    assert sorted(decision.findings, key=lambda finding: finding.check) == sorted(findings, key=lambda f: f.check)
    assert [finding.severity for finding in decision.findings] == sorted(severities)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
