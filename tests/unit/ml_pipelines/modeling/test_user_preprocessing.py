"""The preprocessing of a declaration: fitted on training rows alone, checked, stored and loaded with the model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from tests.step_values import split_record

from ml_pipelines.errors import UserCodeError
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.trusted_types import TYPES_VARIABLE
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, use_code_folder
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.threshold import Threshold
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.training.train import train

HEADER = """import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder

"""
CENTER = """
class Center(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = X["x"].mean()
        return self

    def transform(self, X):
        return X[["x"]] - self.mean_
"""
FACTORY = """
def build():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler(), PCA()), ["x", "y"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        (TargetEncoder(cv=KFold(5, shuffle=True, random_state=3)), ["city"]),
    )
"""

Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the module `shop_prep`."""
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_prep")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    monkeypatch.setenv(TYPES_VARIABLE, "shop_prep.Center")
    monkeypatch.delitem(sys.modules, "shop_prep", raising=False)
    use_code_folder(tmp_path)
    return lambda body: (tmp_path / "shop_prep.py").write_text(HEADER + body) and None


def table(rows: int = 80, seed: int = 0) -> pl.LazyFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    cities = [("Rome", "Oslo", None)[row % 3] for row in range(rows)]
    frame = pl.LazyFrame({"x": x, "y": rng.normal(size=rows), "city": cities})
    return frame.with_columns(label=(pl.col("x") > 0).cast(pl.Int64))


def fit(
    name: str, estimator: str = "linear_model.LogisticRegression", refit: bool = False, **options: Any
) -> StepOutput:
    path = name if ":" in name else f"shop_prep:{name}"
    parameters = TrainParameters(
        task="classification",
        key=None,
        target="label",
        positive=None,
        features=Features(preprocessing=path),
        candidate=Candidate(name="one", estimator=f"sklearn.{estimator}"),
        threshold=Threshold(maximise="f1") if options else None,
        model="shop",
        refit=refit,
    )
    return train(table=options.pop("rows", table()), split=split_record(), parameters=parameters, seed=1, **options)


@pytest.mark.parametrize("refit", [False, True])
def test_stored_mean_is_that_of_the_rows_of_the_fit(write: Write, refit: bool) -> None:
    write(CENTER)
    other = table(40, seed=1).with_columns(x=pl.col("x") + 100)
    output = fit("Center", validation=other, refit=refit)
    loaded = load_model(dump_model(output.outputs["model"]))
    model = getattr(loaded, "estimator", loaded)
    mean = (pl.concat([table(), other]) if refit else table()).collect()["x"].mean()
    assert model["features"].transformer_.mean_ == pytest.approx(mean, rel=1e-12)
    loaded.predict(model_frame(other, output.outputs["training"]))
    assert model["features"].transformer_.mean_ == pytest.approx(mean, rel=1e-12)


def test_factory_of_library_transformers_needs_no_trusted_type(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TYPES_VARIABLE)
    write(FACTORY)
    output = fit("build")
    model, training = output.outputs["model"], output.outputs["training"]
    frame = model_frame(table(30, seed=2), training)
    data = dump_model(model)
    assert data == dump_model(fit("build").outputs["model"])
    assert np.array_equal(predict(load_model(data), frame, training), predict(model, frame, training))
    assert [*training["preprocessing"]["sources"]["shop_prep.py"]] == ["build", "module level"]
    steps = model["features"].transformer_.named_transformers_
    assert steps["pipeline"][-1].random_state == 1


def test_transformer_of_scikit_learn_is_named_directly() -> None:
    rows = table().select("x", "y", "label")
    output = fit("sklearn.preprocessing:StandardScaler", rows=rows)
    assert output.outputs["training"]["preprocessing"] == {
        "path": "sklearn.preprocessing:StandardScaler",
        "sources": {},
    }


def test_columns_are_found_by_name(write: Write) -> None:
    write(FACTORY)
    output = fit("build")
    model, training = output.outputs["model"], output.outputs["training"]
    frame = model_frame(table(), training)
    turned = frame[[*reversed(frame.columns)]].astype({"city": object})
    assert np.array_equal(model.predict_proba(turned), model.predict_proba(frame))


def test_missing_values_are_accepted_where_the_estimator_accepts_them(write: Write) -> None:
    write("def build():\n    return make_column_transformer(('passthrough', ['x', 'y']))\n")
    rows = table().with_columns(y=pl.when(pl.col("x") > 0.5).then(pl.col("y")))
    fit("build", "ensemble.HistGradientBoostingClassifier", rows=rows)
    with pytest.raises(UserCodeError) as caught:
        fit("build", rows=rows)
    assert "shop_prep.py:11: the transformer returns missing or infinite values" in caught.value.what
    assert "missing and 0 infinite values in 80 rows" in caught.value.got


