from __future__ import annotations

import pytest

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.step_parameters import DecideParameters, IngestParameters, RunOptions, TrainParameters
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.runner.training import step_parameters
from ml_pipelines.spec.sources import DvcSource, FileSource
from ml_pipelines.spec.training import PipelineSpec

SPEC = PipelineSpec.model_validate(
    {
        "name": "shop",
        "model": {"name": "shop-model", "task": "classification"},
        "data": {"dvc": {"repo": "r", "path": "a.csv"}, "key": "id", "target": "label"},
        "candidates": [{"name": name, "estimator": "sklearn.svm.SVC"} for name in ("one", "two")],
        "gate": {"metric": "roc_auc"},
    }
)


@pytest.mark.parametrize("step", TRAINING_STEPS)
def test_parameters_are_the_same_after_a_round_trip(step: str) -> None:
    created = step_parameters(SPEC, step)
    kind = import_object(TRAINING_STEPS[step].parameters)
    assert type(created) is kind
    assert kind.model_validate_json(created.model_dump_json()) == created
    assert kind.model_validate(created.model_dump(mode="json")) == created
    assert kind.not_in_key <= set(kind.model_fields)


def test_training_is_told_its_candidate() -> None:
    assert TrainParameters.of(SPEC).candidate.name == "one"
    assert TrainParameters.of(SPEC, SPEC.effective_candidates[1]).candidate.name == "two"


def test_a_run_may_ask_for_a_revision_and_for_a_way_to_promote() -> None:
    options = RunOptions(data_revision="v1", promote="hold")
    ingest = IngestParameters.of(SPEC).for_run(options)
    assert isinstance(ingest.source, DvcSource)
    assert (ingest.source.rev, ingest.source.path) == ("v1", "a.csv")
    assert DecideParameters.of(SPEC).for_run(options).promote == "hold"
    assert IngestParameters.of(SPEC).for_run(RunOptions()) == IngestParameters.of(SPEC)


def test_a_file_has_no_revisions() -> None:
    ingest = IngestParameters.of(SPEC).model_copy(update={"source": FileSource(path="a.csv")})
    with pytest.raises(RequestError, match="has no revisions") as caught:
        ingest.for_run(RunOptions(data_revision="v1"))
    assert (caught.value.where, caught.value.got) == ("data.file", "data revision 'v1'")
    assert caught.value.fix == "leave the data revision empty"
