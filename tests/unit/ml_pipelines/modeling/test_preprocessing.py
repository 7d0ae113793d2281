from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder

from ml_pipelines.errors import DataError
from ml_pipelines.modeling.preprocessing import (
    MISSING,
    CategoryEncoder,
    DateFeatures,
    MedianImputer,
    NumericConverter,
    QuantileClipper,
    build_preprocessor,
    check_columns,
)
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.training import Outliers

# Levels that are easily taken for one another, or for a missing one.
LEVELS = st.one_of(
    st.sampled_from(["ä", "a\u0308", "A", "a", "", " ", MISSING, "None", "nan", "1", "True", "日本"]),
    st.sampled_from([None, float("nan"), pd.NA, pd.NaT, 1, 1.0, True, False, 0]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
# How many rows have which level, so that some are rare.
COUNTS = st.lists(st.tuples(LEVELS, st.integers(1, 150)), min_size=1, max_size=12)
LATER = st.lists(LEVELS, min_size=1, max_size=12)
TARGETS = {
    "numbers": lambda draw, rows: draw.normal(size=rows),
    "two classes": lambda draw, rows: np.asarray(["no", "yes"])[draw.permutation(rows) % 2],
    "three classes": lambda draw, rows: draw.permutation(rows) % 3,
}
FLOATS = st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(float("nan"))), min_size=1, max_size=30)


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def levels(values: list[Any]) -> pd.DataFrame:
    """Two columns of objects, the second one backwards."""
    return pd.DataFrame({"s": pd.Series(values, dtype=object), "back": pd.Series(values[::-1], dtype=object)})


def as_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """All cells as text, a missing one as :data:`MISSING`: the input that scikit-learn's encoders take."""
    return rows.apply(lambda column: column.astype(object).where(column.notna(), MISSING).map(str))


def shuffled_levels(counts: list[tuple[Any, int]], seed: int = 0) -> pd.DataFrame:
    values = [level for level, count in counts for _ in range(count)]
    return levels([values[at] for at in np.random.default_rng(seed).permutation(len(values))])


def categories(rows: pd.DataFrame) -> pd.DataFrame:
    """The same as :mod:`ml_pipelines.modeling.features` makes it, with a level that no row has."""
    texts = as_texts(rows)
    reference = ["absent", *sorted(set(texts.to_numpy().ravel()) - {MISSING})]
    return texts.apply(lambda column: pd.Series(pd.Categorical(column.where(column != MISSING, None), reference)))


def encoder(encoding: str, task: Task, folds: Any) -> Pipeline:
    """What is branch of a column, and of the one backwards."""
    features = [{"name": name, "encoding": encoding} for name in ("s", "back")]
    (_, branch, _), *_ = build_preprocessor(features, task=task, outliers=None, folds=folds).transformers
    return branch


def assert_same(ours: Pipeline, theirs: Pipeline, rows: pd.DataFrame, y: Any, later: pd.DataFrame) -> None:
    """Of objects and of categories, at once and apart, all rows and one."""
    expected = theirs.fit_transform(rows, y), theirs.transform(rows), theirs.transform(later)
    for of in (pd.DataFrame.copy, categories):
        first = clone(ours).fit_transform(of(rows), y)
        fitted = clone(ours).fit(of(rows), y)
        result = first, fitted.transform(of(rows)), fitted.transform(of(later))
        for one, other in zip(result, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(fitted.transform(later.iloc[-1:])[0], fitted.transform(later)[-1])


@given(COUNTS, LATER)
def test_onehot_encoding_equals_that_of_scikit_learn_on_texts(counts: list[tuple[Any, int]], later: list[Any]) -> None:
    theirs = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.01, sparse_output=False)
    ours = encoder("onehot", "classification", None)
    assert_same(
        ours, make_pipeline(FunctionTransformer(as_texts), theirs), shuffled_levels(counts), None, levels(later)
    )


