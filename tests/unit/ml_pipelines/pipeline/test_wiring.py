from __future__ import annotations

import pytest

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.wiring import upstream_steps, wire_inputs


def result(step: str, index: int = 0, failed: bool = False) -> StepResult:
    outputs = {
        name: ArtifactRef(uri=f"file:///{step}/{name}/{index}", sha256="a" * 64, bytes=1, kind=kind)
        for name, kind in TRAINING_STEPS[step].outputs.items()
        if (name == "failure") is failed
    }
    status = "failed" if failed else "computed"
    return StepResult(step=step, key="b" * 64, status=status, reason="", outputs=outputs, values={"n": index})


def test_a_step_needs_what_its_row_names_in_order() -> None:
    assert upstream_steps("ingest") == ()
    assert upstream_steps("preprocess") == ("ingest", "check_quality")
    assert upstream_steps("register") == ("ingest", "compare_with_champion", "train", "decide")


def test_no_step_needs_a_later_one() -> None:
    names = list(TRAINING_STEPS)
    assert all(names.index(needed) < names.index(step) for step in names for needed in upstream_steps(step))


def test_every_input_is_an_output_of_the_step_that_it_names() -> None:
    for row in TRAINING_STEPS.values():
        for source in (*row.inputs.values(), *row.context.values()):
            producer, _, output = source.partition(".")
            assert output in TRAINING_STEPS[producer].outputs


def test_a_mapped_step_gives_lists_in_its_order() -> None:
    trained = [result("train", index) for index in (0, 1)]
    wired = wire_inputs(TRAINING_STEPS["evaluate"], {"train": trained, "split": result("split")})
    assert wired["inputs"]["models"] == tuple(item.outputs["model"] for item in trained)
    assert wired["inputs"]["test"].uri == "file:///split/test/0"
    assert wired["inputs"]["failures"] == ()
    assert wired["facts"] == {"train": [{"n": 0}, {"n": 1}]}


def test_a_failure_of_a_mapped_step_is_an_input_of_its_own_and_has_no_facts() -> None:
    trained = [result("train", 0), result("train", 1, failed=True), result("train", 2)]
    inputs = wire_inputs(TRAINING_STEPS["evaluate"], {"train": trained, "split": result("split")})["inputs"]
    assert inputs["models"] == tuple(trained[index].outputs["model"] for index in (0, 2))
    assert inputs["failures"] == (trained[1].outputs["failure"],)
    facts = wire_inputs(TRAINING_STEPS["record_decision"], {"train": trained})["facts"]
    assert facts == {"train": [{"n": 0}, {"n": 2}]}


def test_what_only_publishing_reads_may_be_absent() -> None:
    wired = wire_inputs(TRAINING_STEPS["record_decision"], {"check_quality": result("check_quality"), "train": None})
    assert wired["inputs"] == {}
    assert list(wired["context"]) == ["report"]
    assert wired["facts"] == {"check_quality": {"n": 0}}


def test_an_input_that_no_step_made_is_told() -> None:
    with pytest.raises(RequestError, match="step split has no input 'table'") as caught:
        wire_inputs(TRAINING_STEPS["split"], {"preprocess": None})
    assert caught.value.expected == "the result of step preprocess"
    assert caught.value.fix == "run step preprocess first"
