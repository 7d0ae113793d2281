"""JSON with a stable form, for digests and stored documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_pipelines.contracts import JsonValue
from ml_pipelines.errors import RequestError

__all__ = ["Components", "canonical_json", "dump_json", "load_json", "sha256_hex"]


def dump_json(document: dict[str, Any]) -> bytes:
    """A document as UTF-8 JSON with sorted keys.

    Raises:
        ValueError: it holds NaN or an infinity.
        TypeError: it holds something that JSON can't.
    """
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def load_json(data: bytes) -> dict[str, Any]:
    """The inverse of :func:`dump_json`."""
    document: dict[str, Any] = json.loads(data)
    return document


Components = dict[str, JsonValue]


def canonical_json(components: Mapping[str, Any]) -> str:
    """Key components as JSON with sorted keys, for a digest.

    Raises:
        RequestError: a value is not JSON: NaN, infinity or another object.
    """
    try:
        return json.dumps(components, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError) as exc:
        raise RequestError(
            "a parameter or fact can't be part of a key",
            where=f"step {components.get('step')}",
            expected="JSON values with finite numbers",
            got=str(exc),
            fix="remove NaN, infinity and objects from the step's parameters",
        ) from exc


def sha256_hex(text: str) -> str:
    """The SHA-256 digest of a text, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()
