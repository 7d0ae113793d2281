"""The steps of the simulation: the real effects and look-ups around functions that compute in microseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ml_pipelines.contracts import DataPin, Decision
from ml_pipelines.pipeline.facts import IngestFacts
from ml_pipelines.pipeline.step import Step, StepOutput
from ml_pipelines.pipeline.step_parameters import Parameters
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.promotion.history import hold_rolled_back
from ml_pipelines.steps.training.decide import _opponent

__all__ = ["STEPS", "TrainingRecord", "model_bytes", "predictions", "score_of"]


class DataParameters(Parameters):
    """A version of the data. The score of its model follows from it."""

    revision: int
    model: str = "m"

    @property
    def other_metrics(self) -> Sequence[Any]:
        """No metric beside the simulated score."""
        return ()

    @property
    def report_metrics(self) -> Sequence[Any]:
        """No metric to show beside the simulated score."""
        return ()

    @property
    def gate(self) -> Any:
        """No limit of a resource."""
        return SimpleNamespace(guards=SimpleNamespace(max_seconds_per_row=None))


class DecideParameters(DataParameters):
    """A version of the data, and whether a better model waits for approval."""

    hold: bool = False


def score_of(revision: int) -> int:
    """Return the quality of the model that is trained on a version of the data."""
    return hashlib.sha256(b"score %d" % revision).digest()[0]


class TrainingRecord(SimpleNamespace):
    """A training record with the fields that the effects read."""

    @classmethod
    def model_validate_json(cls, data: bytes) -> TrainingRecord:
        """Return the record of a JSON document."""
        smoke = SimpleNamespace(**json.loads(data)["smoke"])
        return cls(
            candidate="c",
            estimator="simulated",
            params={},
            rows=1,
            features=(),
            requirements=(),
            trusted_types=(),
            smoke=smoke,
            threshold=None,
        )


def model_bytes(revision: int) -> bytes:
    """Return the file of the model that is trained on a version of the data."""
    return json.dumps({"revision": revision, "score": score_of(revision)}).encode()


def predictions(model: bytes) -> list[float]:
    """Return the predictions of a model file for the smoke rows."""
    return [float(json.loads(model)["score"])]


def ingest(*, parameters: DataParameters, seed: int) -> StepOutput:
    """Return the rows of a version of the data."""
    pin = DataPin(source="simulated", location="data", digest=f"revision:{parameters.revision}")
    facts = IngestFacts(pin=pin, columns=1, empty_rows=0)
    return StepOutput(outputs={"table": {"revision": parameters.revision}}, values=facts.as_values())


def train(*, table: dict[str, Any], parameters: DataParameters, seed: int) -> StepOutput:
    """Return the model of a version of the data."""
    model = model_bytes(table["revision"])
    record = {"smoke": {"rows": [{"x": 1}], "predictions": predictions(model), "answers": predictions(model)}}
    return StepOutput(outputs={"model": model, "training": record}, values={"candidate": "c", "rows": 1, "features": 1})


def evaluate(
    *,
    models: list[bytes],
    trainings: list[dict[str, Any]],
    parameters: DataParameters,
    seed: int,
    digests: list[str],
    champion: bytes | None = None,
    champion_status: dict[str, Any] | None = None,
    **_: Any,
) -> StepOutput:
    """Compare the candidate with the champion by their scores."""
    scores = [json.loads(model)["score"] for model in models]
    row = {"candidate": "c", "sha256": digests[0], "validation": {}, "test": {"score": float(scores[0])}}
    opponent = None
    if champion_status is not None:
        same = champion is None and champion_status["identity"] == digests[0]
        score = scores[0] if same else json.loads(champion)["score"] if champion is not None else None
        opponent = {**champion_status, "score": score}
    evaluation = {"candidates": [row], "winner": "c", "champion": opponent}
    values = {"winner": "c", "metric": "score", "value": float(scores[0]), "test": row["test"]}
    return StepOutput(outputs={"evaluation": evaluation}, values=values)


def decide(
    *,
    evaluation: dict[str, Any],
    models: list[bytes],
    trainings: list[dict[str, Any]],
    parameters: DecideParameters,
    seed: int,
    champion: dict[str, Any] | None = None,
    withdrawn: dict[str, str] | None = None,
    **_: Any,
) -> StepOutput:
    """Promote a candidate that has a higher score than the champion."""
    opponent = _opponent(evaluation, champion)
    row = evaluation["candidates"][0]
    better = opponent is None or opponent["score"] is None or row["test"]["score"] > opponent["score"]
    outcome = "rejected" if not better else "held" if parameters.hold else "promoted"
    decision = Decision(
        outcome=outcome,
        model=parameters.model,
        candidate="c",
        candidate_index=0,
        reason=f"score {row['test']['score']}",
        metric="score",
        metrics=row["test"],
        champion_version=champion["version"] if champion else None,
    )
    decision = hold_rolled_back(decision, (withdrawn or {}).get(row["sha256"]))
    document = decision.model_dump(mode="json")
    return StepOutput(outputs={"decision": document}, values={"decision": document})


def _simulated(name: str, parameters: str = "DataParameters", **changes: Any) -> Step:
    place = "tests.simulation.steps"
    if TRAINING_STEPS[name].compute:
        changes = {"parameters": f"{place}:{parameters}", "compute": f"{place}:{name}", **changes}
    return replace(TRAINING_STEPS[name], **changes)


STEPS: dict[str, Step] = {
    "ingest": _simulated("ingest", resolve=None, outputs={"table": "json"}),
    "train": _simulated(
        "train",
        inputs={"table": "ingest.table"},
        outputs={"model": "model", "training": "json", "failure": "json"},
    ),
    "evaluate": _simulated("evaluate", publish=None, inputs={"models": "train.model", "trainings": "train.training"}),
    "decide": _simulated(
        "decide",
        parameters="DecideParameters",
        inputs={"evaluation": "evaluate.evaluation", "models": "train.model", "trainings": "train.training"},
    ),
    "register": _simulated("register"),
    "deploy": _simulated("deploy"),
    "record_decision": _simulated("record_decision"),
}
"""The rows of the training, with the computing functions of this module."""
