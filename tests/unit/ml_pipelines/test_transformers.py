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

from ml_pipelines.errors import DataError
from ml_pipelines.spec import Outliers
from ml_pipelines.transformers import MISSING, Clipper, DateParts, Filler, Numbers, Texts, check_columns, preprocessing

FLOATS = st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(float("nan"))), min_size=1, max_size=30)


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


@given(train=FLOATS, later=FLOATS)
def test_missing_numbers_are_filled_as_scikit_learn_does(train: list[float], later: list[float]) -> None:
    rows, others = frame(x=train, back=train[::-1], empty=np.nan), frame(x=later, back=later[::-1], empty=0.5)
    theirs = SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True).fit(rows)
    ours = Filler().fit(rows)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    for given_rows in (rows, others):
        np.testing.assert_array_equal(ours.transform(given_rows), theirs.transform(given_rows))


@given(train=FLOATS, later=FLOATS)
def test_clipped_numbers_lie_within_what_training_saw_and_missing_ones_stay(
    train: list[float], later: list[float]
) -> None:
    clipper = Clipper(["x"], 0.1, 0.9).fit(frame(x=train))
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
    clipped = Clipper(["x"], 0.0, 0.5).fit(rows).transform(rows)
    assert clipped["x"].tolist() == [0.0, 1.0, 1.0]
    assert clipped["y"].tolist() == [0.0, 1.0, 100.0]
    assert rows["x"].tolist() == [0.0, 1.0, 100.0]


def test_clipping_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match="missing: z"):
        Clipper(["z"]).fit(frame(x=[1.0]))


def test_date_parts() -> None:
    dates = DateParts().fit(frame(day=["2026-11-22", None]))
    parts = dates.transform(frame(day=pd.to_datetime(["1970-01-03 23:59", None])))
    assert parts.columns.tolist() == ["day_year", "day_month", "day_day", "day_weekday", "day_days"]
    assert parts.iloc[0].tolist() == [1970, 1, 3, 5, 2]
    assert parts.iloc[1].isna().all()
    assert set(parts.dtypes.astype(str)) == {"float64"}


def test_dates_before_1970_count_backwards() -> None:
    times = frame(t=["1969-12-31T12:00:00"])
    assert DateParts().fit(times).transform(times)["t_days"].tolist() == [-1.0]


@pytest.mark.parametrize("text", ["2026-11-22T23:30:00-02:00", "2026-11-23T01:30:00Z", "2026-11-23T01:30:00"])
def test_the_hour_is_read_in_utc(text: str) -> None:
    times = frame(t=[text])
    parts = DateParts(hour=True).fit(times).transform(times)
    assert parts["t_hour"].tolist() == [1.0]
    assert parts["t_day"].tolist() == [23.0]


def test_what_is_no_date_is_named() -> None:
    with pytest.raises(DataError, match="column 't' holds something else than dates") as caught:
        DateParts().fit(frame(t=["x"])).transform(frame(t=["soon"]))
    assert caught.value.expected == "dates as ISO 8601"


def test_numbers_take_booleans_and_drop_infinities() -> None:
    rows = frame(b=pd.array([True, None, False], dtype="boolean"), x=[np.inf, -np.inf, 2])
    numbers = Numbers().fit(rows).transform(rows)
    np.testing.assert_array_equal(numbers["b"], [1.0, np.nan, 0.0])
    np.testing.assert_array_equal(numbers["x"], [np.nan, np.nan, 2.0])
    with pytest.raises(DataError, match="column 'x' holds something else than numbers"):
        Numbers().fit(rows).transform(frame(b=[1], x=["many"]))


def test_texts_have_a_level_for_missing() -> None:
    rows = frame(s=["ä", None, np.nan, 1])
    assert Texts().fit(rows).transform(rows)["s"].tolist() == ["ä", MISSING, MISSING, "1"]


@pytest.mark.parametrize("kind", [Numbers(), Texts(), Clipper(["x"]), DateParts(hour=True), Filler()])
def test_all_of_them_behave_as_scikit_learn_asks(kind: Any) -> None:
    rows = frame(x=[1.0, 2.0, np.nan]).set_index(pd.Index([5, 6, 7]))
    if isinstance(kind, DateParts):
        rows = rows.assign(x=pd.to_datetime(["2026-01-01", "2026-01-02", None]))
    with pytest.raises(NotFittedError):
        clone(kind).transform(rows)
    fitted = clone(kind).fit(rows)
    out = fitted.transform(rows.assign(extra=0))
    assert out.index.tolist() == [5, 6, 7]
    assert out.columns.tolist() == list(fitted.get_feature_names_out())
    with pytest.raises(DataError, match="columns that the model learned from are missing: x") as caught:
        fitted.transform(rows.rename(columns={"x": "z"}))
    assert caught.value.got == "columns z"
    assert caught.value.where == type(kind).__name__
    assert "under the same names" in caught.value.fix


def test_check_columns_passes_what_is_whole() -> None:
    check_columns(["b"], ["a", "b"])


def test_preprocessing_leaves_nothing_missing() -> None:
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
    columns = preprocessing(features, outliers=Outliers(columns=("n",), lower=0, upper=0.5), folds=folds)
    out = columns.fit_transform(rows, np.array([0, 1, 0, 1]))
    assert np.isfinite(out).all()
    gone = rows.assign(**dict.fromkeys(["n", "ö", "t", "d", "dt"]), empty=5.0)
    later = columns.transform(gone.assign(d=pd.NaT, dt=pd.NaT, n=np.nan))
    assert later.shape == out.shape
    assert np.isfinite(later).all()
    names = columns.get_feature_names_out().tolist()
    assert len(names) == out.shape[1]
    assert {"n", "ö_日本", "missingindicator_n", "d_weekday", "dt_hour"} <= set(names)
