"""Quote text of data for a declaration."""

from __future__ import annotations

import json
import re

from ml_pipelines.escaping import visible

__all__ = ["quote_yaml"]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def quote_yaml(text: str) -> str:
    """Return a scalar of YAML that is read as this text, such as the name of a column.

    Invisible characters are escaped, so that the scalar can be read and copied.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return visible(json.dumps(text, ensure_ascii=False))
