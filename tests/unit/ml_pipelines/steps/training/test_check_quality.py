from __future__ import annotations

import json
import math
from datetime import date
from importlib.resources import files

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import CheckQualityParameters, IngestParameters
from ml_pipelines.spec.training import Checks, Column, FileSource
from ml_pipelines.steps.training.check_quality import check_quality
from ml_pipelines.steps.training.ingest import ingest

SAMPLES = files("ml_pipelines") / "sample_data"


def check(frame, *, columns=None, checks=None, key="id", target="y", task="classification"):
    columns = {name: Column(**column) for name, column in (columns or {}).items()}
    parameters = CheckQualityParameters(
        task=task, key=key, target=target, columns=columns, checks=Checks.model_validate(checks or {})
    )
    output = check_quality(table=frame.lazy(), parameters=parameters, seed=0)
    assert json.loads(json.dumps(output.outputs["report"], allow_nan=False)) == output.outputs["report"]
    return output


def line(output, name, column=None):
    found = [each for each in output.outputs["report"]["checks"] if (each["check"], each["column"]) == (name, column)]
    assert len(found) == 1
    return found[0]


def flagged(output):
    frame = output.outputs["flagged"].collect()
    assert frame.schema == {"row": pl.UInt32, "reason": pl.String}
    return frame.rows()


def table(rows=40, **columns):
    """A table that passes: a key, two classes, and one number."""
    base = {
        "id": [f"C{row}" for row in range(rows)],
        "x": [float(row % 7) for row in range(rows)],
        "y": [row % 2 for row in range(rows)],
    }
    return pl.DataFrame(base | columns, strict=False)


def test_a_good_table_passes():
    output = check(table(), columns={"x": {"type": "float", "min": 0, "max": 6}})
    assert output.values == {"verdict": "passed", "rows": 40, "quarantined": 0, "failed": [], "warnings": []}
    assert all(each["passed"] for each in output.outputs["report"]["checks"])
    assert flagged(output) == []


