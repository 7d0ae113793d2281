"""The declaration of a training pipeline. :mod:`ml_pipelines.spec.loader` reads it from a file.

The sections are also the parameters of the steps. A step takes only the sections that it needs, so that its cache key
depends on these alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializeAsAny,
    model_validator,
)

from ml_pipelines.spec.checks import Checks, Column
from ml_pipelines.spec.code_packages import CodePath
from ml_pipelines.spec.declaration_base import Declaration
from ml_pipelines.spec.defaults import DEFAULT_METRICS, derived_defaults, with_derived_defaults
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import Task, find_metric
from ml_pipelines.spec.nested_estimators import estimator_paths
from ml_pipelines.spec.placement import Placement
from ml_pipelines.spec.scheduling import Alerts, DefaultArgs, Schedule
from ml_pipelines.spec.sources import LINE, LINES, Count, DataSection, Number, Section, Share, Text
from ml_pipelines.spec.threshold import Threshold

__all__ = ["Candidate", "Data", "Features", "Model", "ModelName", "Outliers", "PipelineSpec", "Split"]

# ASCII only: Airflow rejects other characters in the URI of an asset, and one such URI stops the update of all DAGs.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=100, pattern=LINE)]
Description = Annotated[str, Field(max_length=2000, pattern=LINES)]


class Model(Section):
    """The model to train.

    Attributes:
        name: name in the registry.
        task: what the model predicts: a class or a number.
    """

    name: ModelName
    task: Task


class Data(DataSection):
    """The source of the rows and their columns. Columns that are not declared are kept; their types are inferred.

    Attributes:
        key: column that identifies a row. Without it, the content of a row does.
        target: column to predict.
        positive: the positive one of two labels. The default is 1, true, or the rarer label.
        columns: constraints by column.
        ignore: columns to leave out.
    """

    key: Text | None = None
    target: Text
    positive: str | int | bool | None = None
    columns: dict[str, Column] = Field(default={})
    ignore: tuple[str, ...] = ()

    @property
    def formats(self) -> dict[str, str]:
        """The declared formats of dates, by column."""
        return {name: column.format for name, column in self.columns.items() if column.format is not None}


class Split(Section):
    """The split of the rows. The candidate is selected on `validation` and evaluated on `test`.

    `hash` assigns a row by its key, so that the assignment is stable while the data grows. `stratified` keeps the share
    of each class. `time` takes the latest rows by `column` as the test set.

    With `group`, all rows of a group are in one part. `hash` then assigns a row by its group, and `time` by the latest
    row of its group, so that no training row is later than the latest row of a test group.

    Attributes:
        method: how rows are assigned.
        test: share of the test set.
        validation: share of the validation rows.
        column: time column of the method `time`.
        group: column whose equal values stay in one part, such as a patient or a customer. It is not a feature.
    """

    method: Literal["hash", "stratified", "time"] = "hash"
    test: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    validation: Annotated[Number, Field(gt=0, lt=1)] = 0.15
    column: str | None = None
    group: Text | None = None

    @model_validator(mode="after")
    def _require_training_rows(self) -> Split:
        if self.test + self.validation >= 1:
            raise ValueError("expected test + validation below 1, so that rows remain for training")
        if (self.method == "time") != (self.column is not None):
            raise ValueError("expected a column exactly if method is time")
        if self.group is not None and self.method == "stratified":
            raise ValueError(
                "expected method hash or time with a group: whole groups can't keep the share of each class"
            )
        return self


class Outliers(Section):
    """Numbers are clipped to quantiles of the training rows, in training and in scoring.

    Attributes:
        columns: columns to clip.
        lower: lower quantile.
        upper: upper quantile.
    """

    columns: tuple[str, ...]
    lower: Share = 0.01
    upper: Share = 0.99

    @model_validator(mode="after")
    def _require_order(self) -> Outliers:
        if self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


class Features(Section):
    """The encoding of the features.

    Attributes:
        transform: function of a frame with the columns beside key, group and target, that returns the features. It
            computes a row from its own cells. Training and scoring apply it.
        preprocessing: scikit-learn transformer class, or function that returns a transformer. It replaces the built-in
            preprocessing, is fitted with the estimator, and is part of the model.
        outliers: numbers to clip. It belongs to the built-in preprocessing.
        max_onehot: text with more levels gets target encoding instead of one-hot encoding. It belongs to the built-in
            preprocessing.
    """

    transform: CodePath | None = None
    preprocessing: Annotated[CodePath | None, Field(exclude_if=lambda path: path is None)] = None
    outliers: Outliers | None = None
    max_onehot: Annotated[Count, Field(ge=2)] = 30

    @model_validator(mode="after")
    def _require_one_preprocessing(self) -> Features:
        options = (self.outliers, self.max_onehot)
        if self.preprocessing is not None and options != (None, type(self).model_fields["max_onehot"].default):
            raise ValueError("expected no outliers and max_onehot with preprocessing, which replaces the built-in one")
        return self


class Candidate(Section):
    """An estimator to train.

    Attributes:
        name: name of the candidate.
        estimator: import path of the class, in an allowed package.
        params: arguments of the class. An argument may be an estimator as `{estimator: PATH, params: {...}}`, or a
            mapping of names to these.
        class_weights: weight of the training rows of each label, or `balanced`, which weights all classes alike. The
            default of a label is 1.
        calibration: correct the probabilities of a classifier. The correction is learned on training rows.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$", max_length=60)]
    estimator: str
    params: dict[str, JsonValue] = Field(default={})
    class_weights: Literal["balanced"] | dict[str, Number] | None = None
    calibration: Literal["isotonic", "sigmoid"] | None = None

    @model_validator(mode="after")
    def _require_positive_weights(self) -> Candidate:
        weights = self.class_weights if isinstance(self.class_weights, dict) else {}
        if wrong := [label for label, weight in weights.items() if weight <= 0]:
            raise ValueError(f"expected class weights above 0, got {weights[wrong[0]]:g} for {wrong[0]}")
        return self

    @property
    def estimators(self) -> tuple[str, ...]:
        """The import paths of the estimator and of those in its arguments."""
        return estimator_paths(self.estimator, self.params)


