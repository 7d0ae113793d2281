from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.ml_pipelines_airflow.release.conftest import Scripted, bundle_state

from ml_pipelines.errors import PipelineError, RequestError, ServiceUnavailable
from ml_pipelines_airflow.release.airflow_client import AirflowApi, BundleState
from ml_pipelines_airflow.release.verify import Release, Verification, read_release, verify

RELEASE = Release(version="2-b", dags=("churn",))
OLD = bundle_state(("churn", "1-a", "10:00"))
NEW = bundle_state(("churn", "2-b", "10:01"))
AWAY = ServiceUnavailable("Airflow does not answer", got="ConnectionError")


def verdict_on(
    *script: BundleState | PipelineError, seconds: float = 60, release: Release = RELEASE, **given: Any
) -> tuple[Verification, list[str]]:
    told: list[str] = []
    api = cast("AirflowApi", Scripted(list(script)))
    return verify(api, "ml", release, seconds=seconds, told=told.append, **given), told


def broken(at: str, text: str = "ValueError: no") -> tuple[tuple[str, str, str], ...]:
    return (("churn.py", at, text),)


def test_a_release_is_served_when_it_was_parsed_in_its_version() -> None:
    verdict, told = verdict_on(AWAY, OLD, OLD, NEW)
    assert verdict == Verification(True, "Airflow serves version 2-b with churn, parsed without an error")
    assert told == [
        "waiting for an answer of Airflow (ConnectionError)",
        "waiting for churn in version 2-b, not 1-a",
    ]


def test_what_was_parsed_before_the_deployment_does_not_count() -> None:
    verdict, told = verdict_on(NEW, NEW, bundle_state(("churn", "2-b", "10:02")))
    assert verdict.served
    assert told == ["waiting for churn to be parsed again"]


def test_a_dag_that_is_new_has_to_appear() -> None:
    verdict, told = verdict_on(bundle_state(), NEW)
    assert verdict.served
    assert told == ["waiting for churn to appear"]


def test_a_file_that_can_not_be_imported_ends_the_waiting() -> None:
    verdict, _ = verdict_on(OLD, bundle_state(("churn", "1-a", "10:00"), faults=broken("10:01")))
    assert not verdict.served
    assert verdict.reason == "Airflow can't import churn.py"
    assert [fault.text for fault in verdict.faults] == ["ValueError: no"]


def test_an_error_from_before_is_waited_for_and_may_go_away() -> None:
    verdict, told = verdict_on(bundle_state(faults=broken("09:00")), NEW)
    assert verdict.served
    assert told == ["waiting for churn to appear; churn.py, which could not be imported, to be parsed again"]


def test_an_error_from_before_counts_when_it_is_told_again() -> None:
    verdict, _ = verdict_on(bundle_state(faults=broken("09:00")), bundle_state(faults=broken("10:01")))
    assert verdict.reason == "Airflow can't import churn.py"


def test_an_error_of_the_version_that_was_replaced_does_not_count() -> None:
    text = 'File "/bundles/ml/1-a/ml/dags/churn.py", line 3\nValueError: no'
    verdict, _ = verdict_on(OLD, bundle_state(faults=broken("10:01", text)), NEW, replaced="1-a")
    assert verdict.served


def test_an_error_of_the_same_version_counts() -> None:
    text = 'File "/bundles/ml/2-b/ml/dags/churn.py", line 3\nValueError: no'
    verdict, _ = verdict_on(OLD, bundle_state(faults=broken("10:01", text)), NEW, replaced="2-b")
    assert not verdict.served


def test_time_runs_out() -> None:
    verdict, _ = verdict_on(bundle_state(("churn", "1-a", "10:00"), faults=broken("09:00")), seconds=0)
    assert not verdict.served
    assert verdict.reason == (
        "Airflow did not serve it in 0 s; still waiting for churn in version 2-b, not 1-a; "
        "churn.py, which could not be imported, to be parsed again"
    )
    assert [fault.file for fault in verdict.faults] == ["churn.py"]


def test_an_airflow_that_never_answers() -> None:
    verdict, _ = verdict_on(AWAY, seconds=0)
    assert verdict.reason == "Airflow did not serve it in 0 s; still waiting for an answer of Airflow (ConnectionError)"


@pytest.mark.parametrize("version", [None, "2-b"])
def test_a_bundle_without_versions_is_looked_through_for_errors(version: str | None) -> None:
    release = Release(version=version, dags=("churn",))
    verdict, _ = verdict_on(
        bundle_state(("churn", None, "10:00")), bundle_state(("churn", None, "10:01")), release=release
    )
    assert verdict == Verification(True, "Airflow serves churn of a bundle without versions, parsed without an error")


def test_who_is_not_let_in_need_not_wait() -> None:
    with pytest.raises(RequestError, match="does not let"):
        verdict_on(RequestError("Airflow does not let the user 'robot' in"))


def test_a_release_is_read_from_the_file_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_text(RELEASE.model_dump_json())
    assert read_release(tmp_path / "release.json") == RELEASE


def test_no_release(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no such release") as caught:
        read_release(tmp_path / "release.json")
    assert caught.value.fix == "make it with `make dags`"
    (tmp_path / "release.json").write_text('{"version": 3}')
    with pytest.raises(RequestError, match="this file describes no release") as caught:
        read_release(tmp_path / "release.json")
    assert "dags" in caught.value.got
