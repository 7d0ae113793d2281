from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder
from tests.step_values import split_record

import ml_pipelines
from ml_pipelines._utils.canonical_json import dump_json, load_json
from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.errors import DataError, ModelError, TransientError
from ml_pipelines.modeling.features import feature_frame, frame_from_records, frame_to_records, predict
from ml_pipelines.modeling.preprocessing import MISSING, DateFeatures, NumericConverter
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.pipeline.facts import FactsForTraining, IngestFacts
from ml_pipelines.pipeline.step import Publication, StepOutput
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.spec.training import Candidate, Features, Outliers
from ml_pipelines.steps.training.train import publish, train
from ml_pipelines.testing import FakeServices

CLASSIFIER, REGRESSOR = "sklearn.linear_model.LogisticRegression", "sklearn.linear_model.Ridge"
BOOSTED = "sklearn.ensemble.HistGradientBoostingClassifier"


def parameters(estimator: str = CLASSIFIER, params: dict[str, Any] | None = None, **changes: Any) -> TrainParameters:
    task = "regression" if estimator.endswith(("Regressor", "Ridge")) else "classification"
    defaults = {
        "task": task,
        "key": "id",
        "target": "label",
        "positive": None,
        "features": Features(),
        "candidate": Candidate(name="c", estimator=estimator, params=params or {}),
        "model": "churn",
    }
    return TrainParameters(**{**defaults, **changes})


def table(rows: int = 60, **changes: Any) -> pl.LazyFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    columns = {
        "id": range(rows),
        "größe": x,
        "count": [None if i % 9 == 0 else i for i in range(rows)],
        "ja": [(True, False, None)[i % 3] for i in range(rows)],
        "stadt": [("Köln", "東京", None)[i % 3] for i in range(rows)],
        "many": [f"level {i % 40}" for i in range(rows)],
        "day": pl.date_range(pl.date(2026, 1, 1), pl.date(2026, 1, 1) + pl.duration(days=rows - 1), eager=True),
        "empty": pl.Series([None] * rows, dtype=pl.Float64),
        "untyped": [None] * rows,
        "label": (x > 0).astype(int),
    }
    return pl.LazyFrame({**columns, **changes})


def fit(rows: pl.LazyFrame, **changes: Any) -> StepOutput:
    return train(table=rows, split=split_record(), parameters=parameters(**changes), seed=1)


def scores(output: StepOutput, rows: pl.LazyFrame) -> Any:
    training = output.outputs["training"]
    return predict(output.outputs["model"], feature_frame(rows, training["features"]), training)


def test_train_boosted_trees_on_the_sample_data() -> None:
    with (files("ml_pipelines") / "sample_data" / "customers-2026-11.csv").open("rb") as source:
        customers = pl.read_csv(source.read())
    judged = pl.Series(np.random.default_rng(0).random(len(customers)) < 0.2)
    rows, test = customers.filter(~judged).lazy(), customers.filter(judged)
    output = fit(rows, estimator=BOOSTED, key="customer_id", features=Features(outliers=Outliers(columns=("amount",))))
    result = scores(output, test.lazy())
    assert roc_auc_score(test["label"], result) >= 0.90
    assert average_precision_score(test["label"], result) >= 0.80
    encodings = {item["name"]: item["encoding"] for item in output.outputs["training"]["features"]}
    assert encodings["state"] == "target"
    assert encodings["international_plan"] == "onehot"
    importances = output.outputs["training"]["importances"]
    assert importances["number_customer_service_calls"] > importances["account_length"]


@pytest.fixture(scope="module")
def output() -> StepOutput:
    return fit(table())


