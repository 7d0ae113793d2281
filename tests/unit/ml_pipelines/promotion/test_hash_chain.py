"""Laws of the chain: whatever is altered, missing or out of order is found."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_pipelines._utils.canonical_json import sha256_hex
from ml_pipelines.contracts import ArtifactRef, Decision, Identity
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.promotion import hash_chain as chain

# A busy machine is slow now and then, which is no fault of the chain.
law = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXTS = st.text(max_size=20)
DETAILS = st.builds(
    RunDetails,
    version=st.none() | TEXTS,
    approver=st.none() | TEXTS,
    changed=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    fingerprint=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
    parts=st.none() | st.dictionaries(TEXTS, st.integers(-(2**53), 2**53), max_size=3),
)


def chain_of(details: list[RunDetails]) -> tuple[list[chain.StoredEntry], chain.ChainHead]:
    head, stored = chain.START, []
    for number, item in enumerate(details):
        entry = chain.next_entry(
            Identity(pipeline="p", run_id=f"r{number}", task_id="t"),
            Decision(outcome="held", model="m", reason="so"),
            item,
            after=head,
            supersedes=None,
            recorded_at="2026-01-01T00:00:00.000+00:00",
        )
        text = chain.entry_text(entry)
        stored.append(
            chain.StoredEntry(model="m", seq=entry.seq, pipeline="p", run_id=entry.run_id, text=text, hash=entry.hash)
        )
        head = chain.ChainHead(entry.seq, entry.hash)
    return stored, head


chains = st.lists(DETAILS, min_size=2, max_size=6).map(chain_of)


def chain_errors(stored: list[chain.StoredEntry], head: chain.ChainHead | None) -> list[str]:
    return list(chain.chain_errors(sorted(stored, key=lambda item: item.seq), head))


@law
@given(chains)
def test_a_chain_is_whole_as_it_is_written(created: Any) -> None:
    stored, head = created
    assert chain_errors(stored, head) == []
    for item in stored:
        entry = chain.parse_entry(item.text, item.hash)
        assert chain.entry_text(entry) == item.text
        assert chain.is_same_record(entry, entry.decision, entry.details)


def test_a_store_that_was_moved_says_nothing_new() -> None:
    report = ArtifactRef(uri="file:///a", sha256="0" * 64, bytes=1, kind="html")
    (stored, *_), _ = chain_of([RunDetails(report=report)])
    entry = chain.parse_entry(stored.text, stored.hash)
    assert chain.is_same_record(
        entry, entry.decision, RunDetails(report=report.model_copy(update={"uri": "file:///b"}))
    )
    assert not chain.is_same_record(
        entry, entry.decision, RunDetails(report=report.model_copy(update={"sha256": "1" * 64}))
    )


@law
@given(chains, st.data())
def test_one_entry_that_is_altered_is_found(created: Any, data: st.DataObject) -> None:
    stored, head = created
    index = data.draw(st.integers(0, len(stored) - 1))
    document = json.loads(stored[index].text)
    document["decision"]["reason"] = "another"
    altered = replace(stored[index], text=json.dumps(document, sort_keys=True, separators=(",", ":")))
    actual = chain_errors([*stored[:index], altered, *stored[index + 1 :]], head)
    assert actual == [f"entry {index + 1} was altered: its text has another hash than the stored one"]


@law
@given(chains, st.data())
def test_one_that_is_altered_with_its_hash_is_found_by_its_neighbour(created: Any, data: st.DataObject) -> None:
    stored, head = created
    index = data.draw(st.integers(0, len(stored) - 1))
    entry = chain.parse_entry(stored[index].text, stored[index].hash)
    again = chain.next_entry(
        Identity(pipeline="p", run_id=entry.run_id, task_id="t"),
        entry.decision.model_copy(update={"reason": "another"}),
        entry.details,
        after=chain.ChainHead(entry.seq - 1, entry.previous_hash),
        supersedes=None,
        recorded_at=entry.recorded_at,
    )
    forged = replace(stored[index], text=chain.entry_text(again), hash=again.hash)
    actual = chain_errors([*stored[:index], forged, *stored[index + 1 :]], head)
    last = index + 1 == len(stored)
    assert actual == [
        f"entry {index + 1} was altered: the head stores another hash of it"
        if last
        else f"entry {index + 2} does not follow the entry before it, which had another hash"
    ]


@law
@given(chains, st.data())
def test_those_that_are_missing_are_named(created: Any, data: st.DataObject) -> None:
    stored, head = created
    first = data.draw(st.integers(0, len(stored) - 1))
    last = data.draw(st.integers(first, len(stored) - 1))
    named = f"entry {first + 1} is" if first == last else f"entries {first + 1} to {last + 1} are"
    actual = chain_errors(stored[:first] + stored[last + 1 :], head)
    cut_off = last + 1 == len(stored)
    assert actual == [f"{named} missing: the chain is cut off at its end" if cut_off else f"{named} missing"]


@law
@given(chains, st.data())
def test_two_that_have_changed_places_are_found(created: Any, data: st.DataObject) -> None:
    stored, head = created
    one, other = data.draw(st.lists(st.integers(0, len(stored) - 1), min_size=2, max_size=2, unique=True))
    swapped = list(stored)
    swapped[one] = replace(stored[one], seq=stored[other].seq)
    swapped[other] = replace(stored[other], seq=stored[one].seq)
    actual = chain_errors(swapped, head)
    assert f"entry {one + 1} was copied from another place: it is entry {other + 1} of m" in actual
    assert f"entry {other + 1} was copied from another place: it is entry {one + 1} of m" in actual


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"run_id": "other"}, "entry 2 was altered: its index names another run than its text"),
        (
            {"text": "{", "hash": sha256_hex("{")},
            "entry 2 can't be read: its text has another format than this version",
        ),
    ],
)
def test_what_it_is_found_by_counts_too(change: dict[str, Any], flaw: str) -> None:
    stored, head = chain_of([{}, {}])
    assert chain_errors([stored[0], replace(stored[1], **change)], head)[0].startswith(flaw)


def test_the_head_must_be_there_and_know_the_last() -> None:
    stored, head = chain_of([{}, {}])
    assert chain_errors(stored, None) == ["the head of the chain is missing; entry 2 is the last one found"]
    early = chain.ChainHead(1, stored[0].hash)
    assert chain_errors(stored, early) == ["entry 2 is after entry 1, the last one that the head stores"]
    assert chain_errors([], head) == ["entries 1 to 2 are missing: the chain is cut off at its end"]
    assert chain_errors([], None) == chain_errors([], chain.START) == []
