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
    *script: BundleState | PipelineError, seconds: float = 60, release: Release = RELEASE, **arguments: Any
) -> tuple[Verification, list[str]]:
    reported: list[str] = []
    api = cast("AirflowApi", Scripted(list(script)))
    return verify(api, "ml", release, seconds=seconds, report=reported.append, **arguments), reported


def broken(at: str, text: str = "ValueError: no") -> tuple[tuple[str, str, str], ...]:
    return (("churn.py", at, text),)


def test_release_is_served_after_a_parse_of_its_version() -> None:
    verdict, reported = verdict_on(AWAY, OLD, OLD, NEW)
    assert verdict == Verification(True, "Airflow serves version 2-b with churn without import errors")
    assert reported == [
        "waiting for a response of Airflow (ConnectionError)",
        "waiting for churn in version 2-b instead of 1-a",
    ]


def test_parse_before_the_deployment_does_not_count() -> None:
    verdict, reported = verdict_on(NEW, NEW, bundle_state(("churn", "2-b", "10:02")))
    assert verdict.served
    assert reported == ["waiting for churn to be parsed again"]


def test_verify_waits_for_a_new_dag() -> None:
    verdict, reported = verdict_on(bundle_state(), NEW)
    assert verdict.served
    assert reported == ["waiting for churn to appear"]


def test_new_import_error_ends_the_verification() -> None:
    verdict, _ = verdict_on(OLD, bundle_state(("churn", "1-a", "10:00"), faults=broken("10:01")))
    assert not verdict.served
    assert verdict.reason == "Airflow cannot import churn.py"
    assert [fault.text for fault in verdict.faults] == ["ValueError: no"]


def test_old_import_error_can_disappear() -> None:
    verdict, reported = verdict_on(bundle_state(faults=broken("09:00")), NEW)
    assert verdict.served
    assert reported == ["waiting for churn to appear; churn.py, which has an import error, to be parsed again"]


def test_old_import_error_counts_when_it_is_reported_again() -> None:
    verdict, _ = verdict_on(bundle_state(faults=broken("09:00")), bundle_state(faults=broken("10:01")))
    assert verdict.reason == "Airflow cannot import churn.py"


def test_import_error_of_the_replaced_version_does_not_count() -> None:
    text = 'File "/bundles/ml/1-a/ml/dags/churn.py", line 3\nValueError: no'
    verdict, _ = verdict_on(OLD, bundle_state(faults=broken("10:01", text)), NEW, replaced="1-a")
    assert verdict.served


def test_import_error_of_the_same_version_counts() -> None:
    text = 'File "/bundles/ml/2-b/ml/dags/churn.py", line 3\nValueError: no'
    verdict, _ = verdict_on(OLD, bundle_state(faults=broken("10:01", text)), NEW, replaced="2-b")
    assert not verdict.served


def test_verify_ends_at_its_time_limit() -> None:
    verdict, _ = verdict_on(bundle_state(("churn", "1-a", "10:00"), faults=broken("09:00")), seconds=0)
    assert not verdict.served
    assert verdict.reason == (
        "the time limit of 0 s was reached, waiting for churn in version 2-b instead of 1-a; "
        "churn.py, which has an import error, to be parsed again"
    )
    assert [fault.file for fault in verdict.faults] == ["churn.py"]


def test_verify_of_an_unavailable_airflow() -> None:
    verdict, _ = verdict_on(AWAY, seconds=0)
    assert verdict.reason == "the time limit of 0 s was reached, waiting for a response of Airflow (ConnectionError)"


@pytest.mark.parametrize("version", [None, "2-b"])
def test_bundle_without_versions_is_checked_for_import_errors(version: str | None) -> None:
    release = Release(version=version, dags=("churn",))
    verdict, _ = verdict_on(
        bundle_state(("churn", None, "10:00")), bundle_state(("churn", None, "10:01")), release=release
    )
    assert verdict == Verification(True, "Airflow serves churn of a bundle without versions without import errors")


def test_rejected_user_ends_the_verification() -> None:
    with pytest.raises(RequestError, match="rejects the user"):
        verdict_on(RequestError("Airflow rejects the user 'robot'"))


def test_read_release_reads_the_file_of_a_build(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_text(RELEASE.model_dump_json())
    assert read_release(tmp_path / "release.json") == RELEASE


def test_missing_release_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the release file cannot be read") as caught:
        read_release(tmp_path / "release.json")
    assert caught.value.fix == "create it with `make dags`"
    (tmp_path / "release.json").write_text('{"version": 3}')
    with pytest.raises(RequestError, match="the file is not a release file") as caught:
        read_release(tmp_path / "release.json")
    assert "dags" in caught.value.got