def test_the_record_of_a_training(output: StepOutput) -> None:
    training = output.outputs["training"]
    assert load_json(dump_json(training)) == training
    assert output.values == {"candidate": "c", "rows": 60, "features": 8}
    assert (training["task"], training["classes"], training["positive"], training["rows"]) == (
        "classification",
        [0, 1],
        1,
        60,
    )
    assert training["params"] == {"random_state": 1}
    assert [(item["name"], item["dtype"], item["encoding"]) for item in training["features"]] == [
        ("größe", "float", "number"),
        ("count", "integer", "number"),
        ("ja", "boolean", "number"),
        ("stadt", "string", "onehot"),
        ("many", "string", "target"),
        ("day", "date", "date"),
        ("empty", "float", "number"),
        ("untyped", "string", "onehot"),
    ]
    assert training["requirements"][0] == f"airflow-provider-ml-pipelines=={ml_pipelines.__version__}"
    assert f"scikit-learn=={version('scikit-learn')}" in training["requirements"]
    assert set(training["importances"]) == {item["name"] for item in training["features"]}
    assert max(training["importances"], key=training["importances"].__getitem__) == "größe"


@pytest.mark.parametrize(
    ("estimator", "scoring"), [(CLASSIFIER, "neg_log_loss"), (REGRESSOR, "neg_mean_squared_error")]
)
def test_importances_are_those_of_scikit_learn(estimator: str, scoring: str) -> None:
    draw = np.random.default_rng(0)
    rows = pl.DataFrame({"id": range(400), **{name: draw.normal(size=400) for name in "abc"}})
    goal = (3 * rows["a"] + rows["b"]).to_numpy()
    label = goal if estimator == REGRESSOR else np.where(goal > 0, "yes", "no")
    positive = None if estimator == REGRESSOR else "yes"
    output = fit(rows.with_columns(label=pl.Series(label)).lazy(), estimator=estimator, positive=positive)
    frame = feature_frame(rows.lazy(), output.outputs["training"]["features"])
    theirs = permutation_importance(
        output.outputs["model"], frame, label, scoring=scoring, n_repeats=20, random_state=0
    ).importances_mean
    assert list(output.outputs["training"]["importances"].values()) == pytest.approx(theirs, rel=0.15, abs=0.05)


def test_the_profile_of_the_features(output: StepOutput) -> None:
    profile = output.outputs["training"]["profile"]
    count = table().collect()["count"]
    assert profile["count"]["mean"] == pytest.approx(count.mean())
    assert profile["count"]["missing"] == pytest.approx(7 / 60)
    assert (profile["count"]["min"], profile["count"]["max"]) == (1, 59)
    assert len(profile["count"]["quantiles"]) == 9
    assert profile["count"]["up_to"]["0.5"] == pytest.approx((count <= profile["count"]["quantiles"]["0.5"]).mean())
    assert profile["stadt"]["levels"] == pytest.approx({"Köln": 1 / 3, "東京": 1 / 3})
    assert profile["stadt"]["missing"] == pytest.approx(1 / 3)
    assert len(profile["many"]["levels"]) == 20
    assert profile["day"]["max"] - profile["day"]["min"] == 59
    assert profile["empty"] == {
        "mean": None, "std": None, "min": None, "max": None, "quantiles": {}, "up_to": {}, "missing": 1.0
    }  # fmt: skip


def test_stored_model_predicts_the_smoke_rows_equally(output: StepOutput) -> None:
    training = load_json(dump_json(output.outputs["training"]))
    model = load_model(dump_model(output.outputs["model"]))
    smoke = training["smoke"]
    frame = frame_from_records(smoke["rows"], training["features"])
    assert len(smoke["rows"]) == 10
    assert predict(model, frame, training).tolist() == smoke["predictions"]
    assert model.predict(frame).tolist() == smoke["answers"]
    assert frame_to_records(frame) == smoke["rows"]


