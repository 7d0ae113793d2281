from __future__ import annotations

from typing import Any

import pytest
from tests.step_values import split_record

from ml_pipelines.promotion.changes_since_champion import champion_changes, compared_rows


def record(**changes: Any) -> dict[str, Any]:
    features = [{"name": "x", "dtype": "integer"}, {"name": "plan", "dtype": "string"}]
    profile = {"x": {"mean": 1.0}, "plan": {"levels": {"free": 0.7, "pro": 0.3}, "missing": 0.0}}
    plain = {"split": split_record(), "classes": ["no", "yes"], "positive": "yes", "features": features}
    return {**plain, "profile": profile, **changes}


def test_equal_trainings_have_no_findings() -> None:
    assert list(champion_changes(record(), record())) == []


def features(**dtypes: str) -> list[dict[str, str]]:
    return [{"name": name, "dtype": dtype} for name, dtype in dtypes.items()]


@pytest.mark.parametrize(
    ("changes", "check", "column", "facts"),
    [
        ({"split": split_record(seed=7)}, "split_rule", None, ["seed 1 -> 7"]),
        ({"split": split_record(test=0.4, method="time")}, "split_rule", None, ["test 0.2 -> 0.4", "'time'"]),
        ({"split": split_record(key="email")}, "split_rule", None, ["'id' -> 'email'"]),
        ({"split": split_record(key_type="float")}, "key_type", "id", ["integer", "float"]),
        ({"classes": ["YES", "no", "yes"]}, "labels_changed", "label", ["'YES'"]),
        ({"positive": "no"}, "positive_changed", "label", ["'yes'", "'no'"]),
        ({"features": features(x="string", plan="string")}, "column_type", "x", ["integer", "string"]),
        ({"features": features(x="integer")}, "columns_changed", None, ["gone", "'plan'"]),
        (
            {"features": features(x="integer", plan="string", age="float")},
            "columns_changed",
            None,
            ["new", "'age'"],
        ),
        (
            {"profile": {"plan": {"levels": {"free": 0.7, "PRO": 0.3}}}},
            "levels_changed",
            "plan",
            ["new", "'PRO' (30.0%)"],
        ),
    ],
)
def test_a_change_since_the_champion_is_a_finding(
    changes: dict[str, Any], check: str, column: str | None, facts: list[str]
) -> None:
    findings = list(champion_changes(record(), record(**changes)))
    assert (findings[0].check, findings[0].column, findings[0].severity) == (check, column, "warn")
    assert all(fact in findings[0].detail for fact in facts)
    assert findings[0].remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"features": features(x="float", plan="string")},
        {"profile": {"plan": {"levels": {"free": 0.695, "pro": 0.3, "team": 0.005}}}},
        {"profile": {"plan": {"levels": {f"level {number}": 0.05 for number in range(20)}}}},
        {"split": split_record(limits={"": (1, 2)}, positive="no")},
    ],
)
def test_ordinary_changes_are_no_findings(changes: dict[str, Any]) -> None:
    assert list(champion_changes(record(), record(**changes))) == []


@pytest.mark.parametrize(
    ("rows", "error", "severities"),
    [(None, None, []), (200, None, []), (195, None, []), (100, None, ["warn"]), (None, "no record", ["hold"])],
)
def test_rows_that_the_champion_has_learned_from_are_a_finding(
    rows: int | None, error: str | None, severities: list[str]
) -> None:
    assert [finding.severity for finding in compared_rows(rows, 200, error)] == severities
