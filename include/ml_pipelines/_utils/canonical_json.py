"""JSON in one stable form, for digests and stored documents."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ml_pipelines.contracts import JsonValue

__all__ = ["Components", "canonical_json", "dump_json", "json_digest", "load_json", "sha256_hex"]

Components = dict[str, JsonValue]
"""The components of a cache key by name."""


def canonical_json(value: Any) -> str:
    """Return a value as JSON with sorted keys, without spaces, in ASCII.

    Equal values have equal texts, so that digests of the text can be compared.

    Raises:
        ValueError: the value contains NaN or an infinity.
        TypeError: the value contains an object that JSON can't represent.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def dump_json(document: dict[str, Any]) -> bytes:
    """Return a document as the bytes of its canonical JSON; raises as :func:`canonical_json`."""
    return canonical_json(document).encode()


def load_json(data: bytes) -> dict[str, Any]:
    """Return the document that :func:`dump_json` wrote."""
    document: dict[str, Any] = json.loads(data)
    return document


def sha256_hex(data: str | bytes) -> str:
    """Return the SHA-256 digest of bytes, or of a text in UTF-8, as 64 hex digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def json_digest(value: Any) -> str:
    """Return the SHA-256 digest of a value's canonical JSON; raises as :func:`canonical_json`."""
    return sha256_hex(canonical_json(value))