def test_train_predicts_as_a_pipeline_of_scikit_learns_own_transformers(output: StepOutput) -> None:
    def as_texts(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.apply(lambda column: column.astype(object).where(column.notna(), MISSING).map(str))

    def filled(first: Any) -> Pipeline:
        imputer = SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True)
        return make_pipeline(first, imputer, StandardScaler())

    onehot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.01, sparse_output=False)
    target = TargetEncoder(cv=StratifiedKFold(5, shuffle=True, random_state=1))
    columns = ColumnTransformer(
        [
            ("number", filled(NumericConverter()), ["größe", "count", "ja", "empty"]),
            ("onehot", make_pipeline(FunctionTransformer(as_texts), onehot), ["stadt", "untyped"]),
            ("target", make_pipeline(FunctionTransformer(as_texts), target, StandardScaler()), ["many"]),
            ("date", filled(DateFeatures()), ["day"]),
        ],
        sparse_threshold=0.0,
        verbose_feature_names_out=False,
    )
    training, model = output.outputs["training"], output.outputs["model"]
    frame = feature_frame(table(), training["features"])
    texts = frame.select_dtypes("category").columns
    objects = frame.assign(**{name: frame[name].astype(object).where(frame[name].notna(), None) for name in texts})
    reference = Pipeline([("features", columns), ("model", LogisticRegression(random_state=1))])
    reference.fit(objects, table().collect()["label"].to_numpy())
    for rows in (frame, objects):
        np.testing.assert_allclose(predict(model, rows, training), predict(reference, objects, training), rtol=1e-9)


def test_predict_accepts_values_that_are_not_in_the_training_rows(output: StepOutput) -> None:
    odd = table(3, stadt=["nowhere", "", None], many=["new", None, "x" * 999], count=[None] * 3, empty=[1.0, None, 5.0])
    odd = odd.with_columns(pl.lit(float("inf")).alias("größe"), pl.lit(None, pl.Date).alias("day"), untyped=pl.lit("u"))
    result = scores(output, odd)
    assert result.shape == (3,)
    assert np.isfinite(result).all()
    with pytest.raises(DataError, match="columns that the model was trained on are missing: ja"):
        scores(output, table().drop("ja"))


def test_train_computes_outlier_bounds_from_training_rows_only() -> None:
    features = Features(outliers=Outliers(columns=("größe",), lower=0, upper=1))
    output = fit(table(), features=features)
    rows = table().collect()
    top = rows.filter(pl.col("größe") == pl.col("größe").max())
    beyond = top.with_columns(pl.lit(1e6).alias("größe"))
    assert scores(output, beyond.lazy()) == scores(output, top.lazy())
    assert scores(fit(table()), beyond.lazy()) != scores(fit(table()), top.lazy())


def test_train_predicts_a_probability_for_each_of_three_classes() -> None:
    labels = [("a", "b", "ç")[i % 3] for i in range(60)]
    output = fit(table(label=labels))
    training = output.outputs["training"]
    result = scores(output, table())
    assert (training["classes"], training["positive"]) == (["a", "b", "ç"], None)
    assert result.shape == (60, 3)
    np.testing.assert_allclose(result.sum(axis=1), 1)
    assert len(training["smoke"]["predictions"][0]) == 3
    assert set(training["smoke"]["answers"]) <= set(training["classes"])


def test_a_regression_predicts_numbers() -> None:
    rows = table().with_columns((pl.col("größe") * 100).alias("label"))
    output = fit(rows, estimator=REGRESSOR)
    training = output.outputs["training"]
    truth = rows.collect()["label"].to_numpy()
    assert (training["classes"], training["positive"]) == (None, None)
    assert np.corrcoef(scores(output, rows), truth)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("labels", "declared", "positive"),
    [
        (["bad", "good"], "bad", "bad"),
        (["bad", "good"], "good", "good"),
        ([False, True], None, True),
        ([0.0, 1.0], None, 1),
        ([1, 2], "2", 2),
        (["0", "1"], 1, "1"),
        ([False, True], "true", True),
    ],
)
def test_train_selects_the_positive_label(labels: list[Any], declared: Any, positive: Any) -> None:
    rows = pl.LazyFrame({"x": [0.0, 1.0] * 20, "label": labels * 20})
    output = fit(rows, positive=declared)
    training = output.outputs["training"]
    assert training["positive"] == positive
    hit = [label == positive for label in labels * 20]
    assert roc_auc_score(hit, scores(output, rows)) == 1.0


def test_train_refuses_a_positive_label_that_no_row_has() -> None:
    with pytest.raises(DataError, match="the positive label of 'label' is not") as caught:
        fit(table(label=["bad", "good"] * 30), positive="ugly")
    assert caught.value.where == "data.positive"
    assert caught.value.fix == "set data.positive to 'bad' or 'good'"


