from __future__ import annotations

import pytest

from ml_pipelines.errors import SpecError
from ml_pipelines.pipeline.batch import DRIFT, SCORING
from ml_pipelines.pipeline.training import CATALOG
from ml_pipelines.spec.execution import DRIFT_STEPS, SCORING_STEPS, STEPS, Docker, Placement
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.training import PipelineSpec

BASE = """
model: {name: m, task: classification}
data: {file: {path: a.csv}, target: y, key: k}
gate: {metric: roc_auc}
"""


def declared(runtime: str) -> PipelineSpec:
    return parse_spec(f"{BASE}runtime: {runtime}\n", path="x.yaml")


def mistakes(runtime: str) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecError) as error:
        declared(runtime)
    return [(each.path, each.message, each.hint) for each in error.value.mistakes]


def test_the_steps_are_the_catalogs() -> None:
    assert tuple(CATALOG) == STEPS
    assert tuple(SCORING) == SCORING_STEPS
    assert tuple(DRIFT) == DRIFT_STEPS


def test_a_step_is_placed() -> None:
    spec = declared("{train: {docker: {image: a/b:1, memory: 1.5G, cpus: 2}, queue: training, pool: big}, split: {}}")
    docker = Docker(image="a/b:1", memory="1.5g", cpus=2)
    assert spec.runtime == {"train": Placement(docker=docker, queue="training", pool="big"), "split": Placement()}
    assert docker.memory_bytes == 1536 * 2**20


def test_a_container_has_limits_unless_told() -> None:
    docker = declared("{train: {docker: {}}}").runtime["train"].docker
    assert docker == Docker(image=None, memory="2g", cpus=1)
    assert Docker.model_validate(docker.model_dump(mode="json")) == docker


def test_a_step_that_is_none_is_told_with_the_nearest() -> None:
    ((path, message, hint),) = mistakes("{trian: {queue: training}}")
    assert path == "runtime.trian"
    assert message.startswith("expected a step, one of ingest, compare_with_champion, ")
    assert message.endswith(', got "trian"')
    assert hint == 'did you mean "train"?'


def test_what_a_container_can_not_have_is_told() -> None:
    size = "expected a size such as 512m or 2g, at least 6m, got"
    found = mistakes("{train: {docker: {memory: 2, cpu: 2}}, split: {docker: {memory: 1m, cpus: 0}}}")
    assert found == [
        ("runtime.train.docker.memory", f"{size} 2", ""),
        (
            "runtime.train.docker.cpu",
            'unknown field "cpu": expected one of image, memory, cpus',
            'did you mean "cpus"?',
        ),
        ("runtime.split.docker.memory", f'{size} "1m"', ""),
        ("runtime.split.docker.cpus", "expected a number above 0, got 0", ""),
    ]


def test_a_container_without_fields_is_written_out() -> None:
    message = "expected a mapping (fields: image, memory, cpus), got nothing"
    assert mistakes("{train: {docker: }}") == [
        ("runtime.train.docker", message, "write docker: {} to keep the defaults")
    ]