@given(COUNTS, LATER, st.sampled_from(sorted(TARGETS)), st.integers(0, 9))
def test_target_encoding_equals_that_of_scikit_learn_on_texts(
    counts: list[tuple[Any, int]], later: list[Any], target: str, seed: int
) -> None:
    rows = shuffled_levels([*counts, ("x", 6)], seed)
    y = TARGETS[target](np.random.default_rng(seed), len(rows))
    folds = KFold(3, shuffle=True, random_state=seed)
    ours = encoder("target", "regression" if target == "numbers" else "classification", folds)
    assert_same(
        ours,
        make_pipeline(FunctionTransformer(as_texts), TargetEncoder(cv=folds), StandardScaler()),
        rows,
        y,
        levels(later),
    )


def test_target_encoding_of_an_integer_regression_has_one_column() -> None:
    rows, y = levels(["a", "b", "c"] * 20), np.arange(60.0)
    means = encoder("target", "regression", KFold(5)).fit(rows, y)
    assert means.transform(rows).shape == (60, 2)


@given(train=FLOATS, later=FLOATS)
def test_missing_numbers_are_filled_as_scikit_learn_does(train: list[float], later: list[float]) -> None:
    rows, others = frame(x=train, back=train[::-1], empty=np.nan), frame(x=later, back=later[::-1], empty=0.5)
    theirs = SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True).fit(rows)
    ours = MedianImputer().fit(rows)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    for given_rows in (rows, others):
        np.testing.assert_array_equal(ours.transform(given_rows), theirs.transform(given_rows))


@given(train=FLOATS, later=FLOATS)
def test_clipped_numbers_lie_within_what_training_saw_and_missing_ones_stay(
    train: list[float], later: list[float]
) -> None:
    clipper = QuantileClipper(["x"], 0.1, 0.9).fit(frame(x=train))
    clipped = clipper.transform(frame(x=later))["x"]
    assert clipped.isna().tolist() == pd.Series(later).isna().tolist()
    seen = [value for value in train if value == value]
    if seen:
        low, high = np.quantile(seen, [0.1, 0.9])
        assert clipped.dropna().between(low, high).all()
    else:
        pd.testing.assert_series_equal(clipped, frame(x=later)["x"])


def test_only_the_named_columns_are_clipped_and_the_input_is_left_alone() -> None:
    rows = frame(x=[0.0, 1.0, 100.0], y=[0.0, 1.0, 100.0])
    clipped = QuantileClipper(["x"], 0.0, 0.5).fit(rows).transform(rows)
    assert clipped["x"].tolist() == [0.0, 1.0, 1.0]
    assert clipped["y"].tolist() == [0.0, 1.0, 100.0]
    assert rows["x"].tolist() == [0.0, 1.0, 100.0]


def test_clipping_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match="missing: z"):
        QuantileClipper(["z"]).fit(frame(x=[1.0]))


def test_date_parts() -> None:
    dates = DateFeatures().fit(frame(day=["2026-11-22", None]))
    parts = dates.transform(frame(day=pd.to_datetime(["1970-01-03 23:59", None])))
    assert parts.columns.tolist() == ["day_year", "day_month", "day_day", "day_weekday", "day_days"]
    assert parts.iloc[0].tolist() == [1970, 1, 3, 5, 2]
    assert parts.iloc[1].isna().all()
    assert set(parts.dtypes.astype(str)) == {"float64"}


def test_dates_before_1970_count_backwards() -> None:
    times = frame(t=["1969-12-31T12:00:00"])
    assert DateFeatures().fit(times).transform(times)["t_days"].tolist() == [-1.0]


@pytest.mark.parametrize("text", ["2026-11-22T23:30:00-02:00", "2026-11-23T01:30:00Z", "2026-11-23T01:30:00"])
def test_the_hour_is_read_in_utc(text: str) -> None:
    times = frame(t=[text])
    parts = DateFeatures(hour=True).fit(times).transform(times)
    assert parts["t_hour"].tolist() == [1.0]
    assert parts["t_day"].tolist() == [23.0]