def test_train_takes_the_default_positive_label_of_all_rows() -> None:
    rows = table(label=["bad", "good"] * 30)
    for label in ("bad", "good"):
        output = train(table=rows, split=split_record(positive=label), parameters=parameters(), seed=1)
        assert output.outputs["training"]["positive"] == label
        assert output.outputs["training"]["split"] == split_record(positive=label)


@pytest.mark.parametrize(
    ("rows", "changes", "what"),
    [
        (table().head(0), {}, "there are no training rows"),
        (table().drop("label"), {}, "the target column 'label' is missing"),
        (table().select("id", "label"), {}, "the table has no feature column"),
        (table(label=[1] * 60), {}, "the target 'label' has a single value"),
        (table(label=[None, *[0, 1] * 29, 1]), {}, "the target 'label' is missing in 1 of 60 rows"),
        (table(label=[0.5] * 59 + [1.0]), {}, "the target 'label' does not hold labels"),
        (table(label=["1", "2"] * 30), {"estimator": REGRESSOR}, "does not hold finite numbers only"),
        (table(label=[1.0] * 59 + [float("inf")]), {"estimator": REGRESSOR}, "does not hold finite numbers only"),
        (table(label=[1.0] * 59 + [float("nan")]), {"estimator": REGRESSOR}, "is missing in 1 of 60 rows"),
        (table(list=[[1]] * 60), {}, "column 'list' can't be a feature"),
        (table(), {"features": Features(outliers=Outliers(columns=("stadt",)))}, "features.outliers names 'stadt'"),
    ],
)
def test_train_refuses_unusable_rows(rows: pl.LazyFrame, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError) as caught:
        fit(rows, **changes)
    assert what in caught.value.what
    assert caught.value.fix or caught.value.got or caught.value.expected


def test_train_suggests_a_similar_outlier_column() -> None:
    with pytest.raises(DataError) as caught:
        fit(table(), features=Features(outliers=Outliers(columns=("counts",))))
    assert caught.value.fix == "did you mean 'count'?"


def test_train_records_warnings_of_the_estimator() -> None:
    output = fit(table(), params={"max_iter": 1})
    assert any(text.startswith("ConvergenceWarning: ") for text in output.outputs["training"]["warnings"])
    assert "\n" not in "".join(output.outputs["training"]["warnings"])


def test_train_names_a_candidate_that_fails_to_fit() -> None:
    with pytest.raises(ModelError, match=r"sklearn.linear_model.LogisticRegression can't be fitted") as caught:
        fit(table(), params={"solver": "lbfgs", "l1_ratio": 1.0})
    assert caught.value.where == "candidate c, params {'solver': 'lbfgs', 'l1_ratio': 1.0}"
    assert "lbfgs" in caught.value.got
    assert "correct the candidate's params" in caught.value.fix


@pytest.mark.parametrize("params", [{"boosting_type": "rf"}, {"num_leaves": 1}])
def test_an_error_of_lightgbm_names_candidate_and_parameters(params: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        fit(table(), estimator="lightgbm.LGBMClassifier", params=params)
    assert "candidate c" in caught.value.where
    assert str(params) in caught.value.where
    assert "LightGBMError" in caught.value.got
    assert not isinstance(caught.value, TransientError)


class Odd(Exception):
    """An exception of no common base."""


@pytest.mark.parametrize("method", ["__init__", "set_params", "_validate_params", "fit", "predict", "predict_proba"])
@pytest.mark.parametrize("error", [Odd("so"), UserWarning("so"), KeyError("so"), OSError(2, "so"), StopIteration()])
def test_every_exception_of_an_estimator_is_a_model_error(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(LogisticRegression, method, fail)
    with pytest.raises(ModelError) as caught:
        fit(table())
    assert "candidate c" in caught.value.where
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize("method", ["fit", "predict_proba"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "no space"), TransientError),
        (ConnectionResetError("gone"), TransientError),
        (BrokenProcessPool("killed"), BrokenProcessPool),
    ],
)
def test_a_full_disk_and_a_killed_worker_are_no_errors_of_an_estimator(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, kind: type[Exception]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(LogisticRegression, method, fail)
    with pytest.raises(kind):
        fit(table())


def test_predictions_that_are_not_finite_are_an_error_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda model, frame: np.full((len(frame), 2), np.nan))
    with pytest.raises(ModelError, match="not finite"):
        fit(table())


