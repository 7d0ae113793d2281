from __future__ import annotations

import csv
import pickle
import re
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.errors import SpecError, SpecIssue
from ml_pipelines.spec.checks import Column
from ml_pipelines.spec.code_packages import DEFAULT_PACKAGES
from ml_pipelines.spec.loader import load_spec, parse_spec
from ml_pipelines.spec.training import PipelineSpec

ROOT = Path(__file__).parents[4]
DAGS = ROOT / "dags"
SAMPLES = ROOT / "include" / "ml_pipelines" / "sample_data"
SHIPPED = [DAGS / "ml_training_pipeline.yaml", DAGS / "credit_risk.yaml"]

CHURN = """\
model:
  name: churn-model
  task: classification
data:
  file: {path: customers.csv}
  key: customer_id
  target: label
  positive: left
  columns:
    amount: {type: float, min: 0, max: 9}
    state: {type: string, allowed: [no, oh]}
    label: {type: string, allowed: [left, stayed]}
  ignore: [note]
checks:
  rows: {min: 10, max: 20}
split: {test: 0.2, validation: 0.1}
features:
  outliers: {columns: [amount]}
candidates:
  - name: linear
    estimator: sklearn.linear_model.LogisticRegression
    params: {C: 1e-3}
  - {name: forest, estimator: sklearn.ensemble.RandomForestClassifier}
gate:
  metric: roc_auc
  thresholds: {f1: 0.5, log_loss: 0.6}
  slices: {columns: [state], min_rows: 50}
schedule: {cron: 0 2 * * 0, timezone: UTC}
default_args: {retries: 3, retry_delay: 5m, sla: 4h, email_on_retry: no}
"""
METRICS = "roc_auc, average_precision, accuracy, balanced_accuracy, f1, precision, recall, log_loss, brier"
TOP_FIELDS = (
    "kind, name, description, model, data, checks, split, features, candidates, threshold, refit, gate, schedule, "
    "runtime, default_args, tags, alerts, seed"
)
PACKAGES = " or ".join(DEFAULT_PACKAGES)
COLUMN_FIELDS = "type, format, min, max, above, below, allowed, pattern, max_missing, on_fail"


def mistakes_of(text: str, path: str = "churn.yaml") -> list[SpecIssue]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, path=path)
    assert caught.value.issues
    return list(caught.value.issues)


def changed(old: str, new: str) -> str:
    assert CHURN.count(old) == 1, old
    return CHURN.replace(old, new)


def marked(issue: SpecIssue) -> str:
    """The text above the marker."""
    source, marker = issue.excerpt.split("\n")
    return source[marker.index("^") : marker.rindex("^") + 1]


def test_load_spec_reads_all_sections() -> None:
    spec = parse_spec(CHURN, path="dags/churn.yaml")
    assert spec.name == "churn"
    assert spec.candidates[0].params == {"C": 0.001}
    assert spec.data.columns["state"] == Column(type="string", allowed=("no", "oh"))
    assert spec.default_args.retry_delay == timedelta(minutes=5)
    assert spec.default_args.email_on_retry is False


def test_name_comes_from_argument_declaration_or_file() -> None:
    assert parse_spec("name: mine\n" + CHURN, path="dags/churn.yaml").name == "mine"
    assert parse_spec("name: mine\n" + CHURN, path="dags/churn.yaml", name="yours").name == "yours"
    (issue,) = mistakes_of(CHURN, path="my churn.yaml")
    assert issue.message.startswith(
        "expected a name of the letters a to z, digits, _ . and - that begins with a letter"
    )
    assert issue.message.endswith('got "my churn"')
    assert issue.hint == "the default is the name of the file"
    assert (issue.path, issue.line) == ("name", 1)


