from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import datasets

from ml_pipelines.errors import DataError, NoRows, PipelineError, SourceNotFound, SourceUnreadable
from ml_pipelines.scaffolding.draft import Draft, DraftRequest, draft_declaration
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.sources import FileSource, SqlSource

RNG = np.random.default_rng(0)
ROWS = 400
NUMBERS = RNG.normal(size=ROWS)
LABELS = (NUMBERS + RNG.normal(size=ROWS) > 0).astype(int)
BUNDLED = {
    "iris": ("target", "classification"),
    "wine": ("target", "classification"),
    "breast_cancer": ("target", "classification"),
    "digits": ("target", "classification"),
    "diabetes": ("target", "regression"),
    "linnerud": ("Weight", "regression"),
}


def draft(path: Path, target: str = "y", **options: Any) -> Draft:
    services = ConnectedServices(Settings.from_environment({"ML_PIPELINES_STORE": path.parent.as_uri()}))
    request = DraftRequest(section=FileSource(path=str(path)), target=target, path=Path("m.yaml"), **options)
    return draft_declaration(request, services)


def table(folder: Path, **columns: Any) -> Path:
    path = folder / "data.parquet"
    pd.DataFrame({"x": NUMBERS, "y": LABELS} | columns).to_parquet(path)
    return path


def choices(result: Draft) -> dict[str, str]:
    return {choice.key: choice.value for choice in result.choices}


def ignored(result: Draft) -> dict[str, str]:
    return {choice.value: choice.reason for choice in result.choices if choice.key == "data.ignore"}


