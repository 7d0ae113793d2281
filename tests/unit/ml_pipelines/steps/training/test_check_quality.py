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

from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.data.source_table import open_source
from ml_pipelines.pipeline.step_parameters import CheckQualityParameters, IngestParameters, PreprocessParameters
from ml_pipelines.spec.checks import Checks, Column
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.spec.training import Split
from ml_pipelines.steps.training.check_quality import check_quality
from ml_pipelines.steps.training.ingest import ingest
from ml_pipelines.steps.training.preprocess import preprocess

SAMPLES = files("ml_pipelines") / "sample_data"


def check(frame, *, columns=None, checks=None, key="id", target="y", task="classification", **changes):
    columns = {name: Column(**column) for name, column in (columns or {}).items()}
    parameters = CheckQualityParameters(
        task=task, key=key, target=target, columns=columns, checks=Checks.model_validate(checks or {}), **changes
    )
    output = check_quality(table=frame.lazy(), parameters=parameters, seed=0)
    assert json.loads(json.dumps(output.outputs["report"], allow_nan=False)) == output.outputs["report"]
    return output


def result(output, name, column=None):
    report = QualityReport.model_validate(output.outputs["report"])
    (match,) = (check for check in report.checks if (check.check, check.column) == (name, column))
    return match


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


def ingested(path, *, target="y", key="id", types=None):
    parameters = IngestParameters(
        source=FileSource(path="x"), types=types or {}, key=key, target=target, ignore=(), used_by={}
    )
    rows = open_source(str(path), "data", str(path.parent))
    return ingest(source=rows, parameters=parameters, seed=0).outputs["table"]


def test_check_quality_passes_a_good_table():
    output = check(table(), columns={"x": {"type": "float", "min": 0, "max": 6}})
    assert output.values == {
        "verdict": "passed",
        "rows": 40,
        "quarantined": 0,
        "failed": [],
        "held": [],
        "warnings": [],
        "findings": [],
    }
    assert all(check["passed"] for check in output.outputs["report"]["checks"])
    assert flagged(output) == []


@pytest.mark.parametrize(
    ("severity", "verdict", "failed", "held", "warnings", "rows"),
    [
        ("error", "stopped", ["x: min"], [], [], []),
        ("hold", "passed", [], ["x: min"], [], []),
        ("warn", "passed", [], [], ["x: min"], []),
        ("quarantine", "passed", [], [], [], [3]),
    ],
)
def test_check_quality_follows_the_severity_of_a_rule(severity, verdict, failed, held, warnings, rows):
    values = [-1.0 if row == 3 else row % 7 for row in range(40)]
    output = check(table(x=values), columns={"x": {"type": "float", "min": 0, "on_fail": severity}})
    assert (result(output, "min", "x").passed, result(output, "min", "x").rows) == (False, 1)
    assert (output.values["verdict"], output.values["failed"]) == (verdict, failed)
    assert (output.values["held"], output.values["warnings"]) == (held, warnings)
    assert [row for row, _ in flagged(output)] == rows
    assert output.values["quarantined"] == len(rows)


def test_check_quality_assigns_bad_cells_to_their_own_column():
    def bad(column, cell):
        return {"column": column, "type": "float" if column == "x" else "integer", "cell": cell}

    bad_cells = [None] * 40
    bad_cells[2], bad_cells[4] = [bad("x", "a"), bad("xx", "b")], [bad("xx", "x: 'a' is not a float")]
    frame = table(
        x=[None if row == 2 else row % 5 * 1.0 for row in range(40)],
        xx=[None if row in (2, 4) else row % 4 for row in range(40)],
        _bad_cells=bad_cells,
    )
    columns = {"x": {"type": "float", "on_fail": "quarantine"}, "xx": {"type": "integer", "on_fail": "warn"}}
    output = check(frame, columns=columns)
    assert flagged(output) == [(2, "x is not a float")]
    assert result(output, "type", "xx").rows == 2
    assert output.values["warnings"] == ["xx: type"]


