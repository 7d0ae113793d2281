from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline import import_closure as closures
from ml_pipelines.pipeline.import_closure import import_closure

FILES = {
    "acme_steps/__init__.py": "import acme_steps.at_top\n",
    "acme_steps/at_top.py": "",
    "acme_steps/step.py": """
from __future__ import annotations
import json, polars.exceptions
from typing import TYPE_CHECKING
from acme_steps import from_package
from acme_steps.values import VALUE
from . import sibling
from .deep.inner import name
if TYPE_CHECKING:
    from acme_steps import only_typed
    import only_typed_outside
else:
    import acme_steps.not_typed

def compute():
    import acme_steps.in_function
    try:
        import optional_package
    except ImportError:
        import acme_steps.in_handler
    match 1:
        case 1:
            with open("x") as file:
                from acme_steps import in_case
    load = import_object("acme_steps.by_name:thing")
    return "import acme_steps.only_text"
""",
    **{
        f"acme_steps/{name}.py": ""
        for name in [
            "from_package",
            "values",
            "sibling",
            "only_typed",
            "not_typed",
            "in_function",
            "in_handler",
            "in_case",
            "by_name",
            "only_text",
            "unused",
        ]
    },
    "acme_steps/deep/__init__.py": "",
    "acme_steps/deep/inner.py": "from .. import above\nfrom ..cycle import a",
    "acme_steps/above.py": "",
    "acme_steps/cycle.py": "from acme_steps.step import compute\nimport ml_pipelines.errors",
}
EXPECTED = [
    "",
    "at_top",
    "step",
    "from_package",
    "values",
    "sibling",
    "not_typed",
    "in_function",
    "in_handler",
    "in_case",
    "by_name",
    "deep",
    "deep.inner",
    "above",
    "cycle",
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "acme_steps"


@pytest.mark.usefixtures("package")
def test_import_closure_follows_every_form_of_import_and_imports_nothing() -> None:
    closure = import_closure(["acme_steps.step"])
    own = {name for name in closure.digests if name.startswith("acme_steps")}
    assert own == {f"acme_steps.{name}".rstrip(".") for name in EXPECTED}
    assert {"ml_pipelines", "ml_pipelines.errors", "ml_pipelines.escaping"} == set(closure.digests) - own
    assert closure.external == ("optional_package", "polars")
    assert "acme_steps" not in sys.modules


def test_import_closure_reads_a_changed_file_again(package: Path) -> None:
    before = import_closure(["acme_steps.step"]).digests
    (package / "values.py").write_text("VALUE = 1\n")
    after = import_closure(["acme_steps.step"]).digests
    assert {name for name in before if before[name] != after[name]} == {"acme_steps.values"}


def test_import_closure_names_a_module_that_is_not_python(package: Path) -> None:
    (package / "values.py").write_text("VALUE =\n")
    with pytest.raises(RequestError) as error:
        import_closure(["acme_steps.step"])
    assert error.value.where == str(package / "values.py")


@pytest.mark.parametrize("module", ["ml_pipelines.no_such_module", "sys", "no_such_package.module"])
def test_import_closure_requires_a_source_file(module: str) -> None:
    with pytest.raises(RequestError, match=f"module {module} has no source file"):
        import_closure([module])


def test_import_closure_of_every_module_is_that_of_a_full_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick search for import statements finds the same modules as a parse of the whole files."""
    modules = ["ml_pipelines.steps.training.evaluate", "ml_pipelines.runner.step", "ml_pipelines.cli.app"]
    quick = import_closure(modules)
    monkeypatch.setattr(ast, "parse", lambda text, file=None, parse=ast.parse: parse(text) if file else parse("("))
    closures.parse_source.cache_clear()
    assert import_closure(modules) == quick