# Small trees, a penalty on their values, and a held-out part that stops them: on few or noisy rows the predicted
# probabilities stay near the share of the class. On many rows, early stopping allows more iterations than the default.
_BOOSTING: dict[str, JsonValue] = {
    "learning_rate": 0.05,
    "max_iter": 500,
    "max_leaf_nodes": 8,
    "l2_regularization": 5.0,
    "early_stopping": True,
    "validation_fraction": 0.15,
    "n_iter_no_change": 10,
}

DEFAULT_CANDIDATES: dict[Task, tuple[Candidate, ...]] = {
    "classification": (
        Candidate(
            name="linear", estimator="sklearn.linear_model.LogisticRegression", params={"C": 0.3, "max_iter": 1000}
        ),
        Candidate(name="boosted_trees", estimator="sklearn.ensemble.HistGradientBoostingClassifier", params=_BOOSTING),
    ),
    "regression": (
        Candidate(name="linear", estimator="sklearn.linear_model.Ridge", params={"alpha": 3.0}),
        Candidate(name="boosted_trees", estimator="sklearn.ensemble.HistGradientBoostingRegressor", params=_BOOSTING),
    ),
}
"""The candidates of a declaration without any, the simplest first."""


class PipelineSpec(Declaration):
    """A declaration of a training pipeline. `model`, a source and `data.target` are enough.

    Attributes:
        kind: kind of the declaration. By default its keys show it.
        name: name of the pipeline, and id of its DAG. The default is the stem of the file.
        description: description of the DAG.
        model: the model to train.
        data: the source of the rows and their columns.
        checks: the data quality checks.
        split: the split of the rows.
        features: the encoding of the features.
        candidates: estimators to train, the simplest first. The default is a linear model and boosted trees.
        threshold: the probability from which a row gets the positive label, tuned on the validation rows. The default
            is 0.5.
        refit: fit each candidate again on the training and validation rows. `false` halves the time of a training.
        gate: the conditions of a promotion.
        schedule: when the DAG runs. Without it a person or another DAG starts it.
        runtime: place of each task, by its id.
        default_args: Airflow's `default_args` of all tasks.
        tags: tags of the DAG, beside those of the package.
        alerts: recipients of notifications.
        seed: seed of all random numbers.
    """

    kind: Literal["training"] = "training"
    name: ModelName
    description: Description = ""
    model: Model
    data: SerializeAsAny[Data]
    checks: Checks = Checks()
    split: Split = Split()
    features: Features = Features()
    candidates: tuple[Candidate, ...] = ()
    threshold: Threshold | None = None
    refit: bool = True
    gate: Gate = Gate(metric=DEFAULT_METRICS["classification"])  # that of a regression is derived before
    schedule: Schedule | None = None
    runtime: dict[str, Placement] = Field(default={})
    default_args: DefaultArgs = DefaultArgs()
    tags: tuple[Tag, ...] = ()
    alerts: Alerts = Alerts()
    seed: Annotated[Count, Field(ge=0, lt=2**32)] = 42
    _derived: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _derive_defaults(cls, data: Any, validate: ModelWrapValidatorHandler[PipelineSpec]) -> PipelineSpec:
        if not isinstance(data, Mapping):
            return validate(data)
        spec = validate(with_derived_defaults(data))
        spec._derived = derived_defaults(data)
        return spec

    @property
    def derived(self) -> dict[str, str]:
        """The defaults that were derived from the declaration, by key."""
        return dict(self._derived)

    @model_validator(mode="after")
    def _require_distinct_candidates(self) -> PipelineSpec:
        names = [candidate.name for candidate in self.candidates]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"several candidates have the same name: {', '.join(sorted(repeated))}")
        return self

    @model_validator(mode="after")
    def _require_metrics_of_task(self) -> PipelineSpec:
        for name in (*self.gate.metrics, *self.gate.report):
            if (metric := find_metric(name)) is not None and metric.task != self.model.task:
                raise ValueError(f"{name} is not a metric of {self.model.task}")
        return self

    @property
    def effective_candidates(self) -> tuple[Candidate, ...]:
        """The candidates to train: the declared ones, or the defaults of the task."""
        return self.candidates or DEFAULT_CANDIDATES[self.model.task]