@pytest.mark.parametrize("method", ["fit", "predict_proba"])
def test_a_lack_of_memory_is_no_error_of_an_estimator(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(LogisticRegression, method, fail)
    with pytest.raises(MemoryError):
        fit(table())


def test_publish_logs_the_stored_bytes(output: StepOutput) -> None:
    services = FakeServices()
    pin = DataPin(source="file", location="data.csv")
    data = dump_model(output.outputs["model"])
    work = Publication(
        parameters=parameters(),
        references={
            "model": services.put(data, kind="model"),
            "training": services.put(dump_json(output.outputs["training"]), kind="json"),
        },
        values=output.values,
        facts=FactsForTraining(ingest=IngestFacts(pin=pin, columns=2, empty_rows=0)),
        identity=Identity(pipeline="p", run_id="r", task_id="train"),
        key="0" * 64,
    )
    values = publish(work, services)
    assert publish(work, services) == values
    assert set(values) == {"key", "tracking_run_id", "model_uri", "tracking_url"}
    assert values["key"] == work.key
    (written,) = services.tracking.runs.values()
    training = written.training
    assert (training.model, training.candidate, training.pin, training.model_bytes) == ("churn", "c", pin, data)
    assert training.params == {"estimator": CLASSIFIER, "random_state": 1}
    assert training.metrics == {"train_rows": 60.0}
    assert training.predictions == output.outputs["training"]["smoke"]["answers"]


@pytest.mark.parametrize("name", ["^x$", "*", 'a "b" c'])
def test_train_takes_column_names_as_they_are(name: str) -> None:
    rows = table().rename({"label": name, "stadt": "^many$", "ja": "x"})
    output = fit(rows, target=name)
    features = [feature["name"] for feature in output.outputs["training"]["features"]]
    assert features == [column for column in rows.collect_schema().names() if column not in ("id", name)]


def test_the_record_keeps_the_formats_of_the_dates_of_its_features() -> None:
    declared = parameters().model_copy(update={"formats": {"day": "%d/%m/%Y", "ignored": "%F"}})
    output = train(table=table(), split=split_record(), parameters=declared, seed=1)
    assert output.outputs["training"]["formats"] == {"day": "%d/%m/%Y"}


def test_options_of_a_candidate_reach_the_fit_and_the_record() -> None:
    def trained(**options: Any) -> StepOutput:
        candidate = Candidate.model_validate({"name": "c", "estimator": CLASSIFIER, **options})
        return fit(rows, candidate=candidate)

    rows = table(200, label=(np.random.default_rng(1).random(200) < 0.2).astype(int))
    plain = scores(trained(), rows)
    weighted = trained(class_weights={"1": 50})
    assert (scores(weighted, rows) > plain).all()
    assert weighted.outputs["training"]["params"]["class_weights"] == {"1": 50}
    calibrated = trained(calibration="sigmoid")
    assert calibrated.outputs["training"]["params"]["calibration"] == "sigmoid"
    assert dump_model(calibrated.outputs["model"]) == dump_model(trained(calibration="sigmoid").outputs["model"])


def test_a_search_is_stored_without_its_results_and_records_the_best_parameters() -> None:
    params = {"estimator": {"estimator": "xgboost.XGBClassifier"}, "param_grid": {"n_estimators": [2, 3]}, "cv": 2}
    one, other = (fit(table(), estimator="sklearn.model_selection.GridSearchCV", params=params) for _ in range(2))
    record = one.outputs["training"]
    assert record["params"]["best_params"]["n_estimators"] in (2, 3)
    assert any(requirement.startswith("xgboost") for requirement in record["requirements"])
    assert dump_model(one.outputs["model"]) == dump_model(other.outputs["model"])