CLASS = """
class Center(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        {fit}
        return self
"""
METHOD = "    def transform(self, X):\n        {transform}\n"


@pytest.mark.parametrize(
    ("learn", "transform", "what", "got"),
    [
        ("pass", "return X[['x']][1:]", ":16: the transformer returns another form", "shape (79, 1)"),
        ("pass", "return list(X['x'])", ":16: the transformer returns another form", "list"),
        ("pass", "return X['x']", ":16: the transformer returns another form", "shape (80,)"),
        ("pass", "return X[['x']] * np.nan", "missing or infinite", "80 missing"),
        ("pass", "return X[['x']] * np.inf", "missing or infinite", "80 infinite"),
        ("pass", "return X[['x']] - X['x'].mean()", "depends on the other rows of a call", "output column 0"),
        ("pass", "return X[['x']].cumsum()", "depends on the order", "output column 0"),
        ("pass", "return X[['x']] + np.random.rand()", "differs between two", "output column 0"),
        (
            "self.a_ = np.random.rand()",
            "return X[['x']] + self.a_",
            "between two calls of fit_transform",
            "output column 0",
        ),
        ("pass", "return X[['z']]", ":17: KeyError", "return X[['z']]"),
        ("raise ValueError('no')", "return X[['x']]", ":14: ValueError: no", "raise ValueError('no')"),
        ("self.f_ = lambda x: x", "return X[['x']]", ":16: ", ""),
        ("self.f_ = (x for x in 'ab')", "return X[['x']]", ":16: ", ""),
    ],
)
def test_wrong_transformer_is_an_error_at_the_users_line(
    write: Write, learn: str, transform: str, what: str, got: str
) -> None:
    write(CLASS.format(fit=learn) + METHOD.format(transform=transform))
    with pytest.raises(UserCodeError) as caught:
        fit("Center")
    assert "shop_prep.py:" in caught.value.what
    assert what in caught.value.what
    assert got in caught.value.got
    assert caught.value.where.startswith("features.preprocessing: shop_prep:Center")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("def build():\n    return 3\n", "gives no scikit-learn transformer"),
        ("build = 3\n", "gives no scikit-learn transformer"),
        ("def build():\n    return StandardScaler\n", "gives no scikit-learn transformer"),
        ("def build():\n    return StandardScaler().fit([[1.0]])\n", "already fitted"),
        (
            "from sklearn.frozen import FrozenEstimator\n"
            "def build():\n    return make_pipeline(FrozenEstimator(StandardScaler().fit([[1.0]])))\n",
            "already fitted",
        ),
        (
            "def build():\n    return make_column_transformer((TargetEncoder(), ['city']))\n",
            "two calls of fit_transform",
        ),
        ("def build(x):\n    return StandardScaler()\n", "TypeError"),
        ("import no_such_module\n", "shop_prep.py:11: ModuleNotFoundError"),
        ("def build(:\n", "SyntaxError"),
        ("def other():\n    pass\n", "has no 'build'"),
        ("def build():\n    return FunctionTransformer(lambda X: X[['x']])\n", "shop_prep.py:11: "),
    ],
)
def test_wrong_factory_is_an_error(write: Write, body: str, what: str) -> None:
    write(body)
    with pytest.raises(UserCodeError) as caught:
        fit("build")
    assert what in caught.value.what
    assert caught.value.fix


def test_untrusted_type_is_an_error_that_names_the_setting(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TYPES_VARIABLE)
    write(CENTER)
    with pytest.raises(UserCodeError) as caught:
        fit("Center")
    assert "the model holds types that are not trusted: shop_prep.Center" in caught.value.what
    assert f"{TYPES_VARIABLE}=shop_prep.Center" in caught.value.fix


def test_package_that_is_not_allowed_is_not_imported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("raise SystemExit\n")
    monkeypatch.setenv(PACKAGES_VARIABLE, "")
    with pytest.raises(UserCodeError) as caught:
        fit("Center")
    assert "shop_prep" in caught.value.what


def test_changed_sources_are_an_error_of_a_stored_model(write: Write) -> None:
    write("def half(x):\n    return x / 2\n" + CENTER)
    output = fit("Center")
    data, frame = dump_model(output.outputs["model"]), model_frame(table(), output.outputs["training"])
    load_model(data).predict(frame)
    write("def half(x):\n    return x / 3\n" + CENTER)
    with pytest.raises(UserCodeError) as caught:
        load_model(data).predict(frame)
    assert caught.value.got == "shop_prep.py: half"


def test_options_of_the_built_in_preprocessing_are_refused() -> None:
    for options in ({"max_onehot": 40}, {"outliers": {"columns": ["x"]}}):
        with pytest.raises(ValidationError, match="replaces the built-in one"):
            Features.model_validate({"preprocessing": "shop_prep:Center", **options})
