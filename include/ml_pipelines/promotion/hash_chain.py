"""The hash chain of a ledger: each entry holds the hash of the entry before, which reveals any alteration.

The hash covers the stored text of an entry. Later versions may add fields to the contract; stored texts stay as they
are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ml_pipelines._utils.canonical_json import canonical_json, sha256_hex
from ml_pipelines.contracts import Decision, Identity, JsonValue
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails

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
    """The end of a model's chain, stored beside it: `seq` and `hash` of the last entry."""

    seq: int
    hash: str


START = ChainHead(0, _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """One stored entry: its text, the hash of the text, and the columns of its index."""

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
    """Return the next entry of a chain.

    Args:
        identity: identity of the run.
        decision: outcome of the run.
        details: details of the run.
        after: end of the chain so far.
        supersedes: number of the earlier entry of the same run; None without one.
        recorded_at: time as ISO 8601, UTC.
    """
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
    """Return an entry without its hash as canonical JSON: sorted names, no spaces, ASCII."""
    return canonical_json(json.loads(entry.model_dump_json(exclude={"hash"})))


def parse_entry(text: str, digest: str) -> LedgerEntry:
    """Return the entry of a stored text.

    Raises:
        ValueError: the text is not an entry.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return LedgerEntry.model_validate({**document, "hash": digest})


def is_same_record(entry: LedgerEntry, decision: Decision, details: RunDetails) -> bool:
    """Return whether an entry has the same decision and details.

    The addresses of artifacts are ignored, and their digests compared: a store may move.
    """
    again = entry.model_copy(update={"decision": decision, "details": details})
    return _without_addresses(json.loads(entry_text(again))) == _without_addresses(json.loads(entry_text(entry)))


def chain_errors(stored: Iterable[StoredEntry], head: ChainHead | None) -> Iterator[str]:
    """Yield the errors of a chain as sentences.

    Args:
        stored: the entries of one model, ordered by `seq`.
        head: stored end of the chain; None if it is missing.
    """
    last = START
    for row in stored:
        yield from _entry_errors(row, last)
        last = ChainHead(row.seq, row.hash)
    if head is None:
        if last != START:
            yield f"the head of the chain is missing; entry {last.seq} is the last one found"
    elif last.seq < head.seq:
        yield f"{_entries(last.seq + 1, head.seq)} missing: the chain is cut off at its end"
    elif last.seq > head.seq:
        yield f"{_entries(head.seq + 1, last.seq)} after entry {head.seq}, the last one that the head stores"
    elif last.hash != head.hash:
        yield f"entry {last.seq} was altered: the head stores another hash of it"


def _entry_errors(row: StoredEntry, before: ChainHead) -> Iterator[str]:
    if row.seq > before.seq + 1:
        yield f"{_entries(before.seq + 1, row.seq - 1)} missing"
    if row.hash != sha256_hex(row.text):
        yield f"entry {row.seq} was altered: its text has another hash than the stored one"
        return
    try:
        entry = parse_entry(row.text, row.hash)
    except ValueError:
        yield f"entry {row.seq} can't be read: its text has another format than this version of the package writes"
        return
    if (entry.model, entry.seq) != (row.model, row.seq):
        yield f"entry {row.seq} was copied from another place: it is entry {entry.seq} of {entry.model}"
    elif (entry.pipeline, entry.run_id) != (row.pipeline, row.run_id):
        yield f"entry {row.seq} was altered: its index names another run than its text"
    if row.seq == before.seq + 1 and entry.previous_hash != before.hash:
        yield f"entry {row.seq} does not follow the entry before it, which had another hash"


def _entries(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _without_addresses(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_without_addresses(item) for item in value]
    if not isinstance(value, dict):
        return value
    artifact = {"uri", "sha256"} <= value.keys()
    return {name: _without_addresses(item) for name, item in value.items() if not (artifact and name == "uri")}
