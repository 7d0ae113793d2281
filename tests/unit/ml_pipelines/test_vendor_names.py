from __future__ import annotations

from pathlib import Path

import pytest

import ml_pipelines

ROOT = Path(ml_pipelines.__file__).parent
NEUTRAL = ("steps", "contracts.py", "reporting", "promotion", "pipeline", "ports")


@pytest.mark.parametrize("part", NEUTRAL)
def test_code_outside_adapters_and_services_does_not_name_a_tracking_server(part: str) -> None:
    path = ROOT / part
    files = [path] if path.is_file() else path.rglob("*.py")
    assert [str(file) for file in files if "mlflow" in file.read_text().lower()] == []
