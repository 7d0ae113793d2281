"""A trained run to judge and ship: three small tasks, each with two fitted candidates, and the ports in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.step_values import split_record

from ml_pipelines._utils.canonical_json import dump_json, load_json
from ml_pipelines.contracts import ArtifactRef, DataPin, Decision, Identity
from ml_pipelines.evaluation.held_out_predictions import predictions_table
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.pipeline.facts import (
    DecideFacts,
    FactsForRecord,
    FactsForTraining,
    IngestFacts,
    TrainFacts,
)
from ml_pipelines.pipeline.step import Publication, References, StepOutput
from ml_pipelines.pipeline.step_parameters import EvaluateParameters, Parameters, TrainParameters
from ml_pipelines.ports.ledger_entry import RunDetails, VersionRecord
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.promotion.model_files import new_record
from ml_pipelines.spec.gate import Slices
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.training import evaluate as evaluate_step
from ml_pipelines.steps.training import evaluate_io as evaluate_outside
from ml_pipelines.steps.training import train as train_step
from ml_pipelines.testing import FakeServices

MODEL = "churn"
PIN = DataPin(source="dvc", location="data.csv", revision="abc123", digest="md5:1f")
INGESTED = IngestFacts(pin=PIN, columns=4, empty_rows=0)
CANDIDATES = {
    "classification": ("sklearn.linear_model.LogisticRegression", "sklearn.tree.DecisionTreeClassifier"),
    "regression": ("sklearn.linear_model.Ridge", "sklearn.tree.DecisionTreeRegressor"),
}


def table(kind: str, rows: int, seed: int) -> pl.LazyFrame:
    rng = np.random.default_rng(seed)
    x, colour = rng.normal(size=rows), rng.choice(["red", "blue"], rows)
    signal = x + (colour == "red") + rng.normal(scale=0.7, size=rows)
    target = {
        "binary": np.where(signal > 1, "bad", "good"),
        "multiclass": np.digitize(signal, [0.0, 1.0]),
        "regression": signal * 10,
    }[kind]
    return pl.LazyFrame({"id": range(rows), "x": x, "colour": colour, "label": target})


@dataclass
class Run:
    """One run up to its trainings, and everything that publishing it needs."""

    kind: str
    services: FakeServices
    models: tuple[ArtifactRef, ...]
    trainings: tuple[ArtifactRef, ...]
    facts: list[TrainFacts]
    train: pl.LazyFrame
    validation: pl.LazyFrame
    test: pl.LazyFrame
    identity: Identity = field(default_factory=lambda: Identity(pipeline=MODEL, run_id="monday", task_id="t"))

    @property
    def task(self) -> str:
        return "regression" if self.kind == "regression" else "classification"

    @property
    def records(self) -> list[dict[str, Any]]:
        return [load_json(self.services.read(ref)) for ref in self.trainings]

    def loader(self, ref: ArtifactRef) -> Callable[[], Any]:
        return lambda: load_model(self.services.read(ref))

    @property
    def predictions(self) -> list[pl.LazyFrame]:
        """The predictions of each candidate for the validation rows."""
        models = [self.loader(ref)() for ref in self.models]
        frames = [model_frame(self.validation, record) for record in self.records]
        return [
            predictions_table(predict(model, frame, record))
            for model, frame, record in zip(models, frames, self.records, strict=True)
        ]

    def parameters(self, **changes: Any) -> EvaluateParameters:
        metric = "r2" if self.task == "regression" else "roc_auc"
        settings = {
            "task": self.task,
            "key": "id",
            "target": "label",
            "metric": metric,
            "slices": Slices(),
            "model": MODEL,
        }
        settings |= {"confidence": 0.95, "draws": 200}
        return EvaluateParameters(**{**settings, **changes})

    def evaluate(self, parameters: EvaluateParameters | None = None, **changes: Any) -> StepOutput:
        """Resolve and compute, as a run does."""
        parameters = parameters or self.parameters()
        resolution = evaluate_outside.resolve(parameters, {"models": self.models}, self.services, self.identity)
        assert resolution.prepare is not None
        arguments = resolution.prepare("")
        if "champion" in resolution.inputs:
            arguments["champion"] = self.loader(resolution.inputs["champion"])
        settings = {
            "models": [self.loader(ref) for ref in self.models],
            "trainings": self.records,
            "predictions": self.predictions,
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "champion_split": split_record(),
        }
        output = evaluate_step.evaluate(parameters=parameters, seed=1, **{**settings, **arguments, **changes})
        return replace(output, values={**output.values, **resolution.values})

    def json(self, document: dict[str, Any]) -> ArtifactRef:
        return self.services.put(dump_json(document), kind="json")

    def decision(self, outcome: str = "promoted", index: int = 0, **changes: Any) -> DecideFacts:
        fields = {"model": MODEL, "candidate": self.records[index]["candidate"], "candidate_index": index}
        return DecideFacts(decision=Decision(outcome=outcome, **{**fields, "reason": "so", **changes}))

    def work(
        self,
        parameters: Parameters,
        references: References,
        facts: dict[str, Any],
        values: dict[str, Any] | None = None,
        *,
        reads: type[Any] = FactsForRecord,
    ) -> Publication[Any, Any]:
        earlier = {"ingest": INGESTED, "train": tuple(self.facts), **facts}
        return Publication(
            parameters=parameters,
            references=references,
            values=values or {},
            facts=reads(**{item.name: earlier[item.name] for item in fields(reads) if item.name in earlier}),
            identity=self.identity,
            key="0" * 64,
        )

    def champion(self, index: int = 0, tags: dict[str, str] | None = None) -> str:
        """Make a candidate of this run the champion, as an earlier run would have; gives its version."""
        from ml_pipelines.ports import TrackedModel

        facts = self.facts[index]
        tracked = TrackedModel(facts.tracking_run_id, facts.model_uri)
        earlier = self.identity.model_copy(update={"run_id": "an earlier run"})
        tags = {TRAINING_TAG: self.trainings[index].model_dump_json(), **(tags or {})}
        version = self.services.registry.register(MODEL, tracked, self.models[index], earlier, tags)
        self.services.registry.set_alias(MODEL, version.version, "champion")
        return version.version

    def recorded_champion(self, index: int = 0) -> VersionRecord:
        """Make a candidate the champion, with a ledger entry of the run that registered it."""
        number = self.champion(index, tags={TRAINING_TAG: self.trainings[index].model_dump_json()})
        version = self.services.registry.by_version(MODEL, number)
        assert version is not None
        record = new_record(self.services.registry, self.services.ledger, version, self.trainings[index])
        earlier = self.identity.model_copy(update={"run_id": "an earlier run"})
        decision = Decision(outcome="promoted", model=MODEL, reason="so")
        self.services.ledger.record(earlier, decision, RunDetails(version=number, registered=record))
        return record


@pytest.fixture(scope="session")
def fitted() -> Callable[[str], list[StepOutput]]:
    """The candidates of a kind of task, fitted once."""
    created: dict[str, list[StepOutput]] = {}

    def fit(kind: str) -> list[StepOutput]:
        task = "regression" if kind == "regression" else "classification"
        if kind not in created:
            created[kind] = [
                train_step.train(
                    table=table(kind, 300, seed=0),
                    split=split_record(),
                    parameters=TrainParameters(
                        task=task,
                        key="id",
                        target="label",
                        positive="bad" if kind == "binary" else None,
                        features=Features(),
                        candidate=Candidate(name=name, estimator=path, params=params),
                        model=MODEL,
                    ),
                    seed=1,
                )
                for name, path, params in zip(("linear", "tree"), CANDIDATES[task], ({}, {"max_depth": 3}), strict=True)
            ]
        return created[kind]

    return fit


@pytest.fixture
def make_run(fitted: Callable[[str], list[StepOutput]]) -> Callable[..., Run]:
    """Start a run of a kind of task; `services` of an earlier run to continue its world."""

    def make(kind: str = "binary", *, services: FakeServices | None = None, run_id: str = "monday") -> Run:
        services = services or FakeServices()
        outputs = [step.outputs for step in fitted(kind)]
        models = tuple(services.put(dump_model(output["model"]), kind="model") for output in outputs)
        trainings = tuple(services.put(dump_json(output["training"]), kind="json") for output in outputs)
        parts = (table(kind, rows, seed=seed) for seed, rows in enumerate((300, 120, 150)))
        run = Run(kind, services, models, trainings, [], *parts)
        run.identity = Identity(pipeline=MODEL, run_id=run_id, task_id="t")
        parameters = TrainParameters(
            task=run.task,
            key="id",
            target="label",
            positive=None,
            features=Features(),
            candidate=Candidate(name="any", estimator="any"),
            model=MODEL,
        )
        for index, (model, training) in enumerate(zip(models, trainings, strict=True)):
            work = run.work(parameters, {"model": model, "training": training}, {}, reads=FactsForTraining)
            identity = Identity(pipeline=MODEL, run_id=run_id, task_id="train", map_index=index)
            work = Publication(**{name: getattr(work, name) for name in work.__slots__} | {"identity": identity})
            run.facts.append(TrainFacts(**fitted(kind)[index].values, **train_step.publish(work, services)))
        return run

    return make


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """A run of two classes."""
    return make_run()