# What is changed, into what, path, the marked text, message, hint (None: any).
Case = tuple[str, str, str, str, str, str | None]
FIELD_MISTAKES: list[Case] = [
    ("name: churn-model", "name: Kündigung", "model.name", "Kündigung",
     'expected a name of the letters a to z, digits, _ . and - that begins with a letter, digit or _, got "Kündigung"',
     ""),
    ("task: classification", "task: clasification", "model.task", "clasification",
     'expected one of classification, regression, got "clasification"', 'did you mean "classification"?'),
    ("  target: label", "  tagret: label", "data.tagret", "tagret",
     'unknown field "tagret": expected one of dvc, file, sql, key, target, positive, columns, ignore',
     'did you mean "target"?'),
    ("  target: label\n", "", "data.target", "data", 'the field "target" is missing', ""),
    ("split:", "zzz:", "zzz", "zzz", f'unknown field "zzz": expected one of {TOP_FIELDS}', ""),
    ("path: customers.csv", "path: 2024", "data.file.path", "2024", "expected text, got 2024",
     'put it in quotes: "2024"'),
    ("path: customers.csv", 'path: ""', "data.file.path", '""', 'expected text that is not empty, got ""', ""),
    ("  target: label", '  target: ""', "data.target", '""', 'expected text that is not empty, got ""', ""),
    ("name: churn-model", "name: ..", "model.name", "..",
     'expected a name of the letters a to z, digits, _ . and - that begins with a letter, digit or _, got ".."', ""),
    ("split:", f"tags: [{'t' * 101}]\nsplit:", "tags[0]", "t" * 101,
     f'expected at most 100 characters, got "{"t" * 56}...', ""),
    ("split:", 'runtime: {train_model: {queue: ""}}\nsplit:', "runtime.train_model.queue", '""',
     'expected text that is not empty, got ""', ""),
    ("path: customers.csv", "path: true", "data.file.path", "true", "expected text, got true",
     'put it in quotes: "true"'),
    ("path: customers.csv", "path: [a]", "data.file.path", "path", "expected text, got a list", ""),
    ("path: customers.csv", "path: ~", "data.file.path", "path", "expected text, got nothing", ""),
    ("{path: customers.csv}", "customers.csv", "data.file", "customers.csv",
     'expected a mapping (fields: path), got "customers.csv"', "write {path: customers.csv}"),
    ("amount: {type: float, min: 0, max: 9}", "amount:", "data.columns.amount", "amount",
     f"expected a mapping (fields: {COLUMN_FIELDS}), got nothing", "add fields, or remove it"),
    ("type: float", "type: flaot", "data.columns.amount.type", "flaot",
     'expected one of string, integer, float, boolean, date, datetime, got "flaot"', 'did you mean "float"?'),
    ("min: 0", "min: yes", "data.columns.amount.min", "yes", 'expected a number, got "yes"', ""),
    ("min: 0", "min: true", "data.columns.amount.min", "true", "expected a number, got true", ""),
    ("min: 0", "min: .inf", "data.columns.amount.min", ".inf", "expected a finite number, got .inf", ""),
    ("min: 0", "min: -1e999", "data.columns.amount.min", "-1e999", "expected a finite number, got -1e999", ""),
    ("min: 0", "min: !!int 0", "data.columns.amount.min", "!!int 0", "tags such as !!int are not supported",
     "remove it"),
    ("min: 0", "min: 0, <<: {a: 1}", "data.columns.amount.<<", "<<", "merge keys (<<) are not supported",
     "write the fields out"),
    ("min: 0", "min: 0, type: string", "data.columns.amount.type", "type",
     '"type" is a duplicate key, first on line 10', "remove one"),
    ("[note]", "note", "data.ignore", "note", 'expected a list, got "note"', ""),
    ("positive: left", "positive: [left]", "data.positive", "positive",
     "expected text or a whole number or true or false, got a list", ""),
    ("{C: 1e-3}", "[C]", "candidates[0].params", "params", "expected a mapping of names to values, got a list", ""),
    ("name: linear", "name: 1st", "candidates[0].name", "1st",
     'expected a name of letters, digits, _ and - only that begins with a letter, got "1st"', ""),
    ("name: linear", f"name: {'x' * 61}", "candidates[0].name", "x" * 61,
     f'expected at most 60 characters, got "{"x" * 56}...', ""),
    ("retries: 3", "retries: -1", "default_args.retries", "-1", "expected a number of at least 0, got -1", ""),
    ("retries: 3", f"retries: {'9' * 20}", "default_args.retries", "9" * 20,
     f"expected a number of at most 100, got {'9' * 20}", ""),
    ("retries: 3", "retries: 2.5", "default_args.retries", "2.5", "expected a whole number, got 2.5", ""),
    ("retry_delay: 5m", "retry_delay: 5 minutes", "default_args.retry_delay", "5 minutes",
     'expected a duration such as 90s, 5m, 4h or 1d, at most 365d, got "5 minutes"', ""),
    ("sla: 4h", "sla: 0", "default_args.sla", "0",
     "expected a duration above 0s, such as 90s, 5m, 4h or 1d, got 0", ""),
    ("email_on_retry: no", "email_on_retry: maybe", "default_args.email_on_retry", "maybe",
     'expected true or false, got "maybe"', ""),
    ("test: 0.2", "test: 0", "split.test", "0", "expected a number above 0, got 0", ""),
    ("test: 0.2", "test: 20", "split.test", "20", "expected a number below 1, got 20", ""),
    ("{columns: [amount]}", "{columns: [amount], upper: 99}", "features.outliers.upper", "99",
     "expected a number of at most 1, got 99", ""),
    # What a section's own rule finds points to the section.
    ("test: 0.2", "test: 0.95", "split", "split",
     "expected test + validation below 1, so that rows remain for training", ""),
    ("{columns: [amount]}", "{columns: [amount], lower: 1}", "features.outliers", "outliers",
     "lower must be below upper", ""),
    ("  file: {path: customers.csv}\n", "", "data", "data",
     "expected exactly one source: dvc, file or sql; got none", ""),
]  # fmt: skip

