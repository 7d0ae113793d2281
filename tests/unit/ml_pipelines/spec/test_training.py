from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_pipelines.errors import SpecError
from ml_pipelines.spec.checks import Column
from ml_pipelines.spec.durations import parse_duration
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.metric_table import Task, metrics_of
from ml_pipelines.spec.scheduling import DefaultArgs
from ml_pipelines.spec.training import DEFAULT_CANDIDATES, PipelineSpec, Split

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True)
NUMBERS = st.floats(-1e6, 1e6)
DURATIONS = st.timedeltas(timedelta(microseconds=1), timedelta(days=365))
JSON = st.recursive(st.none() | st.booleans() | st.integers() | NUMBERS | st.text(), st.lists, max_leaves=5)
COLUMNS = st.dictionaries(
    st.text(),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "float", "boolean", "date", "datetime"])},
        optional={
            "min": NUMBERS,
            "below": st.integers(-5, 5),
            "allowed": st.lists(st.booleans() | st.integers() | NUMBERS | st.text(), max_size=4),
            "max_missing": st.floats(0, 1),
            "on_fail": st.sampled_from(["error", "hold", "warn", "quarantine"]),
        },
    ),
    max_size=3,
)
PARAMS = st.dictionaries(NAMES, JSON, max_size=3)


def declared(**sections: Any) -> dict[str, Any]:
    """The least that a declaration must say, and more."""
    return {
        "name": "churn",
        "model": {"name": "churn-model", "task": "classification"},
        "data": {"file": {"path": "customers.csv"}, "key": "id", "target": "label"},
        "gate": {"metric": "roc_auc"},
        **sections,
    }


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("5m", 300), ("4h", 14400), ("1d", 86400), ("1.5h", 5400), (" 5 m ", 300), (60, 60), (0.5, 0.5)],
)
def test_duration_is_parsed(written: Any, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    ["5 minutes", "5", "", "4:00", "PT5M", "-5m", "1e3s", "9" * 400 + "d", "366d", -1, True, None, [], 1e300,
     float("nan"), float("inf"), 10**400, timedelta(days=-1), "٣s"],
)  # fmt: skip
def test_invalid_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="a duration such as 90s, 5m, 4h or 1d, at most 365d"):
        parse_duration(written)


@pytest.mark.parametrize("field", ["execution_timeout", "sla"])
def test_positive_duration_refuses_zero(field: str) -> None:
    with pytest.raises(ValidationError, match="a duration above 0s, such as 90s, 5m, 4h or 1d"):
        DefaultArgs.model_validate({field: "0s"})
    assert DefaultArgs.model_validate({"retry_delay": "0s"}).retry_delay == timedelta(0)


@given(DURATIONS)
def test_duration_survives_json(duration: timedelta) -> None:
    args = DefaultArgs(retry_delay=duration, execution_timeout=duration, sla=duration)
    assert DefaultArgs.model_validate(args.model_dump(mode="json")) == args
    assert DefaultArgs.model_validate_json(args.model_dump_json()) == args


PATHS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=50)


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Any]:
    task = draw(st.sampled_from(get_args(Task)))
    metrics = [metric.name for metric in metrics_of(task)]
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    return declared(
        model={"name": draw(NAMES), "task": task},
        data={
            "dvc": {"repo": "${ML_DATA_REPO}", "path": draw(PATHS)},
            "key": "id",
            "target": "label",
            "positive": draw(st.none() | st.integers() | st.booleans() | st.text()),
            "columns": draw(COLUMNS),
        },
        candidates=[
            {"name": name, "estimator": "sklearn.linear_model.Ridge", "params": draw(PARAMS)} for name in names
        ],
        gate={"metric": metrics[0], "thresholds": draw(st.dictionaries(st.sampled_from(metrics), NUMBERS))},
        default_args={"retry_delay": draw(DURATIONS), "sla": draw(st.none() | DURATIONS)},
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@given(declarations())
def test_declaration_survives_json(data: dict[str, Any]) -> None:
    spec = PipelineSpec.model_validate(data)
    assert PipelineSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert PipelineSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf")])
def test_number_must_be_finite(value: Any) -> None:
    with pytest.raises(ValidationError):
        Gate.model_validate({"metric": "roc_auc", "improvement": value})
    with pytest.raises(ValidationError):
        Gate.model_validate({"metric": "roc_auc", "thresholds": {"roc_auc": value}})
    with pytest.raises(ValidationError):
        DefaultArgs.model_validate({"retries": value})


@pytest.mark.parametrize(
    ("gate", "lift"),
    [
        ({"metric": "roc_auc"}, 0.01),
        ({"metric": "r2"}, 0.01),
        ({"metric": "rmse"}, "1%"),
        ({"metric": "log_loss"}, "1%"),
        ({"metric": "rmse", "lift_over_dummy": 0}, 0),
        ({"metric": "roc_auc", "lift_over_dummy": "2.5%"}, "2.5%"),
    ],
)
def test_lift_over_the_dummy_is_relative_for_errors(gate: Any, lift: Any) -> None:
    parsed = Gate.model_validate(gate)
    assert parsed.effective_lift == lift
    assert Gate.model_validate_json(parsed.model_dump_json()) == parsed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", True])
def test_bound_must_be_finite(value: Any) -> None:
    with pytest.raises(ValidationError):
        Column.model_validate({"type": "float", "min": value})


def test_allowed_values_keep_their_types() -> None:
    assert Column.model_validate({"type": "string", "allowed": ["no", 1, 1.5, True]}).allowed == ("no", 1, 1.5, True)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True])
