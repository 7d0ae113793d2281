from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.step_values import step_values

from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.runner import training as pipeline
from ml_pipelines.runner.training import orchestrate, request_label, run_pipeline, selected_candidates
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.testing import FakeServices

SPEC = PipelineSpec.model_validate(
    {
        "name": "shop",
        "model": {"name": "shop-model", "task": "classification"},
        "data": {"file": {"path": "a.csv"}, "key": "id", "target": "label"},
        "candidates": [{"name": name, "estimator": "sklearn.svm.SVC"} for name in ("one", "two")],
        "gate": {"metric": "roc_auc"},
        "seed": 7,
    }
)

Walk = Callable[..., list[str]]


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    """Runs the pipeline with steps that do nothing but say what they found; gives back the labels of those that ran."""
    store = ArtifactStore(str(tmp_path))

    def run(
        *,
        compared: str = "go_on",
        verdict: str = "passed",
        outcome: str = "promoted",
        check: Any = None,
        **arguments: Any,
    ) -> list[str]:
        def step(request: StepRequest, services: FakeServices) -> StepResult:
            if check:
                check(request)
            kinds = TRAINING_STEPS[request.step].outputs.items()
            outputs = {name: store.put_bytes(json.dumps(request.step).encode(), kind=kind) for name, kind in kinds}
            changes = {
                "compare_with_champion": {"verdict": compared},
                "check_quality": {"verdict": verdict},
                "decide": {"outcome": outcome},
            }
            values = step_values(request.step, **changes.get(request.step, {}))
            return StepResult(
                step=request.step, key="a" * 64, status="computed", reason="", outputs=outputs, values=values
            )

        monkeypatch.setattr(pipeline, "run_step", step)
        labels: list[str] = []
        run_pipeline(SPEC, FakeServices(), store=store.uri, run_id="r", on_start=labels.append, **arguments)
        return labels

    return run


JUDGED = [
    "ingest",
    "compare_with_champion",
    "check_quality",
    "preprocess",
    "split",
    "train[one]",
    "train[two]",
    "evaluate",
    "decide",
]


def test_a_model_that_is_promoted_is_registered_and_deployed(walk: Walk) -> None:
    assert walk() == [*JUDGED, "register", "deploy", "record_decision"]


@pytest.mark.parametrize("outcome", ["held", "rejected", "no_change"])
def test_a_model_that_is_not_stays_out(walk: Walk, outcome: str) -> None:
    assert walk(outcome=outcome) == [*JUDGED, "record_decision"]


def test_a_person_may_approve_what_is_held_and_nothing_else(walk: Walk) -> None:
    last: list[StepRequest] = []
    labels = walk(outcome="held", approve=lambda decision: "ada", check=last.append)
    assert labels == [*JUDGED, "register", "deploy", "record_decision"]
    assert last[-1].facts["approval"] == {"approver": "ada"}
    assert walk(outcome="rejected", approve=lambda decision: "ada", check=last.append) == [*JUDGED, "record_decision"]
    assert "approval" not in last[-1].facts


def test_nothing_new_ends_the_run_before_it_computes(walk: Walk) -> None:
    assert walk(compared="no_change") == ["ingest", "compare_with_champion", "record_decision"]


def test_poor_data_stops_the_run_before_it_trains(walk: Walk) -> None:
    assert walk(verdict="stopped") == ["ingest", "compare_with_champion", "check_quality", "record_decision"]


def test_what_a_run_asks_for_reaches_the_steps(walk: Walk) -> None:
    requests: dict[str, StepRequest] = {}
    options = RunOptions(candidates=("two",), force=True, promote="hold")
    labels = walk(options=options, check=lambda request: requests.update({request.step: request}))
    assert "train[two]" in labels
    assert "train[one]" not in labels
    assert all(request.force and request.seed == 7 for request in requests.values())
    assert requests["decide"].parameters["promote"] == "hold"
    assert (requests["train"].identity.task_id, requests["train"].identity.map_index) == ("train", 0)
    assert requests["split"].identity.map_index == -1
    assert len(requests["evaluate"].inputs["models"]) == 1  # type: ignore[arg-type]


def test_candidates_are_chosen_by_name_in_the_order_of_the_declaration() -> None:
    assert [candidate.name for candidate in selected_candidates(SPEC, ())] == ["one", "two"]
    assert [candidate.name for candidate in selected_candidates(SPEC, ("two", "one"))] == ["one", "two"]
    assert [candidate.name for candidate in selected_candidates(SPEC, ("two",))] == ["two"]


def test_a_candidate_that_is_not_declared_is_told_before_any_step(walk: Walk) -> None:
    with pytest.raises(RequestError, match="there is no candidate 'three'") as caught:
        walk(options=RunOptions(candidates=("one", "three")), check=pytest.fail)
    assert (caught.value.where, caught.value.expected) == ("pipeline shop", "some of one, two")
    assert caught.value.fix == "name candidates of the declaration"


def test_whoever_runs_the_steps_is_given_at_once_what_may_run_side_by_side(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    ref = store.put_bytes(b"{}", kind="json")
    given: list[list[str]] = []

    def run(requests: Sequence[StepRequest]) -> list[StepResult]:
        given.append([request_label(item) for item in requests])
        step = requests[0].step
        values = step_values(step, **({"outcome": "rejected"} if step == "decide" else {}))
        created = [dict.fromkeys(TRAINING_STEPS[item.step].outputs, ref) for item in requests]
        return [
            StepResult(step=item.step, key="a" * 64, status="computed", reason="", outputs=outputs, values=values)
            for item, outputs in zip(requests, created, strict=True)
        ]

    results = orchestrate(SPEC, run, store=store.uri, run_id="r")
    assert given == [
        ["ingest"],
        ["compare_with_champion"],
        ["check_quality"],
        ["preprocess"],
        ["split"],
        ["train[one]", "train[two]"],
        ["evaluate"],
        ["decide"],
        ["record_decision"],
    ]
    assert (results["register"], results["deploy"]) == (None, None)
    trained = results["train"]
    assert isinstance(trained, list)
    assert len(trained) == 2
