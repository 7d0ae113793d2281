"""The documentation: its examples are valid, its links resolve, and the site builds."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml

import ml_pipelines
from ml_pipelines import parse_drift, parse_scoring, parse_spec

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PUBLIC = {"ml_pipelines", "ml_pipelines_airflow"}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """Fenced blocks with the page and line that they are on."""
    actual = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1] in languages:
                line = text[: match.start()].count("\n") + 1
                actual.append((f"{page.relative_to(ROOT)}:{line}", match[2]))
    return actual


def parametrize(*languages: str) -> pytest.MarkDecorator:
    examples = blocks(*languages)
    return pytest.mark.parametrize("block", [text for _, text in examples], ids=[name for name, _ in examples])


@parametrize("yaml")
def test_yaml_example_is_valid(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "shop_code")
    declaration = yaml.safe_load(block)
    if "generated" in declaration.get("data", {}):
        pytest.skip("needs the package of the recipe: tests/integration/test_contributing.py")
    # A fragment is valid as a part of the smallest declaration.
    if "watch" in declaration:
        assert parse_drift(block, path="example.yaml").watch
    elif "shards" in declaration:
        assert parse_scoring(block, path="example.yaml").model.name
    else:
        assert parse_spec(complete(declaration), path="example.yaml").model.name


def complete(declaration: dict[str, object]) -> str:
    """The text of a declaration with the sections that an example leaves out."""
    smallest = {
        "model": {"name": "churn", "task": "classification"},
        "data": {"dvc": {"repo": "data", "path": "customers.csv"}, "key": "id", "target": "left"},
        "gate": {"metric": "roc_auc"},
    }
    if {"model", "data"} <= set(declaration):
        return yaml.safe_dump(declaration, sort_keys=False)
    if "columns" in declaration:
        declaration = {"data": {**smallest["data"], **declaration}}
    return yaml.safe_dump({**smallest, **declaration}, sort_keys=False)


@parametrize("python")
def test_python_example_imports_public_names(block: str) -> None:
    for module, name in imported_names(ast.parse(block)):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
        if module.startswith("ml_pipelines"):
            assert module in PUBLIC, f"{module} is internal"


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def test_example_of_own_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "\n\n".join(block for page, block in blocks("python") if "own-code.md" in page)
    (tmp_path / "shop_code.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop_code", raising=False)
    code = importlib.import_module("shop_code")
    customers = pd.DataFrame({"spent": [10.0, 6.0], "visits": [0.0, 3.0], "city": ["Rome", "Oslo"]}, index=[1, 2])
    features = code.add_ratios(customers)
    assert features["spent_per_visit"].tolist() == [10.0, 2.0]
    assert features["is_local"].tolist() == [True, False]
    assert code.profit(np.array([0, 1, 1]), np.array([1, 1, 0])) == 10.0
    assert code.negative_spending(customers).tolist() == [False, False]
    assert code.has_all_cities(customers) == ["no customer of Milan is in the data"]


@parametrize("bash")
def test_shell_example_uses_existing_commands(block: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert words[1] in targets, line
        elif words and words[0].endswith("ml-pipelines"):
            check_command(words[1:])


def check_command(words: list[str]) -> None:
    from ml_pipelines.cli.app import app

    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    generated = {"training", "scoring", "drift", "cli", "settings", "metrics", "api", "airflow-api"}
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        path = (page.parent / target).resolve()
        assert path.exists() or (path.parent.name == "reference" and path.stem in generated), target


def test_versions_in_examples_are_current() -> None:
    for page in PAGES:
        versions = re.findall(r"airflow_provider_ml_pipelines-([\d.]+)-py3", page.read_text())
        assert set(versions) <= {ml_pipelines.__version__}, page


def test_each_guarantee_names_existing_tests() -> None:
    names = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "guarantees.md").read_text())
    tests = [path.as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    assert names
    for name in names:
        assert sum(test.endswith(f"/{name}") for test in tests) == 1, name


def test_site_builds_in_strict_mode(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins")])
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"PYTHONPATH": path, "NO_MKDOCS_2_WARNING": "true"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        url = page.relative_to(ROOT / "docs").with_suffix("")
        folder = tmp_path / "site" / (url.parent if url.name == "index" else url)
        assert (folder / "index.html").exists(), page
        assert (folder / "index.md").exists(), page
    index = (tmp_path / "site" / "llms.txt").read_text()
    assert "(reference/cli/index.md)" in index
    assert "ml-pipelines rollback" in (tmp_path / "site" / "reference" / "cli" / "index.md").read_text()
    for kind in ("training", "scoring", "drift"):
        rows = (tmp_path / "site" / "reference" / kind / "index.md").read_text().splitlines()
        assert [row for row in rows if row.startswith("| `") and row.endswith("|  |")] == [], (
            "keys without a description"
        )
