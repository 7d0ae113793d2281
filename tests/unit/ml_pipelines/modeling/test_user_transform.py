"""The transform of a declaration: its checks, its digests, and equal values in training and scoring."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.step_values import split_record

from ml_pipelines.errors import UserCodeError
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.records import data_features
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.user_transform import (
    check_transform,
    input_columns,
    model_frame,
    record_transform,
    transform_rows,
    transform_table,
)
from ml_pipelines.pipeline.batch_parameters import ScoreShardParameters
from ml_pipelines.pipeline.step_parameters import PreprocessParameters, TrainParameters
from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, use_code_folder
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.batch.score_shard import score_shard
from ml_pipelines.steps.training.preprocess import preprocess
from ml_pipelines.steps.training.train import train

PATH = "shop_rows:change"
HEADER = "import numpy as np\nimport pandas as pd\n\ndef change(frame):\n"
RATIO = "return frame.assign(ratio=frame['x'] / frame['y'].abs().clip(1), up=frame['city'].str.upper())"

Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the body of the function `shop_rows:change`."""
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_rows")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    monkeypatch.delitem(sys.modules, "shop_rows", raising=False)
    use_code_folder(tmp_path)

    def write_body(body: str) -> None:
        (tmp_path / "shop_rows.py").write_text(HEADER + f"    {body}\n")

    write_body(RATIO)
    return write_body


def table(rows: int = 80) -> pl.LazyFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    cities = [("Rome", "Oslo", None)[row % 3] for row in range(rows)]
    return pl.LazyFrame(
        {"id": [f"k{row}" for row in range(rows)], "x": x, "y": rng.normal(size=rows), "city": cities}
    ).with_columns(label=(pl.col("x") > 0).cast(pl.Int64))


def check(rows: pl.LazyFrame) -> None:
    check_transform(rows, PATH, input_columns(rows, ("id", "label")))


def test_row_wise_transform_passes(write: Write) -> None:
    check(table())


@pytest.mark.parametrize(
    ("body", "expected", "got"),
    [
        ("return frame[frame['x'] > 0]", "80 rows", "rows"),
        ("return frame.sort_values('x')", "same order", "another index"),
        ("return frame.sort_values('x').reset_index(drop=True)", "same order", "another index"),
        ("return pd.concat([frame, frame])", "80 rows", "160 rows"),
        ("return frame.assign(z=np.nan)", "finite value", "rows without one"),
        ("return frame.assign(z=np.inf)", "finite value", "rows without one"),
        ("return frame.to_numpy()", "DataFrame", "ndarray"),
        ("return None", "DataFrame", "NoneType"),
        ("return frame[['x', 'x']]", "distinct", "'x', 'x'"),
        ("return frame.rename(columns={'x': 3})", "text names", "3"),
        ("return frame.assign(z=[[1]] * len(frame))", "texts", "list"),
        ("return frame[[]]", "distinct text names", "[]"),
    ],
)
def test_other_results_are_one_error(write: Write, body: str, expected: str, got: str) -> None:
    write(body)
    with pytest.raises(UserCodeError) as caught:
        check(table())
    assert caught.value.where == "features.transform"
    assert expected in caught.value.expected
    assert got in caught.value.got


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return frame.assign(z=frame['x'] - frame['x'].mean())", "depends on the other rows"),
        ("return frame.assign(z=frame['x'].rank())", "depends on the other rows"),
        ("return frame.assign(z=range(len(frame)))", "depends on the order of the rows"),
        ("return frame.assign(z=frame['x'].shift(1).fillna(0))", "depends on the order of the rows"),
        ("return frame.assign(x=frame['x'].to_numpy()[::-1])", "depends on the other rows"),
        ("return frame.assign(z=np.random.default_rng().random(len(frame)))", "differs between two calls"),
        ("return pd.get_dummies(frame, columns=['city'], dtype=float)", "list of its columns depends"),
    ],
)
def test_values_that_depend_on_other_rows_are_an_error(write: Write, body: str, what: str) -> None:
    write(body)
    with pytest.raises(UserCodeError) as caught:
        check(table())
    assert what in caught.value.what


@settings(max_examples=30)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40, unique=True))
def test_statistics_of_any_rows_are_noticed(values: list[float]) -> None:
    from ml_pipelines.modeling.row_wise import check_row_wise

    frame = pl.DataFrame({"x": values}).to_numpy()
    import pandas as pd

    rows = pd.DataFrame(frame, columns=["x"])
    check_row_wise(lambda part: part.assign(z=part["x"] * 2), rows, PATH)
    with pytest.raises(UserCodeError):
        check_row_wise(lambda part: part.assign(z=part["x"].max() - part["x"].min()), rows, PATH)


def test_missing_input_may_give_a_missing_value(write: Write) -> None:
    write("return pd.DataFrame({'z': frame['x'] * 2}, index=frame.index)")
    rows = table().with_columns(x=pl.when(pl.col("id") == "k3").then(None).otherwise(pl.col("x")))
    check(rows)
    result = transform_rows(rows, record_transform(PATH, input_columns(rows, ("id", "label"))) or {})
    assert set(result.reasons) == {""}
    assert result.table.collect()["z"].null_count() == 1


