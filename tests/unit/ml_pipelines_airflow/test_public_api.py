from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ml_pipelines_airflow

SOURCE = Path(ml_pipelines_airflow.__file__)


def type_checking_imports() -> dict[str, str]:
    """Return name -> module of the imports that type checkers read."""
    blocks = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def loaded_modules(code: str) -> list[str]:
    """Return the modules that a new process has after running code."""
    code = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return [str(name) for name in json.loads(output.stdout.splitlines()[-1])]


def test_public_names_are_sorted_and_unique():
    assert ml_pipelines_airflow.__all__ == sorted(set(ml_pipelines_airflow.__all__))
    assert dir(ml_pipelines_airflow) == ml_pipelines_airflow.__all__


def test_type_checkers_and_runtime_see_the_same_names():
    imports = type_checking_imports()
    assert sorted(imports) == ml_pipelines_airflow.__all__
    for name, module in imports.items():
        assert getattr(ml_pipelines_airflow, name) is getattr(sys.modules[module], name), name


@pytest.mark.parametrize("name", ml_pipelines_airflow.__all__)
def test_public_name_is_documented(name):
    assert inspect.getdoc(getattr(ml_pipelines_airflow, name))


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        ml_pipelines_airflow.unknown  # noqa: B018


def test_import_of_the_package_loads_neither_airflow_nor_a_submodule():
    modules = loaded_modules("import ml_pipelines_airflow")
    assert not [name for name in modules if name.startswith(("airflow", "ml_pipelines_airflow.", "ml_pipelines."))]


def test_import_of_one_name_does_not_import_the_others():
    modules = loaded_modules("from ml_pipelines_airflow import model_asset")
    # Airflow itself loads the provider's description and policies.
    others = ("bundles", "dag_builders", "execution", "notifications", "operators", "sensors", "tasks", "triggers")
    assert "ml_pipelines_airflow.assets" in modules
    assert not [name for name in modules if name.startswith(tuple(f"ml_pipelines_airflow.{part}" for part in others))]