def test_date_features_refuse_text_without_a_date() -> None:
    with pytest.raises(DataError, match="column 't' has cells that are not dates") as caught:
        DateFeatures().fit(frame(t=["x"])).transform(frame(t=["soon"]))
    assert caught.value.expected == "dates as ISO 8601"


def test_numbers_take_booleans_and_drop_infinities() -> None:
    rows = frame(b=pd.array([True, None, False], dtype="boolean"), x=[np.inf, -np.inf, 2])
    numbers = NumericConverter().fit(rows).transform(rows)
    np.testing.assert_array_equal(numbers["b"], [1.0, np.nan, 0.0])
    np.testing.assert_array_equal(numbers["x"], [np.nan, np.nan, 2.0])
    with pytest.raises(DataError, match="column 'x' has cells that are not numbers"):
        NumericConverter().fit(rows).transform(frame(b=[1], x=["many"]))


def test_levels_are_positions_among_sorted_texts_and_missing_is_one_of_them() -> None:
    rows = frame(s=["b", None, "a", np.nan, 1])
    reference = CategoryEncoder().fit(rows)
    assert reference.levels_["s"].tolist() == ["1", MISSING, "a", "b"]
    assert reference.transform(rows)["s"].tolist() == [3, 1, 2, 1, 0]
    assert reference.transform(frame(s=["never", "b"]))["s"].tolist() == [-1, 3]


@pytest.mark.parametrize(
    "kind",
    [NumericConverter(), QuantileClipper(["x"]), DateFeatures(hour=True), MedianImputer(), CategoryEncoder()],
)
def test_transformers_follow_the_conventions_of_scikit_learn(kind: Any) -> None:
    rows = frame(x=[1.0, 2.0, np.nan]).set_index(pd.Index([5, 6, 7]))
    if isinstance(kind, DateFeatures):
        rows = rows.assign(x=pd.to_datetime(["2026-01-01", "2026-01-02", None]))
    with pytest.raises(NotFittedError):
        clone(kind).transform(rows)
    fitted = clone(kind).fit(rows)
    out = fitted.transform(rows.assign(extra=0))
    assert out.index.tolist() == [5, 6, 7]
    assert out.columns.tolist() == list(fitted.get_feature_names_out())
    with pytest.raises(DataError, match="columns that the model was trained on are missing: x") as caught:
        fitted.transform(rows.rename(columns={"x": "z"}))
    assert caught.value.got == "columns z"
    assert caught.value.where == type(kind).__name__
    assert "under the same names" in caught.value.fix


def test_check_columns_passes_what_is_whole() -> None:
    check_columns(["b"], ["a", "b"])


def test_build_preprocessor_returns_no_missing_values() -> None:
    encodings = {"n": "number", "ö": "onehot", "t": "target", "d": "date", "dt": "datetime", "empty": "number"}
    features = [{"name": name, "encoding": encoding} for name, encoding in encodings.items()]
    when = pd.to_datetime(["2026-01-01", None, "2026-02-03", "2026-04-05"])
    rows = pd.DataFrame(
        {
            "n": [1.0, np.nan, 3.0, 1e9],
            "ö": ["ü", None, "ü", "日本"],
            "t": ["a", "b", None, "a"],
            "d": when,
            "dt": when,
            "empty": [np.nan] * 4,
        }
    )
    folds = KFold(2, shuffle=True, random_state=0)
    columns = build_preprocessor(
        features, task="classification", outliers=Outliers(columns=("n",), lower=0, upper=0.5), folds=folds
    )
    out = columns.fit_transform(rows, np.array([0, 1, 0, 1]))
    assert np.isfinite(out).all()
    gone = rows.assign(**dict.fromkeys(["n", "ö", "t", "d", "dt"]), empty=5.0)
    later = columns.transform(gone.assign(d=pd.NaT, dt=pd.NaT, n=np.nan))
    assert later.shape == out.shape
    assert np.isfinite(later).all()
    names = columns.get_feature_names_out().tolist()
    assert len(names) == out.shape[1]
    assert {"n", "ö_2", "missingindicator_n", "d_weekday", "dt_hour"} <= set(names)