RULE_MISTAKES: list[Case] = [
    ("metric: roc_auc", "metric: roc_acu", "gate.metric", "roc_acu",
     f'expected a metric, one of {METRICS}, got "roc_acu"', 'did you mean "roc_auc"?'),
    ("metric: roc_auc", "metric: rmse", "gate.metric", "rmse",
     f"rmse is not a metric of classification: expected one of {METRICS}", ""),
    ("f1: 0.5", "F1: 0.5", "gate.thresholds.F1", "F1", f'expected a metric, one of {METRICS}, got "F1"',
     'did you mean "f1"?'),
    ("f1: 0.5", "r2: 0.5", "gate.thresholds.r2", "r2",
     f"r2 is not a metric of classification: expected one of {METRICS}", ""),
    ("f1: 0.5", "f1: 85", "gate.thresholds.f1", "85",
     "no model reaches it: f1 is at most 1, and the threshold is a minimum of 85", "write 85 % as 0.85"),
    ("log_loss: 0.6", "log_loss: -0.1", "gate.thresholds.log_loss", "-0.1",
     "no model reaches it: log_loss is at least 0, and the threshold is a maximum of -0.1", ""),
    ("min_rows: 50", "floors: {roc_acu: 0.5}", "gate.slices.floors.roc_acu", "roc_acu",
     f'expected a metric, one of {METRICS}, got "roc_acu"', 'did you mean "roc_auc"?'),
    ("min_rows: 50", "floors: {f1: 50}", "gate.slices.floors.f1", "50",
     "no model reaches it: f1 is at most 1, and the threshold is a minimum of 50", "write 85 % as 0.85"),
    ("min_rows: 50", "max_drop: {F1: 0.1}", "gate.slices.max_drop.F1", "F1",
     f'expected a metric, one of {METRICS}, got "F1"', 'did you mean "f1"?'),
    ("columns: [state], min_rows: 50", "floors: {f1: 0.5}", "gate.slices.floors", "floors",
     "floors needs groups of rows: expected gate.slices.columns, got nothing",
     "declare the columns that define the groups"),
    ("metric: roc_auc", "metric: roc_auc\n  improvement: -5%\n  non_inferiority: 2%",
     "gate.non_inferiority", "2%",
     "a loss of 5% is promoted (improvement), but a loss of 2% is rejected",
     "set non_inferiority to at least 5%"),
    ("metric: roc_auc", "metric: roc_auc\n  lift_over_dummy: 1 percent",
     "gate.lift_over_dummy", "1 percent",
     'expected a number or a share such as 1%, got "1 percent"', ""),
    ("metric: roc_auc", "metric: roc_auc\n  lift_over_dummy: -1%",
     "gate.lift_over_dummy", "-1%",
     'expected a number or a share such as 1%, got "-1%"', ""),
    ("metric: roc_auc", "metric: roc_auc\n  improvement: -0.05\n  non_inferiority: 0.02",
     "gate.non_inferiority", "0.02",
     "a loss of 0.05 is promoted (improvement), but a loss of 0.02 is rejected",
     "set non_inferiority to at least 0.05"),
    ("cron: 0 2 * * 0", "cron: 0 25 * * 0", "schedule.cron", "0 25 * * 0",
     'expected five cron fields: minute, hour, day of month, month, day of week; the hour "25" is not within 0-23',
     'an example: "0 2 * * 0", Sundays at 02:00'),
    ("timezone: UTC", "timezone: Berlin", "schedule.timezone", "Berlin",
     'expected a time zone such as UTC or Europe/Berlin, got "Berlin"', 'did you mean "Europe/Berlin"?'),
    ("timezone: UTC", "timezone: Europe", "schedule.timezone", "Europe",
     'expected a time zone such as UTC or Europe/Berlin, got "Europe"', None),
    ("timezone: UTC", "timezone: ../UTC", "schedule.timezone", "../UTC",
     'expected a time zone such as UTC or Europe/Berlin, got "../UTC"', None),
    ("timezone: UTC", "on_new_data: 5m", "schedule.on_new_data", "5m",
     "expected data.dvc: new data is detected by its revision in DVC",
     "declare data.dvc, or use schedule.cron: a run on unchanged data ends as no_change"),
    ("cron: 0 2 * * 0, ", "", "schedule", "schedule", "expected at least one of cron, on_new_data and on_drift", None),
    ("key: customer_id", "key: label", "data.key", "label",
     '"label" is also the target: expected a column that identifies rows', "name another column, or remove key"),
    ("[note]", "[note, label]", "data.ignore[1]", "label",
     '"label" is the target: expected another column', "remove it"),
    ("[note]", "[customer_id]", "data.ignore[0]", "customer_id", '"customer_id" is the key: expected another column',
     "remove it"),
    ("columns: [amount]", "columns: [label]", "features.outliers.columns[0]", "label",
     '"label" is the target: expected another column', ""),
    ("columns: [amount]", "columns: [note]", "features.outliers.columns[0]", "note",
     '"note" is ignored: expected a column that is kept', "see data.ignore"),
    ("columns: [amount]", "columns: [customer_id]", "features.outliers.columns[0]", "customer_id",
     '"customer_id" is the key: expected a feature', ""),
    ("columns: [amount]", "columns: [amount, state]", "features.outliers.columns[1]", "state",
     '"state" is declared string: expected a column of numbers', ""),
    ("columns: [state]", "columns: [label]", "gate.slices.columns[0]", "label",
     '"label" is the target: expected another column', ""),
    ("{test: 0.2, validation: 0.1}", "{method: time, column: label}", "split.column", "label",
     '"label" is the target: expected another column', ""),
    ("{test: 0.2, validation: 0.1}", "{group: label}", "split.group", "label",
     '"label" is the target: expected another column', ""),
    ("{test: 0.2, validation: 0.1}", "{group: amount}", "features.outliers.columns[0]", "amount",
     '"amount" is the group: expected a feature', ""),
    ("positive: left", "positive: lef", "data.positive", "lef",
     'expected a value that data.columns.label allows, one of left, stayed, got "lef"', 'did you mean "left"?'),
    ("name: forest", "name: linear", "candidates[1].name", "linear",
     'expected distinct names, got "linear", the name of candidates[0]', "rename one of the candidates"),
    ("sklearn.linear_model.L", "sklern.linear_model.L", "candidates[0].estimator",
     "sklern.linear_model.LogisticRegression",
     f'expected an estimator from {PACKAGES}, got "sklern.linear_model.LogisticRegression"',
     'did you mean "sklearn.linear_model.LogisticRegression"?'),
    ("sklearn.linear_model.L", "os.L", "candidates[0].estimator", "os.LogisticRegression",
     f'expected an estimator from {PACKAGES}, got "os.LogisticRegression"',
     "a deployment allows other packages by the variable ML_PIPELINES_CODE_PACKAGES"),
    ("sklearn.linear_model.L", "sklearn.a-b.L", "candidates[0].estimator", "sklearn.a-b.LogisticRegression",
     "expected an import path such as sklearn.linear_model.LogisticRegression, "
     'got "sklearn.a-b.LogisticRegression"', ""),
    ("type: string, allowed: [no, oh]", "type: string, min: 3", "data.columns.state.min", "min",
     "min is only for numbers: the type is string", ""),
    ("min: 0", "pattern: a", "data.columns.amount.pattern", "pattern",
     "pattern is only for text: the type is float", ""),
    ("[no, oh]", "[false, oh]", "data.columns.state.allowed[0]", "false",
     "expected text (the type is string), got false", 'put it in quotes: "false"'),
    ("min: 0", "allowed: [a]", "data.columns.amount.allowed[0]", "a",
     'expected a number (the type is float), got "a"', ""),
    ("min: 0", "above: 9", "data.columns.amount.max", "9", "no number has above 9 and max 9", ""),
    ("min: 10, max: 20", "min: 10, max: 5", "checks.rows.max", "5", "max 5 is below min 10", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "path", "place", "message", "hint"),
    FIELD_MISTAKES + RULE_MISTAKES,
    ids=[f"{path}: {new.strip()[:40]}" for _, new, path, *_ in FIELD_MISTAKES + RULE_MISTAKES],
)
def test_issue_has_place_message_and_hint(
    old: str, new: str, path: str, place: str, message: str, hint: str | None
) -> None:
    text = changed(old, new)
    (issue,) = (issue for issue in mistakes_of(text) if issue.path == path)
    assert (issue.message, marked(issue)) == (message, place)
    assert hint is None or issue.hint == hint
    assert text.split("\n")[issue.line - 1][issue.column - 1 :].startswith(place)