def test_check_quality_quarantines_the_row_of_a_cell_that_looks_like_a_message(tmp_path):
    path = tmp_path / "data.csv"
    rows = [f"{row},{row % 5}.5,{20 + row % 9},{row % 2}" for row in range(40)]
    rows[7] = '7,"x; age: \'y",27,1'
    path.write_text("\n".join(["id,amount,age,label", *rows, ""]))
    frame = ingested(path, target="label", types={"amount": "float", "age": "integer"})
    columns = {"amount": {"type": "float", "on_fail": "quarantine"}, "age": {"type": "integer"}}
    output = check(frame, columns=columns, target="label")
    assert (output.values["verdict"], output.values["failed"]) == ("passed", [])
    assert flagged(output) == [(7, "amount is not a float")]
    assert result(output, "type", "age").passed
    assert "x; age: 'y" in result(output, "type", "amount").detail


PROSE = ["x; b: 'y", "a: 'z' is not an integer", ";", "'", '"', "b is not an integer; ", "zwei\nzeilen", "größe 日本"]
NO_NUMBER = st.characters(exclude_categories=["Cs", "Cc", "N"], exclude_characters="infatyINFATY")
CELLS = st.sampled_from(["1", "2", *PROSE]) | st.text(NO_NUMBER, min_size=1, max_size=6)
NAMES = ["a", "b", "^a$", "a; b"]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(*[CELLS] * len(NAMES)), min_size=2, max_size=8))
def test_check_quality_quarantines_exactly_the_rows_with_bad_cells_of_each_column(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("cells") / "data.csv"
    frame = pl.DataFrame(rows, schema=dict.fromkeys(NAMES, pl.String), orient="row")
    frame.with_row_index("id").with_columns(y=pl.int_range(len(rows)) % 2).write_csv(path)
    for name in NAMES:
        columns = {other: {"type": "integer", "on_fail": "quarantine" if other == name else "warn"} for other in NAMES}
        lenient = {"missing": {"max_share": 1.0, "on_fail": "warn"}, "max_quarantined": 1}
        output = check(ingested(path, types=dict.fromkeys(NAMES, "integer")), columns=columns, checks=lenient)
        bad = [row for row, cells in enumerate(rows) if not _is_integer(cells[NAMES.index(name)])]
        assert [row for row, reason in flagged(output) if reason == f"{name} is not an integer"] == bad
        assert result(output, "type", name).rows == len(bad)


def _is_integer(cell):
    return not cell.strip() or cell in ("1", "2")


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.none() | st.floats(-3, 3) | st.just(math.inf), min_size=1, max_size=60),
    labels=st.lists(st.none() | st.just(1), min_size=60, max_size=60),
)
def test_preprocess_quarantines_exactly_the_rows_that_check_quality_flags(values, labels):
    labels = labels[: len(values)]
    schema = {"x": pl.Float64, "y": pl.Int64}
    frame = pl.DataFrame({"x": [*values, 1.0], "y": [*labels, 1]}, schema=schema)
    output = check(frame, key=None, columns={"x": {"type": "float", "min": 0, "on_fail": "quarantine"}})
    broken = {row for row, value in enumerate(values) if value is not None and (value < 0 or value == math.inf)}
    assert {row for row, _ in flagged(output)} == broken
    assert output.values["quarantined"] == len(broken)
    separated = preprocess(
        table=frame.lazy(), flagged=output.outputs["flagged"], parameters=PreprocessParameters(target="y"), seed=0
    )
    unlabelled = {row for row, label in enumerate(labels) if label is None}
    assert separated.outputs["quarantine"].collect()["_row"].to_list() == sorted(broken | unlabelled)
    assert separated.values["rows_in"] == len(values) + 1 == separated.values["kept"] + separated.values["quarantined"]


@pytest.mark.parametrize(
    ("rules", "passed", "limit", "question"),
    [({}, True, 1, None), ({"min": 41}, False, 41, "cut off"), ({"max": 39}, False, 39, "delivered twice")],
)
def test_check_quality_checks_the_number_of_rows(rules, passed, limit, question):
    outcome = result(check(table(), checks={"rows": rules}), "rows")
    assert (outcome.passed, outcome.value, outcome.limit) == (passed, 40, limit)
    assert question is None or question in outcome.remedy


