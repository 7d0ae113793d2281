from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_pipelines._utils.canonical_json import dump_json
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import RegistryError, ServiceUnavailable
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, dummy_predictions
from ml_pipelines.pipeline.facts import DecideFacts
from ml_pipelines.pipeline.parameters import DecideParameters
from ml_pipelines.ports import TrackedModel
from ml_pipelines.spec.training import Gate
from ml_pipelines.steps.training.decide import decide, resolve
from ml_pipelines.testing import FakeServices

OURS, THEIRS = "a" * 64, "b" * 64
CHAMPION = {"version": "3", "sha256": THEIRS}
BY_HAND = {"models": [], "trainings": [], "model_bytes": [10, 20]}

TUESDAY = Identity(pipeline="churn", run_id="tuesday", task_id="t")


def evaluation(
    test: dict[str, float | None],
    *,
    dummy: dict[str, float | None] | None = None,
    champion: dict[str, Any] | None = None,
    metric: str = "roc_auc",
    difference: tuple[float, float] | None = None,
    slices: tuple[Any, ...] = (),
) -> dict[str, Any]:
    """As `evaluate` makes it; `difference` is the interval of that to the champion."""
    interval = difference and {"low": difference[0], "high": difference[1], "confidence": 0.95}
    compared = {"metric": metric, "difference": 0.0, "interval": interval, "draws": 200, "rows": 100}
    return {
        "metric": metric,
        "winner": "tree",
        "candidates": [
            {"candidate": "linear", "sha256": "c" * 64, "test": {metric: 0.6}, "slices": []},
            {"candidate": "tree", "sha256": OURS, "test": test, "slices": [*slices]},
        ],
        "champion": champion,
        "dummy": {"test": {metric: 0.5} if dummy is None else dummy},
        "intervals": {metric: {"low": 0.1, "high": 0.9, "confidence": 0.95}},
        "champion_intervals": {},
        "comparison": compared if difference else None,
    }


def scored(identity: str = THEIRS, slices: tuple[Any, ...] = (), **test: float | None) -> dict[str, Any]:
    return {"identity": identity, "test": test, "slices": [*slices], "error": None}


def decided(
    document: dict[str, Any],
    champion: dict[str, Any] | None = None,
    promote: str = "auto",
    guards: dict[str, float] | None = None,
    **gate: Any,
) -> Decision:
    parameters = DecideParameters(model="churn", gate=Gate(**{"metric": document["metric"], **gate}), promote=promote)
    output = decide(evaluation=document, parameters=parameters, seed=1, champion=champion, guards=guards, **BY_HAND)
    decision = Decision.model_validate(output.outputs["decision"])
    assert DecideFacts(**output.values).decision == decision
    assert (decision.candidate, decision.candidate_index) == ("tree", 1)
    assert decision.champion_version == (champion["version"] if champion else None)
    return decision


def test_a_decision_holds_all_its_evidence() -> None:
    groups = ({"column": "plan", "level": None, "rows": 60, "metrics": {"roc_auc": 0.7}},)
    theirs = ({"column": "plan", "level": None, "rows": 60, "metrics": {"roc_auc": 0.6}},)
    document = evaluation(
        {"roc_auc": 0.9}, champion=scored(slices=theirs, roc_auc=0.8), difference=(0.01, 0.2), slices=groups
    )
    decision = decided(document, CHAMPION, guards={"seconds_per_row": 0.001})
    assert decision.outcome == "promoted"
    assert (decision.metrics, decision.champion_metrics, decision.dummy_metrics) == (
        {"roc_auc": 0.9},
        {"roc_auc": 0.8},
        {"roc_auc": 0.5},
    )
    assert decision.champion_version == "3"
    assert decision.guards == {"model_bytes": 20.0, "seconds_per_row": 0.001}
    assert decision.intervals["roc_auc"].low == 0.1
    assert decision.comparison is not None
    assert decision.comparison.interval is not None
    assert (decision.comparison.interval.low, decision.comparison.rows) == (0.01, 100)
    (group,) = decision.slices
    assert (group.column, group.value, group.rows) == ("plan", "nothing", 60)
    assert (group.metrics, group.champion_metrics) == ({"roc_auc": 0.7}, {"roc_auc": 0.6})


def test_a_rejected_run_keeps_the_champions_score_too() -> None:
    document = evaluation({"roc_auc": 0.6}, champion=scored(roc_auc=0.8), difference=(-0.3, -0.1))
    decision = decided(document, CHAMPION)
    assert (decision.outcome, decision.champion_metrics) == ("rejected", {"roc_auc": 0.8})