def test_misspelled_field_is_one_issue() -> None:
    for old, new, *_ in FIELD_MISTAKES[:2] + RULE_MISTAKES:
        assert len(mistakes_of(changed(old, new))) == 1, new


@pytest.mark.parametrize("method", ["hash", "stratified"])
def test_split_needs_no_key(method: str) -> None:
    text = changed("  key: customer_id\n", "").replace("{test: 0.2", f"{{method: {method}, test: 0.2")
    spec = parse_spec(text, path="churn.yaml")
    assert (spec.data.key, spec.split.method) == (None, method)
    assert list(spec.derived) == ["data.key"]


@pytest.mark.parametrize(("task", "metric"), [("classification", "roc_auc"), ("regression", "r2")])
@pytest.mark.parametrize("gate", ["", "gate: {confidence: 0.9}\n"])
def test_model_data_and_target_are_a_declaration(task: str, metric: str, gate: str) -> None:
    text = f"model: {{name: m, task: {task}}}\ndata: {{file: {{path: a.csv}}, target: y}}\n{gate}"
    spec = parse_spec(text, path="m.yaml")
    assert (spec.gate.metric, spec.gate.confidence) == (metric, 0.9 if gate else 0.95)
    assert spec.derived["gate.metric"] == metric
    assert spec.effective_candidates


