from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.unit.ml_pipelines.runner.test_step import request

from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import ArtifactCorrupt
from ml_pipelines.runner.signing import sign_result
from ml_pipelines.runner.step import run_step
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.signatures import ManifestKeys
from ml_pipelines.testing import FakeServices

KEYS = ManifestKeys("ab" * 32)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), keys=KEYS)


def planned(folder: Path, rows: int = 2, **fields: Any) -> tuple[StepRequest, StepResult]:
    """Return a request and its result, as a container without the signing key computes it."""
    path = folder / "table.parquet"
    pl.DataFrame({"id": range(5)}).write_parquet(path)
    table = ArtifactStore(str(folder / "store")).put_file(str(path), kind="table", rows=5)
    parameters = {"key": "id", "shards": {"rows": rows}}
    planning = request(folder, step="plan_shards", parameters=parameters, inputs={"table": table}, **fields)
    services = FakeServices()
    services.manifest_keys = ManifestKeys(verification=KEYS.verification)
    return planning, run_step(planning, services)


def test_result_of_a_container_is_a_hit_after_it_is_signed(tmp_path: Path, store: ArtifactStore) -> None:
    planning, result = planned(tmp_path)
    assert store.lookup("plan_shards", result.key) is None
    sign_result(planning, result, store)
    assert store.lookup("plan_shards", result.key)
    again, cached = planned(tmp_path)
    assert cached.status == "cached"
    sign_result(again, cached, store)


def test_unsigned_result_is_computed_again(tmp_path: Path) -> None:
    assert [planned(tmp_path)[1].status for _ in range(2)] == ["computed", "computed"]


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({"rows": 3}, {}),
        ({"seed": 2}, {}),
        ({}, {"key": "0" * 64}),
        ({}, {"step": "ingest"}),
        ({}, {"outputs": {}}),
    ],
)
def test_another_result_is_not_signed(
    tmp_path: Path, store: ArtifactStore, asked: dict[str, Any], changes: dict[str, Any]
) -> None:
    _, result = planned(tmp_path)
    planning, _ = planned(tmp_path, **asked)
    with pytest.raises(ArtifactCorrupt, match="not signed"):
        sign_result(planning, result.model_copy(update=changes), store)
    assert store.lookup("plan_shards", result.key) is None


def test_result_with_other_inputs_is_not_signed(tmp_path: Path, store: ArtifactStore) -> None:
    planning, result = planned(tmp_path)
    other = store.put_bytes(b"other rows", kind="table", rows=5)
    with pytest.raises(ArtifactCorrupt, match="not signed"):
        sign_result(planning.model_copy(update={"inputs": {"table": other}}), result, store)
