from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ml_pipelines
from ml_pipelines import errors

SOURCE = Path(ml_pipelines.__file__)
# Packages that a process must not load only because it imports the public interface.
HEAVY = ("dvc", "mlflow", "numpy", "pandas", "polars", "pydantic", "sklearn", "sqlalchemy", "typer", "yaml")


def type_checking_imports() -> dict[str, str]:
    """Return name -> module of the imports that type checkers read."""
    blocks = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_public_names_are_sorted_and_unique():
    assert ml_pipelines.__all__ == sorted(set(ml_pipelines.__all__))
    assert dir(ml_pipelines) == ml_pipelines.__all__


def test_type_checkers_and_runtime_see_the_same_names():
    imports = type_checking_imports()
    assert sorted([*imports, "__version__"]) == ml_pipelines.__all__
    for name, module in imports.items():
        assert getattr(ml_pipelines, name) is getattr(sys.modules[module], name), name


@pytest.mark.parametrize("name", [name for name in ml_pipelines.__all__ if name != "__version__"])
def test_public_name_resolves_and_is_documented(name):
    value = getattr(ml_pipelines, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__, f"{name} has no docstring"
        assert value.__doc__ is not getattr(value.__mro__[1], "__doc__", None) if inspect.isclass(value) else True


def test_every_error_is_public():
    assert set(errors.__all__) <= set(ml_pipelines.__all__)


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        ml_pipelines.unknown  # noqa: B018


def test_import_loads_no_heavy_package():
    code = f"import json, sys, ml_pipelines\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    assert json.loads(run_python(code)) == []


def test_error_class_loads_no_heavy_package():
    code = (
        f"import json, sys\nfrom ml_pipelines import PipelineError\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    assert json.loads(run_python(code)) == []


def test_version_is_a_literal_that_the_build_reads():
    literals = [
        node.value.value
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]
    assert literals == [ml_pipelines.__version__]