def test_a_complete_declaration_has_no_derived_default() -> None:
    assert parse_spec(CHURN, path="churn.yaml").derived == {}


def test_regression_refuses_a_stratified_split() -> None:
    text = (
        "model: {name: m, task: regression}\n"
        "data: {file: {path: a.csv}, target: y}\n"
        "gate: {metric: rmse}\n"
        "split: {method: stratified}\n"
    )
    (issue,) = mistakes_of(text)
    assert (issue.path, issue.hint) == ("split.method", "")
    assert issue.message.endswith("a regression has none: expected hash or time")


def test_regression_refuses_a_positive_class() -> None:
    text = changed("task: classification", "task: regression").replace("roc_auc", "rmse")
    matches = mistakes_of(text.replace("f1: 0.5, log_loss: 0.6", "r2: 0.5"))
    assert [(item.path, item.message, item.hint) for item in matches] == [
        ("data.positive", "positive is only for classification: a regression has no classes", "remove it")
    ]


def test_all_issues_are_reported_in_file_order() -> None:
    text = changed("task: classification", "task: clasification")
    text = text.replace("min: 0,", "min: low,").replace("roc_auc", "roc_acu").replace("timezone: UTC", "timezone: Mars")
    with pytest.raises(SpecError) as caught:
        parse_spec(text, path="dags/churn.yaml")
    error = caught.value
    assert error.what == "4 issues in dags/churn.yaml, which is read as a training"
    assert [item.path for item in error.issues] == [
        "model.task", "data.columns.amount.min", "gate.metric", "schedule.timezone",
    ]  # fmt: skip
    assert str(error).startswith(
        "4 issues in dags/churn.yaml, which is read as a training\n"
        "\n"
        "dags/churn.yaml:3:9: model.task\n"
        "  3 |   task: clasification\n"
        "    |         ^^^^^^^^^^^^^\n"
        '  expected one of classification, regression, got "clasification"\n'
        '  did you mean "classification"?\n'
        "\n"
        "dags/churn.yaml:10:32: data.columns.amount.min\n"
        "  10 |     amount: {type: float, min: low, max: 9}\n"
        "     |                                ^^^\n"
        '  expected a number, got "low"\n'
    )