def test_a_champion_that_could_not_be_compared_holds_the_model() -> None:
    lost = {"identity": THEIRS, "test": {}, "slices": [], "error": "the file is gone"}
    decision = decided(evaluation({"roc_auc": 0.9}, champion=lost), CHAMPION)
    assert (decision.outcome, decision.champion_error) == ("held", "the file is gone")
    assert decision.rules[-1].detail == "champion version 3 could not be compared: the file is gone"


def test_a_champion_of_unknown_origin_is_known_by_its_version() -> None:
    lost = {"identity": "version 3", "test": {}, "slices": [], "error": "not registered by a pipeline"}
    decision = decided(evaluation({"roc_auc": 0.9}, champion=lost), {"version": "3", "sha256": None})
    assert decision.outcome == "held"


def test_the_champions_own_model_again_is_no_change() -> None:
    document = evaluation({"roc_auc": 0.4}, champion=scored(OURS, roc_auc=0.4), difference=(0, 0))
    decision = decided(document, {"version": "3", "sha256": OURS}, thresholds={"roc_auc": 0.8})
    assert decision.outcome == "no_change"
    assert decision.champion_metrics == decision.metrics


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (None, CHAMPION),
        (scored(roc_auc=0.7), None),
        (scored(roc_auc=0.7), {"version": "4", "sha256": "d" * 64}),
    ],
)
def test_a_champion_that_changed_meanwhile_is_an_error(then: Any, now: Any) -> None:
    with pytest.raises(RegistryError) as caught:
        decided(evaluation({"roc_auc": 0.9}, champion=then), now)
    assert caught.value.what == "the champion changed during the run"


def test_a_model_that_is_never_positive_is_rejected_although_its_accuracy_passes() -> None:
    """The seed of many a bad deployment: 85.9 % of the rows are negative, so always saying no is 85.9 % accurate."""
    target = TargetSchema("classification", (0, 1), 1)
    truth = np.array([1] * 141 + [0] * 859)
    training = {"target_summary": {"share": {"0": 0.859, "1": 0.141}}}
    dummy = compute_metrics(target, truth, dummy_predictions(target, training, 1000))
    never = compute_metrics(target, truth, np.zeros(1000))
    assert never["accuracy"] == 0.859
    for metric in ("accuracy", "roc_auc", "f1"):
        document = evaluation(never, dummy=dummy, metric=metric)
        for lift in (0.0, 0.01):
            decision = decided(document, thresholds={"accuracy": 0.85}, lift_over_dummy=lift)
            assert decision.rules[0].passed
            assert decision.outcome == "rejected"
            assert decision.reason.startswith(f"beats dummy: {metric} is 0 better than that of the dummy b")


def test_the_champion_is_looked_up_and_part_of_the_key() -> None:
    services = FakeServices()
    parameters = DecideParameters(model="churn", gate=Gate(metric="roc_auc"))
    ref = services.put(b"model", kind="model")
    empty = resolve(parameters, {"models": (ref, ref)}, services, TUESDAY)
    assert empty.key_facts == {"champion": None}
    assert empty.prepare is not None
    assert empty.prepare("") == {"champion": None, "guards": {}, "model_bytes": [5, 5]}
    identity = Identity(pipeline="churn", run_id="r", task_id="t")
    services.registry.register("churn", TrackedModel("r", "models:/m-1"), ref, identity, {})
    services.registry.set_alias("churn", "1", "champion")
    found = resolve(parameters, {"models": (ref, ref)}, services, TUESDAY)
    assert found.key_facts == {"champion": {"version": "1", "sha256": ref.sha256}}
    assert found.prepare is not None
    assert found.prepare("")["champion"] == found.key_facts["champion"]


@pytest.mark.parametrize("limit", [10.0, 1e-9])
def test_a_time_is_measured_only_where_it_is_limited_and_no_part_of_the_key(run: Any, limit: Any) -> None:
    evaluation = run.services.put(dump_json(run.evaluate().outputs["evaluation"]), kind="json")
    inputs = {"models": run.models, "trainings": run.trainings, "evaluation": evaluation}
    gate = Gate(metric="roc_auc", guards={"max_seconds_per_row": limit})
    found = resolve(DecideParameters(model="churn", gate=gate), inputs, run.services, TUESDAY)
    measured = found.values["seconds_per_row"]
    assert isinstance(measured, float)
    assert 1e-9 < measured < 10
    # A time is another one each time; the limit that was kept is not.
    kept = limit if limit == 10.0 else measured
    assert found.key_facts == {"champion": None, "guards": {"seconds_per_row": kept}}
    assert found.prepare is not None
    assert found.prepare("")["guards"] == {"seconds_per_row": kept}


def test_a_registry_that_is_down_is_worth_another_try() -> None:
    services = FakeServices()
    services.registry.down = True
    with pytest.raises(ServiceUnavailable, match="the model registry does not answer"):
        resolve(DecideParameters(model="churn", gate=Gate(metric="roc_auc")), {"models": ()}, services, TUESDAY)
