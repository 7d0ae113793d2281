"""Connections that are variables of the environment; no database is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Defines an Airflow connection: `define("mlflow_default", host="...")`."""

    def add(name: str, **fields: Any) -> None:
        kind = name.partition("_")[0]
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": kind, **fields}))

    return add
