from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, DataPin, Identity
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.pipeline.facts import FactsForComparison, IngestFacts
from ml_pipelines.pipeline.step import Publication
from ml_pipelines.pipeline.step_parameters import CompareWithChampionParameters, RunOptions
from ml_pipelines.ports import TrackedModel
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines.steps.training import compare_with_champion as step
from ml_pipelines.testing import FakeServices

PIN = DataPin(source="dvc", location="data.csv", digest="md5:1f")
TABLE = ArtifactRef(uri="file:///t", sha256="a" * 64, bytes=1, kind="table")
SPEC: dict[str, Any] = {
    "name": "shop",
    "model": {"name": "shop-model", "task": "classification"},
    "data": {"file": {"path": "a.csv"}, "key": "id", "target": "label"},
    "candidates": [{"name": name, "estimator": "sklearn.svm.SVC"} for name in ("one", "two")],
    "gate": {"metric": "roc_auc"},
}


def compared(
    services: FakeServices, *, pin: DataPin = PIN, run_id: str = "tuesday", options: Any = None, **changes: Any
) -> dict[str, Any]:
    spec = PipelineSpec.model_validate(SPEC | changes)
    work = Publication(
        parameters=CompareWithChampionParameters.of(spec).for_run(RunOptions(**(options or {}))),
        references={"table": TABLE},
        values={},
        facts=FactsForComparison(ingest=IngestFacts(pin=pin, columns=2, empty_rows=0)),
        identity=Identity(pipeline="shop", run_id=run_id, task_id="t"),
        key="0" * 64,
    )
    return dict(step.publish(work, services))


def champion(services: FakeServices, fingerprint: Any, version: str = "1") -> None:
    tags = {} if fingerprint is None else {step.TAG: fingerprint}
    identity = Identity(pipeline="shop", run_id="monday", task_id="t")
    services.registry.register("shop-model", TrackedModel("r", f"models:/m-{version}"), TABLE, identity, tags)
    services.registry.set_alias("shop-model", version, "champion")


@pytest.fixture
def services() -> FakeServices:
    """With a champion that was made from all that `compared` is told by default."""
    created = FakeServices()
    champion(created, json.dumps(compared(created)["fingerprint"]))
    return created


def test_a_first_model_goes_on() -> None:
    actual = compared(FakeServices())
    assert (actual["verdict"], actual["reason"]) == ("go_on", "there is no champion yet")
    assert (actual["changed"], actual["champion_version"]) == (None, None)
    assert set(actual["fingerprint"]) == set(step.COMPONENTS)


def test_nothing_new_is_no_change(services: FakeServices) -> None:
    actual = compared(services)
    assert (actual["verdict"], actual["changed"], actual["champion_version"]) == ("no_change", [], "1")
    assert actual["reason"] == (
        "nothing has changed since version 1, the champion: data, code, parameters, environment and gate are the same"
    )


@pytest.mark.parametrize(
    ("changes", "changed", "output"),
    [
        ({"pin": PIN.model_copy(update={"digest": "md5:2f"})}, ["data"], "data changed"),
        ({"seed": 7}, ["parameters"], "parameters changed"),
        ({"split": {"test": 0.3}}, ["parameters"], "parameters changed"),
        ({"options": {"candidates": ("one",)}}, ["parameters"], "parameters changed"),
        ({"gate": {"metric": "f1"}}, ["gate"], "gate changed"),
        ({"gate": {"metric": "f1"}, "seed": 7}, ["parameters", "gate"], "parameters and gate changed"),
    ],
)
def test_what_changed_is_named(services: FakeServices, changes: Any, changed: Any, output: str) -> None:
    actual = compared(services, **changes)
    assert (actual["verdict"], actual["changed"]) == ("go_on", changed)
    assert actual["reason"] == f"{output} since version 1, the champion"


def test_code_and_environment_count(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "code_digests", lambda row: {"a": "b"})
    monkeypatch.setattr(step, "package_versions", lambda row: {"python": "3.99"})
    assert compared(services)["reason"] == "code and environment changed since version 1, the champion"


def test_changed_function_of_user_code_is_named(
    services: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_models")
    monkeypatch.syspath_prepend(str(tmp_path))
    candidates = [{"name": "one", "estimator": "shop_models:Model"}]
    source = tmp_path / "shop_models.py"
    source.write_text("class Model:\n    LEVEL = 1\n")
    created = FakeServices()
    champion(created, json.dumps(compared(created, candidates=candidates)["fingerprint"]))
    assert compared(created, candidates=candidates)["verdict"] == "no_change"
    source.write_text("class Model:\n    LEVEL = 10\n")
    reason = compared(created, candidates=candidates)["reason"]
    assert reason == "code (shop_models.py: Model) changed since version 1, the champion"


@pytest.mark.parametrize("sources", ["[", "[]", 3, '{"a.py": 1}'])
def test_damaged_digests_of_sources_do_not_fail_the_run(services: FakeServices, sources: Any) -> None:
    created = FakeServices()
    champion(created, json.dumps(compared(created)["fingerprint"] | {"sources": sources, "code": "x"}))
    assert compared(created)["changed"] == ["code"]


def test_who_is_asked_and_what_only_the_run_is_called_do_not_count(services: FakeServices) -> None:
    gate = {"metric": "roc_auc", "approval": {"when": "always"}}
    assert compared(services, gate=gate, description="other words", options={"promote": "never"})["changed"] == []


def test_force_goes_on(services: FakeServices) -> None:
    actual = compared(services, options={"force": True})
    assert (actual["verdict"], actual["changed"]) == ("go_on", [])
    assert actual["reason"].endswith("the run computes because of the option force")


def test_rows_without_a_digest_of_their_source_are_told_apart_by_themselves() -> None:
    actual = compared(FakeServices(), pin=PIN.model_copy(update={"digest": None}))
    assert actual["fingerprint"]["data"] != compared(FakeServices())["fingerprint"]["data"]


def test_a_second_try_of_the_run_that_made_the_champion_goes_on(services: FakeServices) -> None:
    assert compared(services, run_id="monday")["verdict"] == "go_on"


@pytest.mark.parametrize("fingerprint", [None, "{", "[]"])
def test_a_champion_without_a_fingerprint_is_told(fingerprint: Any) -> None:
    services = FakeServices()
    champion(services, fingerprint)
    actual = compared(services)
    assert (actual["verdict"], actual["changed"]) == ("go_on", None)
    assert "version 1" in actual["reason"]
    assert "no fingerprint" in actual["reason"]


def test_a_registry_that_is_down_is_worth_another_try() -> None:
    services = FakeServices()
    services.registry.down = True
    with pytest.raises(ServiceUnavailable, match="the model registry does not answer"):
        compared(services)


def test_candidates_that_failed_in_the_run_of_the_champion_are_tried_again() -> None:
    created = FakeServices()
    champion(created, json.dumps(compared(created)["fingerprint"] | {"candidate_failed": "tree"}))
    actual = compared(created)
    assert (actual["verdict"], actual["changed"]) == ("go_on", [])
    assert actual["reason"].endswith("the run tries the candidates again that failed in the champion's run: tree")
    assert "candidate_failed" not in actual["fingerprint"]