def test_spec_error_survives_pickling() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec("a: 1", path="churn.yaml")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.issues == caught.value.issues


def test_long_list_of_issues_is_truncated() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(CHURN + "".join(f"x{number}: 1\n" for number in range(60)), path="churn.yaml")
    assert len(caught.value.issues) == 60
    assert str(caught.value).endswith("\n\n... and 10 more")


def test_excerpt_of_a_long_line_is_centred_on_the_place() -> None:
    (issue,) = mistakes_of(changed("[no, oh]", f"[{'ab, ' * 300}1, {'cd, ' * 300}oh]"))
    assert marked(issue) == "1"
    assert max(map(len, issue.excerpt.split("\n"))) < 120


TEN = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
LAUGHS = TEN + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghi"))

# Text -> line, column, message, hint.
UNREADABLE = [
    ("", 1, 1, "the file is empty", "declare at least model and data"),
    ("# nothing\n---\n", 2, 4, "the file is empty", "declare at least model and data"),
    ("- 1\n", 1, 1, "expected fields such as model and data, got a list", ""),
    ("just words", 1, 1, 'expected fields such as model and data, got "just words"', ""),
    ("a: 1\n--- \nb: 2\n", 2, 1, "a second document begins here", "remove the --- line and what follows"),
    ("a:\n\t- 1\n", 2, 1, "a tab where only spaces may indent", "indent with spaces"),
    ("a: 1\n\tb: 2\n", 2, 1, "a tab where only spaces may indent", "indent with spaces"),
    ("a: b: c\n", 1, 5, '": " where no mapping can begin',
     'put text that holds ": " in quotes, or check the indentation'),
    ("a: @b\n", 1, 4, "text can't begin with this character", "put it in quotes"),
    ("a: 1\nb\n", 2, 1, 'this line has no ": "', "write it as name: value"),
    ("a: [1, 2\n", 1, 4, "a bracket is not closed, or a comma is missing", "close what is opened here"),
    ("a: [", 1, 5, "a value is missing", "write it, or close what is opened above"),
    ("a: 'x\n", 1, 4, "a quote is not closed", "close what is opened here"),
    ("a:\n  b: 1\n c: 2\n", 3, 2, "this does not fit the lines above", "check the indentation"),
    ("- 1\nb: 2\n", 2, 1, "this does not fit the lines above", "check the indentation"),
    ('a: "\\q"\n', 1, 5, "found unknown escape character", ""),
    ("é: 1\nab\x07", 2, 3, "the character U+0007 can't be part of a YAML file", "remove it"),
    ("a: \ud800", 1, 4, "the character U+D800 can't be part of a YAML file", "remove it"),
    ("? [1]\n: 2\n", 1, 3, "a key must be plain text", "write it as name: value"),
    ("a: *b\n", 1, 4, "the alias *b has no anchor &b above", ""),
    ("a: &a [*a]\n", 1, 8, "the alias *a has no anchor &a above", ""),
    ("a: " + "[" * 100_000, 1, 24, "nested deeper than 20 levels", ""),
    ("a: &a [[[[[[[[[[1]]]]]]]]]]\nb: [[[[[[[[[[*a]]]]]]]]]]", 2, 14, "nested deeper than 20 levels", ""),
    ("a: [" + "1," * 10_000 + "]", 1, 20_001, "more than 10000 values, with what aliases repeat", ""),
    (LAUGHS, 4, 29, "more than 10000 values, with what aliases repeat", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"), UNREADABLE, ids=[repr(t[0][:20]) for t in UNREADABLE]
)
def test_text_that_is_no_declaration_has_one_issue(text: str, line: int, column: int, message: str, hint: str) -> None:
    (issue,) = mistakes_of(text)
    assert (issue.line, issue.column, issue.message, issue.hint) == (line, column, message, hint)


def test_scalars_follow_yaml_1_2() -> None:
    params = (
        "{a: no, b: ON, c: 1e3, d: 012, e: 0x1F, f: 0o17, g: 12:30, h: 2026-11-01, i: ~, j: 'true', k: True, l: 1_000}"
    )
    spec = parse_spec(changed("{C: 1e-3}", params), path="churn.yaml")
    assert spec.candidates[0].params == {
        "a": "no", "b": "ON", "c": 1000.0, "d": 12, "e": 31, "f": 15, "g": "12:30", "h": "2026-11-01", "i": None,
        "j": "true", "k": True, "l": "1_000",
    }  # fmt: skip


def test_keys_are_text() -> None:
    spec = parse_spec(changed("{C: 1e-3}", "{no: 1, 1: 2, 1.0: 3}"), path="churn.yaml")
    assert spec.candidates[0].params == {"no": 1, "1": 2, "1.0": 3}


def test_issues_of_an_alias_are_reported_at_the_alias() -> None:
    text = changed("{type: float, min: 0, max: 9}", "&money {type: float, min: 0}\n    cost: *money")
    spec = parse_spec(text, path="churn.yaml")
    assert spec.data.columns["cost"] == spec.data.columns["amount"] == Column(type="float", min=0)
    first, second = mistakes_of(text.replace("min: 0", "min: low"))
    assert (first.path, first.line, marked(first)) == ("data.columns.amount.min", 10, "low")
    assert (second.path, second.line, marked(second)) == ("data.columns.cost.min", 11, "cost")


def test_byte_order_mark_and_crlf_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "churn.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + CHURN.replace("\n", "\r\n").encode())
    assert load_spec(file) == parse_spec(CHURN, path="churn.yaml")


def test_missing_file_raises_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "none.yaml")
    assert str(caught.value) == f"the declaration does not exist\n  where: {tmp_path}/none.yaml\n  fix: check the path"


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("a\0b", "embedded null byte")])
def test_unreadable_path_raises_spec_error(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(f"{tmp_path}/{name}")
    assert (caught.value.what, caught.value.got, caught.value.fix) == (
        "the declaration can't be read", reason, "pass the path of a YAML file",
    )  # fmt: skip


def test_file_in_another_encoding_is_reported_at_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "churn.yaml"
    file.write_bytes("model:\n  name: Zürich\n".encode("latin-1"))
    with pytest.raises(SpecError) as caught:
        load_spec(file)
    (issue,) = caught.value.issues
    assert (issue.line, issue.column, issue.message) == (2, 10, "expected UTF-8 text, got the byte 0xfc")
    assert issue.hint == "save the file as UTF-8"
    file.write_bytes(CHURN.encode("utf-16"))
    with pytest.raises(SpecError, match="1 issue in"):
        load_spec(file)


def within(issues: tuple[SpecIssue, ...], text: str) -> bool:
    lines = text.splitlines() or [""]
    return all(1 <= item.line <= len(lines) and 1 <= item.column <= len(lines[item.line - 1]) + 1 for item in issues)


def tokens(text: str) -> list[tuple[int, int]]:
    """Where each scalar of a YAML text begins and ends: keys and values."""
    events: list[Any] = list(yaml.parse(text, Loader=yaml.SafeLoader))
    return [(item.start_mark.index, item.end_mark.index) for item in events if hasattr(item, "value")]


SHIPPED_TEXTS = [CHURN, *(path.read_text(encoding="utf-8") for path in SHIPPED)]
PLACES = [(text, start, end) for text in SHIPPED_TEXTS for start, end in tokens(text)]
SCALARS = st.one_of(
    st.sampled_from(["", "~", "true", "no", "-1", "0", "1e400", ".nan", "9" * 5000, "9" * 400, "[]", "{}", "[[a]]",
                     "{a: 1}", "*a", "&a b", "!t x", "<<", "label", "customer_id", "amount", "5m", "rmse", "type"]),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(PLACES), SCALARS), min_size=1, max_size=3))