def test_check_quality_checks_the_share_of_missing_cells():
    frame = table(
        a=[None if row < 30 else row for row in range(40)],
        x=[math.nan if row < 4 else row % 3 * 1.0 for row in range(40)],
    )
    output = check(frame, columns={"x": {"type": "float", "max_missing": 0.05}})
    assert output.values["failed"] == ["x: missing", "a: missing"]
    assert (result(output, "missing", "a").value, result(output, "missing", "x").value) == (0.75, 0.1)
    assert all(fact in result(output, "missing", "x").detail for fact in ("4 of 40", "10.0%", "5.0%"))


def test_check_quality_quarantines_missing_cells_on_request():
    frame = table(x=[None if row == 3 else row % 3 * 1.0 for row in range(40)])
    output = check(frame, columns={"x": {"type": "float", "max_missing": 0, "on_fail": "quarantine"}})
    assert flagged(output) == [(3, "x is missing")]


def test_check_quality_gives_a_bad_cell_one_reason():
    bad_cells = [[{"column": "x", "type": "float", "cell": "a"}] if row == 3 else None for row in range(40)]
    frame = table(x=[None if row in (3, 5) else row % 3 * 1.0 for row in range(40)], _bad_cells=bad_cells)
    output = check(
        frame,
        columns={"x": {"type": "float", "max_missing": 0, "on_fail": "quarantine"}},
        checks={"max_quarantined": 1},
    )
    assert flagged(output) == [(3, "x is not a float"), (5, "x is missing")]


def test_check_quality_refuses_an_empty_column_unless_it_is_declared():
    frame = table().with_columns(a=pl.lit(None, dtype=pl.String))
    output = check(frame, checks={"missing": {"on_fail": "warn"}})
    assert output.values["failed"] == ["a: missing"]
    assert "data.ignore" in result(output, "missing", "a").remedy
    target = check(table(y=pl.Series([None] * 40, dtype=pl.Int64)))
    assert "data.ignore" not in result(target, "missing", "y").remedy
    assert check(frame, columns={"a": {"type": "string", "max_missing": 1}}).values["verdict"] == "passed"


def test_check_quality_keeps_the_first_row_of_a_key():
    keys = [f"C{row % 20}" if row >= 38 else f"C{row}" for row in range(40)]
    output = check(table(id=keys), checks={"duplicate_keys": {"on_fail": "quarantine"}})
    assert flagged(output) == [(38, "id occurred before"), (39, "id occurred before")]
    output = check(table(id=keys))
    assert output.values["failed"] == ["id: duplicate_keys"]
    assert result(output, "duplicate_keys", "id").rows == 2


NAMES_OF_COLUMNS = ["key", "rows", "first", "len", "label", "count", "row", "reason", "^income$", "*", 'a "b" c']


@pytest.mark.parametrize("name", NAMES_OF_COLUMNS)
def test_check_quality_takes_column_names_as_they_are(name):
    frame = table(income=["text"] * 20 + ["other"] * 20)
    assert check(frame.rename({"id": name}), key=name).values["verdict"] == "passed"
    assert check(frame.rename({"y": name}), target=name).values["verdict"] == "passed"
    assert check(frame.rename({"y": name, "x": "number"}).with_columns(y="number"), target=name).values["failed"] == []
    broken = check(frame.rename({"x": name}), columns={name: {"type": "float", "max": 5, "on_fail": "warn"}}, checks={})
    assert broken.values["warnings"] == [f"{name}: max"]


def test_check_quality_refuses_missing_keys():
    output = check(table(id=[None, None, *range(38)]))
    assert output.values["failed"] == ["id: missing_keys"]
    assert result(output, "duplicate_keys", "id").passed


def test_check_quality_quarantines_infinite_numbers():
    values = [row % 3 * 1.0 for row in range(40)]
    values[5], values[6] = math.inf, -math.inf
    output = check(table(x=values))
    assert flagged(output) == [(5, "x is infinite"), (6, "x is infinite")]
    assert output.values["failed"] == []


def test_check_quality_joins_the_reasons_of_a_row():
    values = [row % 3 * 1.0 for row in range(40)]
    values[5] = math.inf
    output = check(table(x=values), columns={"x": {"type": "float", "max": 9, "on_fail": "quarantine"}})
    assert flagged(output) == [(5, "x is infinite; x is not at most 9")]
    assert output.values["quarantined"] == 1


