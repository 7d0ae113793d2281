"""How a ledger's entries hang together: each holds the hash of the one before, so nobody changes one unnoticed.

The hash is over the entry's text as it is stored. What the text means may gain fields later; the text stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ml_pipelines._utils.canonical_json import canonical_json, sha256_hex
from ml_pipelines.contracts import Decision, Identity, JsonValue, LedgerEntry, RunDetails

__all__ = [
    "START",
    "ChainHead",
    "StoredEntry",
    "chain_errors",
    "entry_text",
    "is_same_record",
    "next_entry",
    "parse_entry",
]

_NOTHING = "0" * 64


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a model's chain ends, noted beside it: `seq` and `hash` of the last entry."""

    seq: int
    hash: str


START = ChainHead(0, _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """One entry as a ledger keeps it: its text, the hash of that, and what it is found by."""

    model: str
    seq: int
    pipeline: str
    run_id: str
    text: str
    hash: str


def next_entry(
    identity: Identity,
    decision: Decision,
    details: RunDetails,
    *,
    after: ChainHead,
    supersedes: int | None,
    recorded_at: str,
) -> LedgerEntry:
    """The next entry of a chain."""
    unsealed = LedgerEntry(
        model=decision.model,
        seq=after.seq + 1,
        pipeline=identity.pipeline,
        run_id=identity.run_id,
        run_url=identity.run_url,
        recorded_at=recorded_at,
        decision=decision,
        details=details,
        supersedes=supersedes,
        previous_hash=after.hash,
        hash=_NOTHING,
    )
    text = entry_text(unsealed)
    return parse_entry(text, sha256_hex(text))


def entry_text(entry: LedgerEntry) -> str:
    """An entry without its hash, as canonical JSON: sorted names, no spaces, ASCII."""
    return canonical_json(json.loads(entry.model_dump_json(exclude={"hash"})))


def parse_entry(text: str, digest: str) -> LedgerEntry:
    """An entry from its text.

    Raises:
        ValueError: the text is no entry.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return LedgerEntry.model_validate({**document, "hash": digest})


def is_same_record(entry: LedgerEntry, decision: Decision, details: RunDetails) -> bool:
    """Whether an entry is of the same decision and details, so that there is nothing to write.

    Where an artifact is does not count, only what it is: a store may be moved, or be mounted elsewhere.
    """
    again = entry.model_copy(update={"decision": decision, "details": details})
    return _without_places(json.loads(entry_text(again))) == _without_places(json.loads(entry_text(entry)))


def chain_errors(stored: Iterable[StoredEntry], head: ChainHead | None) -> Iterator[str]:
    """What is wrong with a chain, as sentences.

    Args:
        stored: the entries of one model, in the order of `seq`.
        head: what was noted of the last one, None if nothing was.
    """
    last = START
    for each in stored:
        yield from _flaws_of(each, last)
        last = ChainHead(each.seq, each.hash)
    if head is None:
        if last != START:
            yield f"the head is missing, which tells that entry {last.seq} is the last one"
    elif last.seq < head.seq:
        yield f"{_entries(last.seq + 1, head.seq)} missing: the chain is cut off at its end"
    elif last.seq > head.seq:
        yield f"{_entries(head.seq + 1, last.seq)} not known to the head, which tells that entry {head.seq} is the last"
    elif last.hash != head.hash:
        yield f"entry {last.seq} was altered: the head has noted another hash of it"


def _flaws_of(each: StoredEntry, before: ChainHead) -> Iterator[str]:
    if each.seq > before.seq + 1:
        yield f"{_entries(before.seq + 1, each.seq - 1)} missing"
    if each.hash != sha256_hex(each.text):
        yield f"entry {each.seq} was altered: its text has another hash than was noted with it"
        return
    try:
        entry = parse_entry(each.text, each.hash)
    except ValueError:
        yield f"entry {each.seq} can't be read: its text is none that this version of the package writes"
        return
    if (entry.model, entry.seq) != (each.model, each.seq):
        yield f"entry {each.seq} was put there from elsewhere: it is entry {entry.seq} of {entry.model}"
    elif (entry.pipeline, entry.run_id) != (each.pipeline, each.run_id):
        yield f"entry {each.seq} was altered: it is found under another run than its own"
    if each.seq == before.seq + 1 and entry.previous_hash != before.hash:
        yield f"entry {each.seq} does not follow the entry before it, which had another hash"


def _entries(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _without_places(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    if not isinstance(value, dict):
        return value
    artifact = {"uri", "sha256"} <= value.keys()
    return {name: _without_places(each) for name, each in value.items() if not (artifact and name == "uri")}