def test_seed_is_in_the_range_of_numpy(seed: Any) -> None:
    with pytest.raises(ValidationError):
        PipelineSpec.model_validate(declared(seed=seed))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"target": "label"}}, "expected exactly one source: dvc, file or sql"),
        ({"data": {"target": "label", "dvc": {"path": "a.csv"}}}, "give repo, or connection, or both"),
        (
            {"data": {"target": "label", "file": {"path": "a"}, "sql": {"query": "q", "url": "u"}}},
            "expected exactly one source: dvc, file or sql",
        ),
        ({"data": {"target": "label", "sql": {"query": "q"}}}, "give either url or connection"),
        (
            {"data": {"target": "label", "sql": {"query": "q", "url": "u", "connection": "c"}}},
            "give either url or connection",
        ),
        (
            {"split": {"test": 0.6, "validation": 0.4}},
            "expected test + validation below 1",
        ),
        ({"split": {"method": "time"}}, "expected a column exactly if method is time"),
        ({"split": {"column": "day"}}, "expected a column exactly if method is time"),
        ({"features": {"outliers": {"columns": ["a"], "lower": 0.5, "upper": 0.5}}}, "lower must be below upper"),
        ({"candidates": [{"name": "a", "estimator": "x"}] * 2}, "several candidates have the same name: a"),
        ({"gate": {"metric": "rmse"}}, "rmse is not a metric of classification"),
        ({"gate": {"metric": "f1", "thresholds": {"r2": 0.5}}}, "r2 is not a metric of classification"),
    ],
)
def test_inconsistent_section_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PipelineSpec.model_validate(declared(**sections))
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {message}"] or message in str(
        caught.value
    )


def test_source_is_the_declared_one() -> None:
    data = PipelineSpec.model_validate(declared()).data
    assert data.source is data.file


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_default_candidates_of_the_task(task: Any) -> None:
    metric = metrics_of(task)[0].name
    spec = PipelineSpec.model_validate(declared(model={"name": "m", "task": task}, gate={"metric": metric}))
    assert spec.effective_candidates == DEFAULT_CANDIDATES[task]
    one = declared(candidates=[{"name": "ridge", "estimator": "sklearn.linear_model.Ridge"}])
    assert [item.name for item in PipelineSpec.model_validate(one).effective_candidates] == ["ridge"]


def test_section_is_frozen_and_refuses_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Split().test = 0.5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Split.model_validate({"tset": 0.5})


@pytest.mark.parametrize(
    ("kind", "form", "fault"),
    [
        ("date", "%d/%m/%Y", None),
        ("date", "%Y%m%d", None),
        ("date", "%F", None),
        ("datetime", "%d.%m.%Y %H:%M:%S%.f", None),
        ("datetime", "%d.%m.%Y", None),
        ("date", "dd/mm/yyyy", "no year"),
        ("date", "%d/%m", "no year"),
        ("date", "%d/%q/%Y", "%q is unknown"),
        ("date", "%d/%m/%Y %H:%M", "time"),
        ("float", "%d/%m/%Y", "the type is float"),
    ],
)
def test_a_format_reads_a_whole_date(kind: str, form: str, fault: str | None) -> None:
    text = (
        "model: {name: m, task: regression}\n"
        f"data: {{file: {{path: a.csv}}, target: y, columns: {{x: {{type: {kind}, format: '{form}'}}}}}}\n"
    )
    if fault is None:
        assert parse_spec(text, path="m.yaml").data.formats == {"x": form}
        return
    with pytest.raises(SpecError) as caught:
        parse_spec(text, path="m.yaml")
    (issue,) = caught.value.issues
    assert issue.path == "data.columns.x.format"
    assert fault in issue.message