def assert_whole(result: Draft) -> None:
    assert parse_spec(result.text, path="m.yaml") == result.spec
    assert result.report.verdict == "passed"
    chosen = choices(result)
    assert result.spec.model.task == chosen["model.task"]
    assert result.spec.gate.metric == chosen["gate.metric"]
    assert (result.spec.data.key or "none") == chosen["data.key"]
    assert set(result.spec.data.ignore) == set(ignored(result))
    assert result.spec.split.method == chosen["split"].split(",")[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data_sets_have_a_valid_declaration(tmp_path: Path, name: str, suffix: str) -> None:
    target, task = BUNDLED[name]
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    path = tmp_path / f"{name}.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    result = draft(path, target)
    assert_whole(result)
    assert result.spec.model.task == task


def test_odd_headers_are_names(tmp_path: Path) -> None:
    names = ["yes", "null", "1", "~", "a b", 'it\'s "q"', "größe, 数", "- x: #", "{a}", "^c.*$", "*", "a\nb"]
    names.append("n" * 300)
    columns = {name: RNG.normal(size=ROWS) for name in names}
    columns["true"] = np.where(LABELS == 1, "yes", "no")
    result = draft(table(tmp_path, **columns), "true")
    assert_whole(result)
    assert result.spec.data.positive in ("yes", "no")
    assert {*names[:-1], "x", "true"} <= set(result.spec.data.columns)


def test_roles_of_columns_are_recognised(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=ROWS)
    path = table(
        tmp_path,
        id=np.arange(ROWS) + 1,
        constant=1,
        empty=np.full(ROWS, np.nan),
        email=[f"u{row}@example.org" for row in range(ROWS)],
        leak=LABELS * 10 + RNG.random(ROWS),
        born=days.strftime("%d/%m/%Y"),
        signed_up=days,
        sparse=np.where(RNG.random(ROWS) < 0.8, np.nan, NUMBERS),
        income=np.where(np.arange(ROWS) == 7, "N/A", NUMBERS.round(2).astype(str)),
        infinite=np.where(RNG.random(ROWS) < 0.2, np.inf, NUMBERS),
        parts=[[1, 2]] * ROWS,
    )
    result = draft(path)
    assert_whole(result)
    data = result.spec.data
    assert data.key == "id"
    assert set(data.ignore) == {"constant", "empty", "email", "leak", "parts"}
    assert "leakage: {on_fail: warn}" in ignored(result)["leak"]
    assert data.columns["born"].format == "%d/%m/%Y"
    assert (data.columns["income"].type, data.columns["income"].on_fail) == ("float", "warn")
    assert data.columns["sparse"].max_missing == 1
    assert (result.spec.split.method, result.spec.split.column) == ("time", "signed_up")
    assert result.spec.checks.infinite.on_fail == "warn"
    assert result.spec.checks.duplicate_keys.on_fail == "quarantine"


def test_rare_label_is_compared_by_precision(tmp_path: Path) -> None:
    result = draft(table(tmp_path, y=np.where(np.arange(ROWS) < 6, "fraud", "fair")))
    assert_whole(result)
    assert result.spec.gate.metric == "average_precision"
    assert result.spec.data.positive == "fraud"
    assert result.spec.checks.labels.min_share < 6 / ROWS
    assert result.spec.data.columns["y"].allowed == ("fair", "fraud")


def test_a_column_stays_if_no_feature_would_be_left(tmp_path: Path) -> None:
    result = draft(table(tmp_path, y=(NUMBERS > 0).astype(int)))
    assert_whole(result)
    assert result.spec.data.ignore == ()
    assert [(finding.check, finding.severity) for finding in result.report.findings] == [("leakage", "hold")]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_task_of_few_whole_numbers_can_be_requested(tmp_path: Path, task: Any) -> None:
    path = table(tmp_path, y=np.arange(ROWS) % 5)
    assert choices(draft(path))["model.task"] == "classification"
    result = draft(path, task=task)
    assert_whole(result)
    assert result.spec.model.task == task


def test_target_of_numbers_as_text_is_a_regression(tmp_path: Path) -> None:
    result = draft(table(tmp_path, y=np.where(np.arange(ROWS) == 3, "N/A", NUMBERS.round(3).astype(str))))
    assert_whole(result)
    assert result.spec.model.task == "regression"


def test_rows_without_a_target_are_a_choice(tmp_path: Path) -> None:
    result = draft(table(tmp_path, y=np.where(np.arange(ROWS) < 300, np.nan, LABELS)))
    assert_whole(result)
    assert "75.0%" in next(choice.reason for choice in result.choices if choice.key == "data.target")


def test_wide_table_lists_no_types(tmp_path: Path) -> None:
    result = draft(table(tmp_path, **{f"c{number}": RNG.normal(size=ROWS) for number in range(250)}))
    assert_whole(result)
    assert set(result.spec.data.columns) == {"y"}


@pytest.mark.parametrize("rows", [10, 15, 30])
def test_few_rows_have_a_split(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "few.csv"
    pd.DataFrame({"x": NUMBERS[:rows], "y": np.arange(rows) % 2}).to_csv(path, index=False)
    assert_whole(draft(path))


def test_rows_of_a_query(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    pd.DataFrame({"id": range(ROWS), "x": NUMBERS, "left": LABELS}).to_sql("customers", url, index=False)
    variables = {"ML_PIPELINES_STORE": tmp_path.as_uri(), "ML_PIPELINES_CONNECTION_SHOP": url}
    section = SqlSource(query="select * from customers\nwhere id >= 0", connection="shop")
    request = DraftRequest(section=section, target="left", path=Path("m.yaml"))
    result = draft_declaration(request, ConnectedServices(Settings.from_environment(variables)))
    assert_whole(result)
    assert result.spec.data.source == section
    assert result.spec.data.key == "id"


def test_progress_is_reported(tmp_path: Path) -> None:
    path, stages, rows = table(tmp_path), [], []
    services = ConnectedServices(Settings.from_environment({"ML_PIPELINES_STORE": tmp_path.as_uri()}))
    request = DraftRequest(section=FileSource(path=str(path)), target="y", path=Path("m.yaml"))
    draft_declaration(request, services, on_stage=stages.append, on_rows=rows.append)
    assert len(stages) == 3
    assert sum(rows) == 2 * ROWS


@pytest.mark.parametrize(
    ("columns", "fact"),
    [
        ({"y": 1}, "only the class"),
        ({"y": np.full(ROWS, np.nan)}, "no class"),
        ({"y": [f"label {row}" for row in range(ROWS)]}, "as many labels as rows"),
        ({"y": pd.date_range("2024-01-01", periods=ROWS)}, "holds no labels"),
        ({"Y": LABELS, "y": [[1]] * ROWS}, "List"),
    ],
)
def test_target_that_no_model_can_predict_is_refused(tmp_path: Path, columns: dict[str, Any], fact: str) -> None:
    with pytest.raises((DataError, SourceUnreadable)) as caught:
        draft(table(tmp_path, **columns))
    assert fact in str(caught.value)
    assert caught.value.fix


def test_misspelled_target_has_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lable") as caught:
        draft(table(tmp_path, label=LABELS), "lable")
    assert "'label'" in caught.value.fix


@pytest.mark.parametrize(("text", "error"), [("", SourceUnreadable), ("x,y\n", NoRows), ("x,y\n1,0\n", DataError)])
def test_file_without_usable_rows_is_refused(tmp_path: Path, text: str, error: type[PipelineError]) -> None:
    path = tmp_path / "small.csv"
    path.write_text(text)
    with pytest.raises(error):
        draft(path)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        draft(tmp_path / "nothing.csv")


CELLS = [
    st.integers(-5, 5).map(str),
    st.floats(-9, 9).map(str),
    st.sampled_from(["yes", "no", "NULL", "N/A", "", " a "]),
    st.dates().map(str),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4),
]
HEADERS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6) | st.sampled_from(
    ["id", "yes", "null", "1", "a b", "date", "Unnamed: 0"]
)


@given(data=st.data(), names=st.lists(HEADERS, min_size=2, max_size=5, unique=True), rows=st.integers(1, 40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_generated_table_has_a_valid_declaration_or_an_error(
    tmp_path: Path, data: st.DataObject, names: list[str], rows: int
) -> None:
    path = tmp_path / "generated.csv"
    columns = {
        name: data.draw(st.lists(data.draw(st.sampled_from(CELLS)), min_size=rows, max_size=rows)) for name in names
    }
    pd.DataFrame(columns).to_csv(path, index=False)
    try:
        result = draft(path, names[0])
    except PipelineError:
        return
    assert_whole(result)