def test_check_quality_stops_the_run_when_too_many_rows_go_to_quarantine():
    values = [-1.0 if row < 3 else row % 3 * 1.0 for row in range(40)]
    column = {"type": "float", "min": 0, "on_fail": "quarantine"}
    output = check(table(x=values), columns={"x": column})
    assert (output.values["verdict"], output.values["failed"]) == ("stopped", ["max_quarantined"])
    assert (result(output, "max_quarantined").value, result(output, "max_quarantined").limit) == (0.075, 0.05)
    assert check(table(x=values), columns={"x": column}, checks={"max_quarantined": 0.075}).values["failed"] == []


def test_check_quality_warns_of_a_constant_column():
    assert check(table(x=[1.5] * 40)).values["warnings"] == ["x: constant"]


@pytest.mark.parametrize(("labels", "classes"), [([1] * 40, 1), ([None] * 40, 0)])
def test_check_quality_refuses_a_target_with_less_than_two_classes(labels, classes):
    output = check(table(y=labels), checks={"labels": {"on_fail": "warn"}})
    assert "y: labels" in output.values["failed"]
    assert result(output, "labels", "y").value == classes


def test_check_quality_reports_the_share_of_the_rarest_class():
    labels = ["rare"] + ["often"] * 38 + [None]
    output = check(table(y=labels), checks={"labels": {"min_share": 0.05, "on_fail": "warn"}})
    assert output.values["warnings"] == ["y: labels", "y: positive"]
    assert result(output, "labels", "y").value == pytest.approx(1 / 39)
    assert "'rare'" in result(output, "labels", "y").detail


def test_check_quality_refuses_a_constant_target_of_a_regression():
    assert check(table(y=[1.5] * 40), task="regression").values["failed"] == ["y: labels"]
    assert check(table(y=[row * 1.0 for row in range(40)]), task="regression").values["failed"] == []


@pytest.mark.parametrize("cells", [["low", "high"] * 20, [date(2026, 1, 1), date(2026, 1, 2)] * 20])
def test_check_quality_refuses_a_target_of_a_regression_that_is_not_a_number(cells):
    output = check(table(y=cells), task="regression")
    assert output.values["failed"] == ["y: labels"]
    assert "task: classification" in result(output, "labels", "y").remedy


LABELS = np.arange(400) % 2
LEAK = np.where(LABELS == 1, "left", "stayed").tolist()


def test_check_quality_holds_a_model_with_possible_target_leakage():
    output = check(table(400, y=LABELS.tolist(), day_minutes=LEAK))
    assert (output.values["verdict"], output.values["held"]) == ("passed", ["day_minutes: leakage"])
    leak = result(output, "leakage", "day_minutes")
    assert (leak.value, leak.severity) == (1.0, "hold")
    assert leak.detail == "Possible target leakage: `day_minutes` alone predicts `y` (AUC 1.000)"
    assert "data: {ignore: [day_minutes]}" in leak.remedy


def test_check_quality_quotes_a_column_name_in_a_remedy():
    output = check(table(400, y=LABELS.tolist()).with_columns(pl.Series("a: [b]\u202e", LEAK)))
    assert 'data: {ignore: ["a: [b]\\u202e"]}' in result(output, "leakage", "a: [b]\u202e").remedy


def test_every_failed_check_has_a_remedy_and_no_passed_one_has():
    frame = table(y=["only"] * 40, x=[math.inf] * 40, id=[1] * 40).with_columns(a=pl.lit(None, dtype=pl.String))
    reports = [check(frame, checks={"rows": {"min": 50}}), check(table(400, y=LABELS.tolist(), leak=LEAK))]
    checks = [check for output in reports for check in output.outputs["report"]["checks"]]
    assert {check["check"] for check in checks if not check["passed"]} >= {"rows", "labels", "leakage", "missing"}
    assert [check for check in checks if check["passed"] == bool(check["remedy"])] == []


def test_check_quality_reports_leakage_in_a_regression_as_a_correlation():
    target = np.random.default_rng(0).normal(size=400)
    output = check(table(400, y=target.tolist(), leak=np.exp(-target).tolist()), task="regression")
    assert output.values["held"] == ["leak: leakage"]
    assert "rank correlation 1.000" in result(output, "leakage", "leak").detail