BROKEN = {
    "min": ({"type": "float", "min": 0}, "x is not at least 0 in 1 of 40 rows: -1.0 (row 3)"),
    "max": ({"type": "float", "max": 6.5}, "x is not at most 6.5 in 1 of 40 rows: 7.0 (row 5)"),
    "above": ({"type": "float", "above": -1}, "x is not above -1 in 1 of 40 rows: -1.0 (row 3)"),
    "below": ({"type": "float", "below": 7}, "x is not below 7 in 1 of 40 rows: 7.0 (row 5)"),
    "allowed": (
        {"type": "float", "allowed": [*range(7), -1]},
        "x is not one of 0, 1, 2, 3, 4, 5, 6, -1 in 1 of 40 rows: 7.0 (row 5)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("severity", ["error", "warn", "quarantine"])
def test_a_broken_cell_rule_does_what_its_severity_says(name, severity):
    column, detail = BROKEN[name]
    values = [float(row % 7) for row in range(40)]
    values[3], values[5], values[8], values[9] = -1.0, 7.0, None, math.nan
    output = check(table(x=values), columns={"x": {**column, "on_fail": severity}})
    found = line(output, name, "x")
    assert (found["passed"], found["rows"], found["severity"]) == (False, 1, severity)
    assert found["detail"].startswith(detail)
    row = 3 if "-1.0" in detail else 5
    expected = {
        "error": ("stopped", [f"x: {name}"], [], []),
        "warn": ("passed", [], [f"x: {name}"], []),
        "quarantine": ("passed", [], [], [(row, detail.split(" in 1 of")[0])]),
    }[severity]
    got = (output.values["verdict"], output.values["failed"], output.values["warnings"], flagged(output))
    assert got == expected
    assert output.values["quarantined"] == len(expected[3])


def test_the_detail_shows_three_examples_and_what_to_do():
    output = check(table(x=[-1.0] * 40), columns={"x": {"type": "float", "min": 0}})
    assert line(output, "min", "x")["detail"] == (
        "x is not at least 0 in 40 of 40 rows: -1.0 (row 0), -1.0 (row 1), -1.0 (row 2). "
        "Correct them at the source, or change the rule or its on_fail."
    )


@pytest.mark.parametrize(
    ("pattern", "broken"),
    [(r"[A-Z]{2}", ["ü", "AB1", "ab", "AB\n", "größe"]), (r"\p{Lu}\w+|x", ["ab", "ÄB\n", "", " x"])],
)
def test_a_pattern_must_match_the_whole_text(pattern, broken):
    good = ["AB"] * (40 - len(broken))
    column = {"type": "string", "pattern": pattern, "on_fail": "quarantine"}
    output = check(table(s=[*broken, *good]), columns={"s": column})
    assert [row for row, _ in flagged(output)] == list(range(len(broken)))
    assert flagged(output)[0][1] == f"s does not match {pattern}"


@pytest.mark.parametrize("rule", [{"pattern": "(?=a)"}, {"pattern": "("}, {"min": 3}])
def test_a_rule_that_can_not_be_applied_is_an_error(rule):
    with pytest.raises(DataError, match=f"the rule '{next(iter(rule))}' can't be applied to the column 'id'") as caught:
        check(table(), columns={"id": {"type": "string", **rule}})
    assert caught.value.where == f"data.columns.id.{next(iter(rule))}"
    assert "correct the rule" in caught.value.fix


def test_allowed_values_are_compared_in_the_type_of_the_column():
    frame = table(s=["1"] * 40, b=[True] * 40).with_columns(day=pl.date(2026, 10, 31))
    columns = {
        "s": {"type": "string", "allowed": [1]},
        "b": {"type": "boolean", "allowed": [True]},
        "day": {"type": "date", "allowed": ["2026-10-31"]},
    }
    assert check(frame, columns=columns).values["failed"] == []


def test_rows_are_told_by_their_position_across_batches(monkeypatch):
    monkeypatch.setattr("ml_pipelines.data.cell_checks._BATCH_ROWS", 7)
    values = [-1.0 if row in (6, 7, 39) else 1.0 * (row % 3) for row in range(40)]
    output = check(
        table(x=values),
        columns={"x": {"type": "float", "min": 0, "on_fail": "quarantine"}},
        checks={"max_quarantined": 1},
    )
    assert [row for row, _ in flagged(output)] == [6, 7, 39]
    assert "-1.0 (row 6), -1.0 (row 7), -1.0 (row 39)" in line(output, "min", "x")["detail"]


def test_cells_that_could_not_be_read_break_the_type_of_their_own_column_only():
    unparsed = [None] * 40
    unparsed[2], unparsed[4] = "x: 'a' is not a float; xx: 'b' is not an integer", "xx: 'x: ' is not an integer"
    frame = table(
        x=[None if row == 2 else row % 5 * 1.0 for row in range(40)],
        xx=[None if row in (2, 4) else row % 4 for row in range(40)],
        _bad_cells=unparsed,
    )
    columns = {"x": {"type": "float", "on_fail": "quarantine"}, "xx": {"type": "integer", "on_fail": "warn"}}
    output = check(frame, columns=columns)
    assert flagged(output) == [(2, "x is not a float")]
    assert line(output, "type", "xx")["rows"] == 2
    assert output.values["warnings"] == ["xx: type"]


@pytest.mark.parametrize(
    ("rules", "passed", "detail"),
    [
        ({}, True, "there are 40 rows; expected are at least 1"),
        ({"min": 41}, False, "there are 40 rows; expected are at least 41. Was the delivery cut off?"),
        ({"max": 39}, False, "there are 40 rows; expected are at least 1 and at most 39. Was it delivered twice?"),
    ],
)
def test_the_number_of_rows(rules, passed, detail):
    found = line(check(table(), checks={"rows": rules}), "rows")
    assert (found["passed"], found["detail"]) == (passed, detail)


def test_the_missing_share_of_each_column():
    frame = table(
        a=[None if row < 30 else row for row in range(40)],
        x=[math.nan if row < 4 else row % 3 * 1.0 for row in range(40)],
    )
    output = check(frame, columns={"x": {"type": "float", "max_missing": 0.05}})
    assert output.values["failed"] == ["x: missing", "a: missing"]
    assert line(output, "missing", "a")["value"] == 0.75
    assert line(output, "missing", "x")["detail"].startswith(
        "x is missing in 4 of 40 rows (10.0%); at most 5.0% may be"
    )


def test_missing_cells_that_a_column_does_not_allow_can_be_set_aside():
    frame = table(x=[None if row == 3 else row % 3 * 1.0 for row in range(40)])
    output = check(frame, columns={"x": {"type": "float", "max_missing": 0, "on_fail": "quarantine"}})
    assert flagged(output) == [(3, "x is missing")]


def test_an_empty_column_is_an_error_unless_it_may_be():
    frame = table().with_columns(a=pl.lit(None, dtype=pl.String))
    output = check(frame, checks={"missing": {"on_fail": "warn"}})
    assert output.values["failed"] == ["a: missing"]
    assert line(output, "missing", "a")["detail"].endswith("Drop it with data.ignore, or set max_missing: 1.")
    needed = check(table(y=pl.Series([None] * 40, dtype=pl.Int64)))
    assert "data.ignore" not in line(needed, "missing", "y")["detail"]
    assert check(frame, columns={"a": {"type": "string", "max_missing": 1}}).values["verdict"] == "passed"


@pytest.mark.parametrize("partition", [7, 1_000_000])
def test_duplicate_keys_keep_the_first(monkeypatch, partition):
    monkeypatch.setattr("ml_pipelines.data.duplicate_keys._ROWS_PER_PART", partition)
    keys = [f"C{row % 20}" if row >= 38 else f"C{row}" for row in range(40)]
    output = check(table(id=keys), checks={"duplicate_keys": {"on_fail": "quarantine"}})
    assert flagged(output) == [(38, "id occurred before"), (39, "id occurred before")]
    output = check(table(id=keys))
    assert output.values["failed"] == ["id: duplicate_keys"]
    assert "id occurred before in 2 of 40 rows: " in line(output, "duplicate_keys", "id")["detail"]


@pytest.mark.parametrize("name", ["key", "rows", "first", "len", "label", "count", "row", "reason"])
def test_names_of_columns_do_not_matter(name):
    frame = table()
    assert check(frame.rename({"id": name}), key=name).values["verdict"] == "passed"
    assert check(frame.rename({"y": name}), target=name).values["verdict"] == "passed"


def test_missing_keys_are_an_error():
    output = check(table(id=[None, None, *range(38)]))
    assert output.values["failed"] == ["id: missing_keys"]
    assert line(output, "duplicate_keys", "id")["passed"]


def test_infinite_numbers_are_set_aside():
    values = [row % 3 * 1.0 for row in range(40)]
    values[5], values[6] = math.inf, -math.inf
    output = check(table(x=values))
    assert flagged(output) == [(5, "x is infinite"), (6, "x is infinite")]
    assert output.values["failed"] == []


def test_the_reasons_of_a_row_are_joined():
    values = [row % 3 * 1.0 for row in range(40)]
    values[5] = math.inf
    output = check(table(x=values), columns={"x": {"type": "float", "max": 9, "on_fail": "quarantine"}})
    assert flagged(output) == [(5, "x is infinite; x is not at most 9")]
    assert output.values["quarantined"] == 1


def test_too_many_rows_set_aside_stop_the_run():
    values = [-1.0 if row < 3 else row % 3 * 1.0 for row in range(40)]
    column = {"type": "float", "min": 0, "on_fail": "quarantine"}
    output = check(table(x=values), columns={"x": column})
    assert output.values["verdict"] == "stopped"
    assert output.values["failed"] == ["max_quarantined"]
    assert line(output, "max_quarantined")["detail"].startswith("3 of 40 rows (7.50%) are set aside; at most 5.00% may")
    assert check(table(x=values), columns={"x": column}, checks={"max_quarantined": 0.075}).values["failed"] == []


def test_a_constant_column_warns():
    assert check(table(x=[1.5] * 40)).values["warnings"] == ["x: constant"]


@pytest.mark.parametrize(
    ("labels", "detail"),
    [([1] * 40, "the target y has only the class 1"), ([None] * 40, "the target y has no class")],
)
def test_a_single_class_is_always_an_error(labels, detail):
    output = check(table(y=labels), checks={"labels": {"on_fail": "warn"}})
    assert "y: labels" in output.values["failed"]
    assert line(output, "labels", "y")["detail"].startswith(detail)


def test_a_rare_class_is_told_with_its_share():
    labels = ["rare"] + ["often"] * 38 + [None]
    output = check(table(y=labels), checks={"labels": {"min_share": 0.05, "on_fail": "warn"}})
    assert output.values["warnings"] == ["y: labels"]
    assert "the rarest of 2 classes is 'rare' with 1 rows (2.56%)" in line(output, "labels", "y")["detail"]


def test_a_constant_target_of_a_regression_is_an_error():
    assert check(table(y=[1.5] * 40), task="regression").values["failed"] == ["y: labels"]
    assert check(table(y=[row * 1.0 for row in range(40)]), task="regression").values["failed"] == []


LABELS = np.arange(400) % 2
NOISE = np.random.default_rng(0).normal(size=400)
LEAKS = {
    "the label itself": (LABELS * 1.0).tolist(),
    "a falling function of it": (5.0 - LABELS + NOISE / 1000).tolist(),
    "text": np.where(LABELS == 1, "left", "stayed").tolist(),
    "being there at all": [float(value) if label else None for value, label in zip(NOISE, LABELS, strict=True)],
    "a flag": (LABELS == 0).tolist(),
    "high or missing": [9.0 + row if row % 4 == 1 else None if row % 4 == 3 else NOISE[row] for row in range(400)],
}
HARMLESS = {
    "noise": NOISE.tolist(),
    "a few lucky values": [1.0 if row in (1, 3) else None for row in range(400)],
    "text with a level a row": [f"v{row}" for row in range(400)],
}


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("labels", [LABELS, LABELS + np.arange(400) // 399 * 2], ids=["binary", "multiclass"])
def test_a_column_that_knows_the_answer_is_told(name, labels):
    output = check(table(400, y=labels.tolist(), leak=LEAKS[name]))
    assert output.values["warnings"] == ["leak: leakage"]
    assert line(output, "leakage", "leak")["value"] >= 0.99
    assert "leak alone tells y with a strength of" in line(output, "leakage", "leak")["detail"]


def test_a_column_that_is_low_for_one_of_three_classes_is_told():
    labels = np.where(LABELS == 1, "stayed", np.where(NOISE > 0, "left", "moved"))
    leak = (LABELS == 0) * 100 + np.roll(NOISE, 1)
    output = check(table(400, y=labels.tolist(), leak=leak.tolist()))
    assert output.values["warnings"] == ["leak: leakage"]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_column_that_does_not_know_the_answer_passes(name):
    checks = {"missing": {"max_share": 1.0}}
    output = check(table(400, x=NOISE.tolist(), y=LABELS.tolist(), other=HARMLESS[name]), checks=checks)
    assert line(output, "leakage")["passed"]


@pytest.mark.parametrize("cells", [["low", "high"] * 20, [date(2026, 1, 1), date(2026, 1, 2)] * 20])
def test_a_target_of_a_regression_that_is_no_number_is_an_error(cells):
    output = check(table(y=cells), task="regression")
    assert output.values["failed"] == ["y: labels"]
    assert "a regression learns numbers. Set model.task to classification" in line(output, "labels", "y")["detail"]


def test_leakage_in_a_regression_is_a_rank_correlation():
    target = NOISE.tolist()
    output = check(table(400, y=target, leak=np.exp(-NOISE).tolist()), task="regression")
    assert output.values["warnings"] == ["leak: leakage"]
    assert line(output, "leakage", "leak")["value"] == pytest.approx(1)


def test_the_single_column_auc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    values = np.round(NOISE + LABELS, 1)
    output = check(pl.DataFrame({"x": values, "y": LABELS}), key=None)
    assert line(output, "leakage")["value"] == pytest.approx(roc_auc_score(LABELS, values))


def test_a_large_table_is_judged_by_a_sample_of_it(monkeypatch):
    monkeypatch.setattr("ml_pipelines.steps.training.check_quality.MAX_SAMPLE_ROWS", 100)
    output = check(table(400, y=LABELS.tolist(), leak=LEAKS["text"]))
    assert output.values["warnings"] == ["leak: leakage"]
    assert output.values == check(table(400, y=LABELS.tolist(), leak=LEAKS["text"])).values


def test_one_row_is_judged_without_a_crash():
    output = check(table(1))
    assert output.values["failed"] == ["y: labels"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.none() | st.floats(-3, 3) | st.just(math.inf), min_size=1, max_size=60))
def test_exactly_the_rows_that_break_a_rule_are_set_aside(values):
    frame = pl.DataFrame({"x": values, "y": [0] * len(values)}, schema={"x": pl.Float64, "y": pl.Int64})
    output = check(frame, key=None, columns={"x": {"type": "float", "min": 0, "on_fail": "quarantine"}})
    broken = {row for row, value in enumerate(values) if value is not None and (value < 0 or value == math.inf)}
    assert {row for row, _ in flagged(output)} == broken
    assert output.values["quarantined"] == len(broken)


def ingested(name, *, target, key=None, types=None):
    parameters = IngestParameters(source=FileSource(path="x"), types=types or {}, key=key, target=target, ignore=())
    return ingest(raw_path=str(SAMPLES / name), parameters=parameters, seed=0).outputs["table"]


@pytest.mark.parametrize("name", ["customers-2026-10.csv", "customers-2026-11.csv"])
def test_the_customers_pass(name):
    frame = ingested(name, target="label", key="customer_id", types={"amount": "float"})
    output = check(frame, columns={"amount": {"type": "float", "above": 0}}, key="customer_id", target="label")
    assert (output.values["verdict"], output.values["failed"], output.values["warnings"]) == ("passed", [], [])


def test_the_credits_pass():
    output = check(ingested("credit.csv", target="Status"), key=None, target="Status")
    assert (output.values["verdict"], output.values["rows"]) == ("passed", 4454)
    assert line(output, "missing", "Income")["rows"] == 381


@settings(max_examples=25, deadline=None)
@given(
    keys=st.lists(st.none() | st.integers(0, 12), min_size=20, max_size=60),
    partition=st.integers(5, 70),
    at_a_time=st.integers(1, 8),
)
def test_the_later_rows_of_a_key_are_found_however_the_keys_are_cut_up(keys, partition, at_a_time):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml_pipelines.data.duplicate_keys._ROWS_PER_PART", partition)
        patch.setattr("ml_pipelines.data.duplicate_keys._KEYS_AT_A_TIME", at_a_time)
        names = [None if key is None else f"C{key}" for key in keys]
        frame = pl.DataFrame({"id": pl.Series(names, dtype=pl.String), "y": [row % 2 for row in range(len(keys))]})
        checks = {"rows": {"min": 1}, "duplicate_keys": {"on_fail": "quarantine"}, "missing": {"max_share": 1}}
        found = {row for row, reason in flagged(check(frame, checks=checks)) if "occurred before" in reason}
    assert found == {row for row, key in enumerate(keys) if key is not None and key in keys[:row]}
