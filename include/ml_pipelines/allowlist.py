"""Which packages may bring estimators. A declaration names estimators by import path, and importing runs code."""

from __future__ import annotations

__all__ = ["ALLOWED_PACKAGES"]

ALLOWED_PACKAGES = ("sklearn", "lightgbm")