def test_input_is_not_changed_and_has_no_key_or_target(write: Write) -> None:
    write("frame['x'] = 0.0; return frame.assign(names=','.join(frame.columns))")
    rows = table()
    record = record_transform(PATH, input_columns(rows, ("id", "label"))) or {}
    assert transform_table(rows, record).collect()["names"].unique().to_list() == ["x,y,city"]
    assert rows.collect()["x"].equals(table().collect()["x"])


def test_all_column_types_survive(write: Write) -> None:
    write(
        "x = frame['x']; return pd.DataFrame({'i': x.round().astype('Int64'), 'b': x > 0,"
        " 't': pd.Timestamp('2026-01-02'), 'c': x.gt(0).map({True: 'a', False: 'b'}).astype('category'),"
        " 'n': x.gt(0).astype('boolean')}, index=frame.index)"
    )
    rows = table()
    result = transform_table(rows, record_transform(PATH, input_columns(rows, ("id", "label")))).collect()
    kinds = [dtype.base_type() for dtype in result.dtypes]
    assert kinds == [pl.Float64, pl.Boolean, pl.Datetime, pl.String, pl.Boolean]


def test_changed_source_is_refused(write: Write) -> None:
    rows = table()
    record = record_transform(PATH, input_columns(rows, ("id", "label")))
    write(RATIO.replace("clip(1)", "clip(2)"))
    with pytest.raises(UserCodeError) as caught:
        transform_table(rows, record)
    assert caught.value.got == "shop_rows.py: change"


def trained(group: str | None = None) -> tuple[Any, dict[str, Any]]:
    parameters = TrainParameters(
        task="classification",
        key="id",
        group=group,
        target="label",
        positive=None,
        features=Features(transform=PATH),
        candidate=Candidate(name="linear", estimator="sklearn.linear_model.LogisticRegression"),
        model="churn",
    )
    outputs = train(table=table(), split=split_record(), parameters=parameters, seed=1).outputs
    return outputs["model"], outputs["training"]


def scored(model: Any, training: dict[str, Any], rows: pl.LazyFrame) -> dict[str, pl.DataFrame]:
    outputs = score_shard(
        shard=rows, model=lambda: model, training=training, parameters=ScoreShardParameters(key="id", keep=()), seed=0
    ).outputs
    return {name: frame.collect() for name, frame in outputs.items()}


def test_transform_receives_neither_key_nor_group_nor_target(write: Write) -> None:
    write("assert [*frame] == ['x', 'y']; return frame")
    no_flags = pl.LazyFrame(schema={"row": pl.UInt32, "reason": pl.String})
    parameters = PreprocessParameters(target="label", key="id", group="city", transform=PATH)
    preprocess(table=table(), flagged=no_flags, parameters=parameters, seed=0)
    _, training = trained(group="city")
    assert [column["name"] for column in data_features(training)] == ["x", "y"]


def test_a_model_without_a_transform_needs_its_features() -> None:
    assert data_features({"features": [{"name": "x"}]}) == [{"name": "x"}]


def test_scoring_applies_the_transform_of_the_training(write: Write) -> None:
    model, training = trained()
    assert [feature["name"] for feature in training["features"]] == ["x", "y", "city", "ratio", "up"]
    assert [feature["name"] for feature in training["transform"]["inputs"]] == ["x", "y", "city"]
    loaded = load_model(dump_model(model))
    rows = table().drop("label")
    expected = predict(model, model_frame(table(), training), training)
    scores = scored(loaded, training, rows)["scores"]
    assert scores["id"].to_list() == rows.collect()["id"].to_list()
    assert scores["probability"].to_numpy() == pytest.approx(expected)
    # Any division into shards gives the same scores.
    parts = [scored(loaded, training, rows.slice(start, 7))["scores"] for start in range(0, 80, 7)]
    assert pl.concat(parts)["probability"].to_numpy() == pytest.approx(expected)


def test_row_without_a_value_goes_to_quarantine(write: Write) -> None:
    write("return frame.assign(z=np.where(frame['x'] > 90, np.nan, frame['x']))")
    model, training = trained()
    rows = table(9).drop("label").with_columns(x=pl.when(pl.col("id") == "k4").then(99.0).otherwise(pl.col("x")))
    result = scored(model, training, rows.with_columns(id=pl.when(pl.col("id") != "k1").then(pl.col("id"))))
    reasons = dict(result["quarantine"].select("x", "_reason").rows())
    assert reasons[99.0] == "shop_rows:change returns no finite value in 'z'"
    assert sorted(reasons.values()) == ["key is missing", reasons[99.0]]
    assert len(result["scores"]) == 7
    assert "k4" not in result["scores"]["id"].to_list()


def test_empty_shard_needs_no_transform(write: Write) -> None:
    model, training = trained()
    result = scored(model, training, table().drop("label").head(0))
    assert len(result["scores"]) == 0
