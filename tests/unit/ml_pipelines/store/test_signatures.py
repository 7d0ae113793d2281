from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key
from ml_pipelines.store.layout import Manifest, manifest_name
from ml_pipelines.store.signatures import ManifestKeys

KEYS, OTHER = ManifestKeys("ab" * 32), ManifestKeys("cd" * 32)
VERIFIER = ManifestKeys(verification=KEYS.verification)
COMPONENTS: dict[str, Any] = {"step": "split", "seed": 1}
KEY = components_key(COMPONENTS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def manifest(values: dict[str, Any] | None = None) -> Manifest:
    ref = ArtifactRef(uri="file:///s/o", sha256="0" * 64, bytes=3, kind="table", rows=1)
    return Manifest(
        step="split",
        key=KEY,
        outputs={"train": ref},
        values=values or {},
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        components=COMPONENTS,
    )


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_signature_is_valid_after_the_manifest_is_read_again(values: dict[str, Any]) -> None:
    signed = KEYS.sign(manifest(values))
    read = Manifest.model_validate_json(signed.model_dump_json(indent=1))
    assert KEYS.is_signed(read)
    assert VERIFIER.is_signed(read)
    assert not OTHER.is_signed(read)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "train"},
        {"key": "1" * 64},
        {"outputs": {}},
        {"values": {"rows": 1}},
        {"created_at": datetime(2026, 11, 2, tzinfo=UTC)},
        {"components": {"step": "split", "seed": 2}},
        {"signature": ""},
        {"signature": "no hex"},
        {"signature": "00" * 64},
    ],
)
def test_any_change_makes_the_signature_invalid(change: dict[str, Any]) -> None:
    assert not VERIFIER.is_signed(KEYS.sign(manifest()).model_copy(update=change))


def test_verification_key_can_not_sign() -> None:
    assert (KEYS.can_sign, VERIFIER.can_sign) == (True, False)
    assert VERIFIER.sign(manifest()) == manifest()
    assert VERIFIER.verification == KEYS.verification


def test_no_key_means_no_signatures() -> None:
    assert ManifestKeys.of() is None


@pytest.mark.parametrize(("signing", "verification"), [("s3cret", ""), ("", "ab"), ("zz" * 32, ""), ("ab" * 33, "")])
def test_wrong_key_is_an_error_that_does_not_show_it(signing: str, verification: str) -> None:
    with pytest.raises(RequestError) as caught:
        ManifestKeys.of(signing, verification)
    assert caught.value.where.startswith("ML_PIPELINES_")
    assert (signing or verification) not in str(caught.value)


def commit(store: ArtifactStore) -> None:
    ref = store.put_bytes(b"rows", kind="table", rows=1)
    result = StepResult(step="split", key=KEY, status="computed", reason="", outputs={"train": ref})
    store.commit("split", KEY, result, COMPONENTS)


@pytest.mark.parametrize(("writer", "hit"), [(KEYS, True), (OTHER, False), (VERIFIER, False), (None, False)])
def test_lookup_uses_only_signed_manifests(tmp_path: Path, writer: ManifestKeys | None, hit: bool) -> None:
    commit(ArtifactStore(str(tmp_path), keys=writer))
    for keys in (KEYS, VERIFIER):
        assert (ArtifactStore(str(tmp_path), keys=keys).lookup("split", KEY) is not None) == hit
    assert ArtifactStore(str(tmp_path)).lookup("split", KEY)


def test_manifest_of_another_result_is_a_miss(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path), keys=KEYS)
    commit(store)
    other = components_key({"step": "split", "seed": 2})
    data = store.files.read(manifest_name("split", KEY))
    assert data
    store.files.write(manifest_name("split", other), data)
    assert store.lookup("split", other) is None
