"""Rules of the project that no linter checks."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "include" / "ml_pipelines", ROOT / "plugins" / "ml_pipelines_airflow")
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
DAG_FILES = sorted((ROOT / "dags").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MOST_LINES = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def body_of(path: Path) -> list[ast.stmt]:
    """The statements of a module without its docstring."""
    tree = ast.parse(path.read_text())
    return tree.body[1:] if ast.get_docstring(tree) else tree.body


def requirements() -> list[Requirement]:
    listed = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for lines in listed for line in lines]


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_a_docstring_and_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "no docstring"
    body = body_of(path)
    names = {
        target.id for node in body if isinstance(node, ast.Assign) for target in node.targets if hasattr(target, "id")
    }
    public = not path.name.startswith("_") or path.name == "__init__.py"
    if body and public:
        assert "__all__" in names, "no __all__"
    if body and path.name != "__init__.py":
        assert "from __future__ import annotations" in map(ast.unparse, body)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", DAG_FILES, ids=name_of)
def test_dag_file_is_a_docstring_an_import_and_a_call(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    first, second = body_of(path)
    assert isinstance(first, ast.ImportFrom)
    assert isinstance(second, ast.Assign | ast.Expr)
    assert isinstance(second.value, ast.Call)
    if "training_dag" in text:
        assert path.with_suffix(".yaml").is_file(), "a pipeline is two files of one name"
    # Airflow skips a file without both words silently.
    assert "dag" in text.lower()
    assert "airflow" in text.lower()


def test_package_has_pipelines() -> None:
    assert ROOT / "dags" / "ml_training_pipeline.py" in DAG_FILES


def test_airflow_loads_no_file_below_plugins(tmp_path: Path) -> None:
    # In its own process, because an import of Airflow configures logging and warnings.
    script = (
        "import sys; from airflow._shared.module_loading import find_path_from_directory as find;"
        "print(*find(sys.argv[1], '.airflowignore', 'glob'), sep='\\n')"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "plugins")],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [path for path in output if path.endswith(".py")] == []


def test_imported_packages_are_required() -> None:
    required = {canonicalize_name(requirement.name) for requirement in requirements()}
    brought_by = packages_distributions()
    missing = {}
    for path in MODULES:
        for package in imported(path) - sys.stdlib_module_names - {"ml_pipelines", "ml_pipelines_airflow"}:
            if not required & {canonicalize_name(name) for name in brought_by.get(package, ())}:
                missing[package] = name_of(path)
    assert missing == {}


@pytest.mark.parametrize(
    "lock", ["requirements.txt", "requirements-dev.txt", "include/examples/prefect/requirements.txt"]
)
def test_each_locked_package_has_hashes(lock: str) -> None:
    text = re.sub(r"\\\n", " ", (ROOT / lock).read_text())
    packages = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(packages) > 50
    assert [line for line in packages if not re.search(r"^[\w.-]+==.* --hash=sha256:[0-9a-f]{64}", line)] == []


def test_all_installations_of_a_lock_verify_hashes() -> None:
    makefile, airflow = (ROOT / "Makefile").read_text(), (ROOT / "include/docker/Dockerfile.airflow").read_text()
    for text in (makefile, airflow, (ROOT / "include/docker/Dockerfile.training").read_text()):
        joined = re.sub(r"\\\n", " ", text)
        installs = [
            line for line in joined.splitlines() if re.search(r"pip install.*--requirements? \S*requirements", line)
        ]
        assert [line for line in installs if "--require-hashes" not in line and "--constraint" not in line] == []


def test_lock_satisfies_requirements() -> None:
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    locked = dict(lines)
    wrong = [
        f"{requirement}: locked {locked.get(canonicalize_name(requirement.name))}"
        for requirement in requirements()
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert wrong == [], "make lock"


def test_entry_points_resolve() -> None:
    declared = PROJECT["entry-points"] | {"console_scripts": PROJECT["scripts"]}
    for group, points in declared.items():
        for name, value in points.items():
            (point,) = [point for point in entry_points(group=group, name=name) if point.value == value]
            assert point.load() is not None


def test_provider_info_matches_the_schema() -> None:
    from ml_pipelines_airflow.provider_info import get_provider_info

    spec = find_spec("airflow")
    assert spec is not None
    assert spec.submodule_search_locations
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "provider_info.schema.json").read_text())
    info = get_provider_info()
    jsonschema.validate(info, schema)
    assert info["package-name"] == PROJECT["name"]


def test_no_file_contains_a_machine_path() -> None:
    home = re.compile(r"(?<![\w.}-])/(?:work|root|Users)/\w")
    folders = ("include", "plugins", "dags", "docs", "tests", ".ci", ".github")
    texts = (".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".html", ".css", ".js")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in texts]
    files += [path for path in ROOT.iterdir() if path.suffix in texts or path.name == "Makefile"]
    assert [name_of(path) for path in files if home.search(path.read_text())] == []


@pytest.mark.xdist_group("project")
def test_xdist_group_runs_in_one_process(request: pytest.FixtureRequest) -> None:
    # Tests of a group share servers. pytest-xdist appends the group to the id of a test.
    grouped = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@project") is bool(grouped)
