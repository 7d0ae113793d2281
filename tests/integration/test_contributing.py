"""The recipes of CONTRIBUTING.md, executed as a package outside the project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
COMMAND = [sys.executable, "-c", "from ml_pipelines.cli.app import main; main()"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package of the recipes and the declaration `recipe.yaml`."""
    folder = tmp_path_factory.mktemp("recipes")
    package, metadata = folder / "acme_pipelines", folder / "acme_pipelines-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").touch()
    for block in blocks("python"):
        path, code = block.split("\n", 1)
        (folder / path.removeprefix("# ")).write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pipelines\nVersion: 1.0\n")
    (toml,) = blocks("toml")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k}={v}" for k, v in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join([*lines, ""]))
    (declaration,) = blocks("yaml")
    (folder / "recipe.yaml").write_text(declaration)
    return folder


def run(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ML_PIPELINES", "MLFLOW"))}
    result = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_recipes_run_in_a_pipeline(folder: Path) -> None:
    run(folder, "validate", "recipe.yaml")
    assert "specificity" in run(folder, "run", "recipe.yaml").lower()
    manifests = [path.read_text() for path in folder.glob(".ml-pipelines/store/**/*.json")]
    assert any('"count_rows"' in text for text in manifests), "the added step did not run"
