"""Names that any file system takes, and documents."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml_pipelines.contracts import Identity
from ml_pipelines.store.layout import (
    Manifest,
    WatchState,
    container_file,
    is_own_name,
    lease_name,
    manifest_name,
    object_name,
    parse_document,
    pending_folder,
    published_name,
    quote_name,
    record_name,
    run_of,
    run_state_folder,
    step_of_record,
    unquote_name,
    watch_name,
)

ids = st.text(max_size=400)


@given(ids)
@example("")
@example("..")
@example("../../etc/passwd")
@example("/absolute")
@example("a" * 200)
@example("a" * 199 + "/" * 10)
@example("%")
@example("%-")
@example("a%/b")
@example("\0\n")
@example("Ünïcødé 模型" * 30)
def test_a_name_comes_back_as_it_was(name: str) -> None:
    assert unquote_name(quote_name(name)) == name


@given(ids)
@example("..")
@example(".")
@example("../" * 100)
@example("/absolute")
def test_a_name_never_leaves_its_folder(name: str) -> None:
    path = PurePosixPath("/store", quote_name(name))
    assert path != PurePosixPath("/store")
    assert str(path) == f"/store/{quote_name(name)}"  # nothing was collapsed
    assert {".", ".."}.isdisjoint(path.parts)
    assert all(len(part.encode()) <= 201 for part in path.parts)
    assert quote_name(name).isascii()


@given(st.lists(ids, min_size=2, max_size=2, unique=True))
def test_different_names_are_quoted_differently_and_none_is_a_folder_of_another(names: list[str]) -> None:
    first, second = (f"{quote_name(name)}/" for name in names)
    assert not first.startswith(second)
    assert not second.startswith(first)


@given(ids, ids, ids, st.integers(min_value=-1, max_value=10_000))
def test_the_run_of_a_record_is_in_its_name(pipeline: str, run_id: str, task_id: str, map_index: int) -> None:
    identity = Identity(pipeline=pipeline, run_id=run_id, task_id=task_id, map_index=map_index)
    name = record_name(identity, "train")
    assert run_of(name) == (pipeline, run_id)
    assert step_of_record(name) == (task_id, "train")


@given(ids, ids, ids)
def test_the_run_of_a_story_is_in_its_name(pipeline: str, run_id: str, place: str) -> None:
    assert run_of(f"{run_state_folder(pipeline, run_id, place)}/state.json") == (pipeline, run_id)


@given(ids, ids, ids)
def test_each_name_is_one_of_the_store(first: str, second: str, third: str) -> None:
    identity = Identity(pipeline=first, run_id=second, task_id=third, map_index=3)
    for name in (
        object_name("a" * 64, "table"),
        manifest_name(first, second),
        published_name(first, second, third),
        record_name(identity, "train"),
        lease_name(first, second),
        f"{run_state_folder(first, second, third)}/state.json",
        f"{pending_folder(first)}/x.json",
        container_file(first, "request.json"),
        watch_name(first, second),
    ):
        assert is_own_name(name), name


@pytest.mark.parametrize(
    "name",
    ["", "runs", "runs/", "runs/notes.txt", "runs/p/r.json", "runs/p/r/t/s.txt", "runs/p/r/t/s/u.json",
     "objects/notes.txt", "objects/ab/cd.json", "manifests/.json", "notes/a.json", "tmp/a"],
)  # fmt: skip
def test_a_file_of_another_program_is_not_one_of_the_store(name: str) -> None:
    assert not is_own_name(name)


def test_a_dot_in_a_task_id_is_no_map_index() -> None:
    whole = record_name(Identity(pipeline="p", run_id="r", task_id="train.1"), "fit.1")
    mapped = record_name(Identity(pipeline="p", run_id="r", task_id="train", map_index=1), "fit")
    assert (whole, mapped) == ("runs/p/r/train%2E1/fit%2E1.json", "runs/p/r/train/fit.1.json")


def test_a_scheduled_run_can_be_read_in_its_name() -> None:
    identity = Identity(pipeline="churn", run_id="scheduled__2026-10-01T00:00:00+00:00", task_id="preprocess_data")
    folder = "runs/churn/scheduled__2026-10-01T00%3A00%3A00%2B00%3A00/preprocess_data"
    assert record_name(identity, "split") == f"{folder}/split.json"


def test_the_longest_name_is_a_file_in_reality(tmp_path: Path) -> None:
    path = tmp_path / f"{quote_name('模型' * 125)}.10000.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert path.is_file()


@pytest.mark.parametrize("data", [None, b"", b"{", b"{}", b"\xff"])
def test_what_is_no_manifest_is_none(data: bytes | None) -> None:
    assert parse_document(data, Manifest) is None


def test_what_a_watcher_has_told_has_a_name() -> None:
    assert watch_name("dvc", "churn.revision") == "watches/dvc/churn%2Erevision.json"
    assert parse_document(WatchState(value="md5:1").model_dump_json().encode(), WatchState) == WatchState(value="md5:1")
