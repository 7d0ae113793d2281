from __future__ import annotations

import pytest

from ml_pipelines import parse_drift, parse_scoring, parse_spec
from ml_pipelines.errors import SpecError
from ml_pipelines.spec.kinds import KINDS, find_kind

DATA = {"file": {"path": "a.csv"}}
TRAINING = {"model": {"name": "m", "task": "regression"}, "data": {**DATA, "target": "y"}}
SCORING = {"model": {"name": "m"}, "data": {**DATA, "key": "id"}}
DRIFT = {"model": {"name": "m", "alias": "champion"}, "watch": "scores"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (TRAINING, "training"),
        ({**TRAINING, "gate": {"metric": "r2"}}, "training"),
        ({"model": {"name": "m", "task": "regression"}, "data": DATA}, "training"),
        ({"model": {"name": "m"}, "data": {**DATA, "target": "y"}}, "training"),
        (SCORING, "scoring"),
        ({**SCORING, "shards": {"rows": 5}}, "scoring"),
        ({**SCORING, "min_scored": 0.5}, "scoring"),
        ({**SCORING, "model": {"name": "m", "version": "3"}}, "scoring"),
        (DRIFT, "drift"),
        ({"model": {"name": "m"}, "limits": {}, "retrain": {}, "schedule": {}}, "drift"),
        ({}, "training"),
        ([], "training"),
        ({**TRAINING, "kind": "scoring"}, "scoring"),
        ({**SCORING, "kind": "oops"}, "scoring"),
    ],
)
def test_the_kind_is_declared_or_shown_by_the_content(data, kind) -> None:
    assert find_kind(data)[0] == kind


def test_a_scoring_needs_a_model_and_a_source_only() -> None:
    spec = parse_scoring("model: {name: m}\ndata: {file: {path: a.csv}}\n", path="s.yaml")
    assert (spec.shards.rows, spec.data.key, spec.data.identifier) == (100_000, None, "row")


@pytest.mark.parametrize(
    ("read", "text", "kind"),
    [
        (parse_spec, "kind: scoring\nmodel: {name: m, task: regression}\n", "scoring"),
        (parse_scoring, "model: {name: m, task: regression}\ndata: {target: y}\n", "training"),
        (parse_drift, "model: {name: m}\nshards: {rows: 5}\n", "scoring"),
    ],
)
def test_a_reader_names_the_other_kind(read, text, kind) -> None:
    with pytest.raises(SpecError) as caught:
        read(text, path="x.yaml")
    assert caught.value.what == f"the file declares a {KINDS[kind].label}"
    assert "kind:" in caught.value.fix


@pytest.mark.parametrize(
    ("read", "kind"), [(parse_spec, "training"), (parse_scoring, "scoring"), (parse_drift, "drift")]
)
def test_the_issues_of_a_file_name_its_kind(read, kind) -> None:
    with pytest.raises(SpecError) as caught:
        read(f"kind: {kind}\nzzz: 1\n", path="x.yaml")
    assert caught.value.what.endswith(f"read as a {KINDS[kind].label}")
    with pytest.raises(SpecError) as caught:
        read(f"kind: {kind}s\nmodel: {{name: m}}\n", path="x.yaml")
    assert "kind" in [issue.path for issue in caught.value.issues]


def test_scores_without_a_key_reserve_the_column_row() -> None:
    text = "model: {name: m}\ndata: {file: {path: a.csv}}\noutput: {keep: [row]}\n"
    with pytest.raises(SpecError) as caught:
        parse_scoring(text, path="s.yaml")
    assert [issue.path for issue in caught.value.issues] == ["output.keep[0]"]
    assert parse_scoring(text.replace("{path: a.csv}}", "{path: a.csv}, key: id}"), path="s.yaml")
