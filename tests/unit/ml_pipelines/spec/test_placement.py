from __future__ import annotations

from collections.abc import Callable

import pytest

from ml_pipelines.errors import SpecError
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.placement import Docker, Placement
from ml_pipelines.spec.training import PipelineSpec

Install = Callable[..., None]

BASE = """
model: {name: m, task: classification}
data: {file: {path: a.csv}, target: y, key: k}
gate: {metric: roc_auc}
"""


def declared(runtime: str) -> PipelineSpec:
    return parse_spec(f"{BASE}runtime: {runtime}\n", path="x.yaml")


def issues(runtime: str) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecError) as error:
        declared(runtime)
    return [(item.path, item.message, item.hint) for item in error.value.issues]


def test_runtime_places_a_task() -> None:
    placed = "{docker: {image: a/b:1, memory: 1.5G, cpus: 2}, queue: training, pool: big}"
    spec = declared(f"{{train_model: {placed}, preprocess_data: {{}}}}")
    docker = Docker(image="a/b:1", memory="1.5g", cpus=2)
    assert spec.runtime == {
        "train_model": Placement(docker=docker, queue="training", pool="big"),
        "preprocess_data": Placement(),
    }
    assert docker.memory_bytes == 1536 * 2**20


def test_docker_has_default_limits() -> None:
    docker = declared("{train_model: {docker: {}}}").runtime["train_model"].docker
    assert docker == Docker(image=None, memory="2g", cpus=1)
    assert Docker.model_validate(docker.model_dump(mode="json")) == docker


def test_unknown_task_gets_the_nearest_name() -> None:
    ((path, message, hint),) = issues("{trian_model: {queue: training}}")
    assert path == "runtime.trian_model"
    assert message.startswith("expected a task, one of ingest_data, check_quality, ")
    assert message.endswith(', got "trian_model"')
    assert hint == 'did you mean "train_model"?'


def test_docker_fields_are_validated() -> None:
    size = "expected a size such as 512m or 2g, at least 6m, got"
    matches = issues("{train_model: {docker: {memory: 2, cpu: 2}}, preprocess_data: {docker: {memory: 1m, cpus: 0}}}")
    assert matches == [
        ("runtime.train_model.docker.memory", f"{size} 2", ""),
        (
            "runtime.train_model.docker.cpu",
            'unknown field "cpu": expected one of image, memory, cpus',
            'did you mean "cpus"?',
        ),
        ("runtime.preprocess_data.docker.memory", f'{size} "1m"', ""),
        ("runtime.preprocess_data.docker.cpus", "expected a number above 0, got 0", ""),
    ]


def test_docker_without_fields_needs_braces() -> None:
    message = "expected a mapping (fields: image, memory, cpus), got nothing"
    assert issues("{train_model: {docker: }}") == [
        ("runtime.train_model.docker", message, "write docker: {} to keep the defaults")
    ]


def test_step_name_in_runtime_gets_the_task_that_runs_it() -> None:
    ((path, _, hint),) = issues("{split: {queue: training}}")
    assert (path, hint) == ("runtime.split", 'the task "preprocess_data" runs the step "split"')


def test_runtime_refuses_a_task_that_only_an_installed_step_names(install: Install) -> None:
    code = "from types import SimpleNamespace\nenrich = SimpleNamespace(task='enrich_data')\n"
    install("enriching", code, steps={"enrich": "enriching:enrich"})
    ((path, _, _),) = issues("{enrich_data: {queue: wide}}")
    assert path == "runtime.enrich_data"
