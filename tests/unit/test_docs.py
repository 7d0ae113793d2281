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
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1] in languages:
                line = text[: match.start()].count("\n") + 1
                found.append((f"{page.relative_to(ROOT)}:{line}", match[2]))
    return found


def parametrize(*languages: str) -> pytest.MarkDecorator:
    examples = blocks(*languages)
    return pytest.mark.parametrize("block", [text for _, text in examples], ids=[name for name, _ in examples])


@parametrize("yaml")
def test_yaml_example_is_valid(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