def test_check_quality_names_the_strongest_column_without_leakage():
    noise = np.random.default_rng(0).normal(size=400).tolist()
    output = check(table(400, x=noise, y=LABELS.tolist()))
    assert result(output, "leakage").passed
    assert "x" in result(output, "leakage").detail


def test_check_quality_lists_leaks_and_the_columns_that_are_not_judged():
    comments = [f"comment {row}" for row in range(400)]
    output = check(table(400, y=LABELS.tolist(), leak=LEAK).with_columns(comment=pl.Series(comments)))
    assert output.values["held"] == ["leak: leakage"]
    summary = result(output, "leakage")
    assert summary.passed
    assert "values not compared: comment" in summary.detail


def test_check_quality_warns_of_a_column_that_identifies_one_of_three_classes():
    labels = np.where(LABELS == 1, "left", np.where(np.arange(400) // 2 % 2, "stayed", "moved")).tolist()
    output = check(table(400, y=labels, x=LABELS.tolist()))
    assert (output.values["held"], output.values["warnings"]) == ([], ["x: leakage"])
    finding = result(output, "leakage", "x")
    assert "`left`" in finding.detail
    assert finding.remedy.endswith("If it is known before, ignore this warning.")


def test_check_quality_measures_leakage_in_a_sample_of_a_large_table(monkeypatch):
    monkeypatch.setattr("ml_pipelines.steps.training.check_quality.MAX_SAMPLE_ROWS", 100)
    output = check(table(400, y=LABELS.tolist(), leak=LEAK))
    assert output.values["held"] == ["leak: leakage"]
    assert output.values == check(table(400, y=LABELS.tolist(), leak=LEAK)).values


def test_check_quality_accepts_a_single_row():
    assert check(table(1)).values["failed"] == ["y: labels"]


@pytest.mark.parametrize("name", ["customers-2026-10.csv", "customers-2026-11.csv"])
def test_check_quality_passes_the_customers(name):
    frame = ingested(SAMPLES / name, target="label", key="customer_id", types={"amount": "float"})
    output = check(frame, columns={"amount": {"type": "float", "above": 0}}, key="customer_id", target="label")
    assert output.outputs["report"]["verdict"] == "passed"
    assert QualityReport.model_validate(output.outputs["report"]).findings == ()


def test_check_quality_passes_the_credits():
    output = check(ingested(SAMPLES / "credit.csv", target="Status", key=None), key=None, target="Status")
    assert (output.values["verdict"], output.values["rows"], output.values["held"]) == ("passed", 4454, [])
    assert result(output, "missing", "Income").rows == 381


def test_check_quality_stops_at_a_float_key_that_has_lost_digits():
    output = check(table(id=[float(row) for row in range(39)] + [2.0**53]))
    assert output.values["failed"] == ["id: inexact_keys"]
    assert result(output, "inexact_keys", "id").rows == 1
    assert result(check(table(id=[float(row) for row in range(40)])), "inexact_keys", "id").passed


def test_check_quality_judges_the_labels_that_are_not_in_quarantine():
    frame = table(y=["unknown" if row == 3 else ("no", "yes")[row % 2] for row in range(40)])
    assert check(frame, positive="yes").values["failed"] == ["y: positive"]
    allowed = {"y": {"type": "string", "allowed": ["no", "yes"], "on_fail": "quarantine"}}
    output = check(frame, positive="yes", columns=allowed)
    assert (output.values["failed"], output.values["warnings"]) == ([], [])
    assert flagged(output) == [(3, "y is not one of no, yes")]


def test_check_quality_reports_derived_defaults():
    assert check(table(), derived={"gate.metric": "roc_auc"}).values["defaults"] == {"gate.metric": "roc_auc"}


def test_check_quality_reports_columns_that_mean_something_else():
    incomes = ["N/A", *(f"{row}.5" for row in range(39))]
    output = check(table(income=incomes), split=Split(method="hash"))
    assert output.values["warnings"] == ["income: almost_numeric"]
    assert check(table(income=incomes), columns={"income": {"type": "string"}}).values["warnings"] == []