def test_any_edit_gives_a_spec_or_a_spec_error(changes: list[tuple[tuple[str, int, int], str]]) -> None:
    text = changes[0][0][0]
    here = sorted({(start, end, new) for (source, start, end), new in changes if source is text}, reverse=True)
    for start, end, new in here:
        text = text[:start] + new + text[end:]
    judged(text)


@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"#?,\n \t%@`<"))
def test_any_text_gives_a_spec_or_a_spec_error(text: str) -> None:
    judged(text)


def judged(text: str) -> None:
    try:
        spec = parse_spec(text, path="churn.yaml")
    except SpecError as error:
        issues = error.issues
    else:
        assert PipelineSpec.model_validate(spec.model_dump(mode="json")) == spec
        return
    assert issues
    assert within(issues, text), (issues, text)
    assert all(item.message for item in issues)
    assert list(issues) == sorted(issues, key=lambda item: (item.line, item.column))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_declarations_load_and_survive_json(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert PipelineSpec.model_validate(spec.model_dump(mode="json")) == spec
    # Any YAML 1.1 reader gets the same: what is read differently is in quotes.
    assert PipelineSpec.model_validate({"name": path.stem, **yaml.safe_load(path.read_text(encoding="utf-8"))}) == spec


@pytest.mark.parametrize(
    ("declaration", "table"),
    [(0, "customers-2026-10.csv"), (0, "customers-2026-11.csv"), (1, "credit.csv")],
)
def test_sample_data_has_the_declared_columns(declaration: int, table: str) -> None:
    spec = load_spec(SHIPPED[declaration])
    with (SAMPLES / table).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == list(spec.data.columns)
    for name, column in spec.data.columns.items():
        cells = [row[name] for row in rows if row[name]]
        assert 1 - len(cells) / len(rows) <= (column.max_missing or 0), name
        assert all(fits(cell, column) for cell in set(cells)), name


def fits(cell: str, column: Column) -> bool:
    value: Any = {"integer": int, "float": float}.get(column.type, str)(cell)
    return (
        (column.min is None or value >= column.min)
        and (column.max is None or value <= column.max)
        and (column.above is None or value > column.above)
        and (column.allowed is None or value in column.allowed)
        and (column.pattern is None or re.fullmatch(column.pattern, value) is not None)
    )


def test_churn_declaration_has_the_documented_values() -> None:
    spec = load_spec(SHIPPED[0])
    assert (spec.model.name, spec.data.target, spec.data.key, spec.seed) == (
        "customer-churn-model", "label", "customer_id", 9,
    )  # fmt: skip
    assert spec.candidates[1].params == {"n_estimators": 100, "max_depth": 10, "min_samples_split": 5}
    assert spec.gate.thresholds == {"roc_auc": 0.85, "average_precision": 0.70}
    args = spec.default_args
    assert (args.owner, args.retries, args.retry_delay) == ("data-science", 3, timedelta(minutes=5))
    assert (args.execution_timeout, args.sla) == (timedelta(hours=2), timedelta(hours=4))


IMPORTS_AND_OPENS = """
import sys
import ml_pipelines.spec.training
from ml_pipelines.spec.loader import load_spec
load_spec(sys.argv[1])
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ("open", "socket.connect") else None)
load_spec(sys.argv[1])
assert opened == [sys.argv[1]], opened
heavy = {"polars", "pandas", "numpy", "sklearn", "mlflow", "dvc", "pandera", "airflow", "fsspec"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_load_spec_opens_one_file_and_imports_no_heavy_package(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_AND_OPENS, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "0o" + "7" * 9000, "9" * 5000])
def test_an_integer_that_python_can_not_show_is_an_issue(number: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(f"seed: {number}\n", path="m.yaml")
    assert [issue.line for issue in caught.value.issues if issue.path == "seed"] == [1]
