"""The wheel on its own: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from uv import find_uv_bin

from ml_pipelines import __version__

HERE = Path(__file__).resolve().parents[2]
DISTRIBUTION = "airflow-provider-ml-pipelines"
# The one line that the README gives.
BUNDLES = (
    '[{"name": "ml-pipelines", "classpath": "ml_pipelines_airflow.bundles.package.PackageDagBundle", "kwargs": {}}]'
)

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command away from the checkout; gives what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(wheel: Path, venv: Path, extras: str = "", *, also: Path | None = None) -> Path:
    """Install the wheel with the locked versions of what it needs; gives the folder of the commands.

    `also`: a lock of its own, all of which is installed too.
    """
    uv = find_uv_bin()
    run(uv, "venv", "--quiet", "--python", sys.executable, venv, cwd=wheel.parent)
    install = [uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python", f"{wheel}{extras}"]
    install += ["--requirements", also] if also else ["--constraints", HERE / "requirements.txt"]
    try:
        # What installed the test's own environment is in uv's cache as a rule, and then no index need be asked.
        run(*install, "--offline", cwd=wheel.parent)
    except AssertionError:
        run(*install, cwd=wheel.parent)
    return venv / "bin"


def build(out: Path) -> Path:
    """The wheel, built from the checkout."""
    run(
        find_uv_bin(), "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable,
        "--out-dir", out, HERE, cwd=out,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def alone(wheel: Path) -> Path:
    """Commands of an environment with the wheel and no extra."""
    return installed(wheel, wheel.parent / "alone")


def test_there_are_two_packages_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ml_pipelines", "ml_pipelines_airflow"}
    assert len(tops) == 3
    assert {"ml_pipelines/py.typed", "ml_pipelines_airflow/py.typed"} <= set(names)
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    assert not [name for name in names if "examples" in name]


def test_all_files_of_the_packages_are_in_it(wheel: Path) -> None:
    expected = {
        path.relative_to(folder).as_posix()
        for folder, package in ((HERE / "include", "ml_pipelines"), (HERE / "plugins", "ml_pipelines_airflow"))
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_command_works_without_any_extra(alone: Path, tmp_path: Path) -> None:
    shutil.copy(HERE / "dags" / "ml_training_pipeline.yaml", tmp_path)
    assert "validate" in run(alone / "ml-pipelines", "--help", cwd=tmp_path)
    assert "valid" in run(alone / "ml-pipelines", "validate", "ml_training_pipeline.yaml", cwd=tmp_path)


def test_it_brings_neither_airflow_nor_what_trains(alone: Path, tmp_path: Path) -> None:
    script = (
        "from importlib.util import find_spec\n"
        "print([name for name in ('airflow', 'mlflow', 'sklearn', 'pandas', 'polars', 'dvc') if find_spec(name)])"
    )
    assert run(alone / "python", "-c", script, cwd=tmp_path) == "[]\n"


def test_the_dags_are_in_it(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("ml_pipelines_airflow/dags/")}
    shipped = {path.name for path in (HERE / "dags").iterdir() if path.suffix in (".py", ".yaml")}
    assert names == {f"ml_pipelines_airflow/dags/{name}" for name in shipped}


@pytest.fixture(scope="module")
def airflow(wheel: Path) -> Callable[..., str]:
    """Runs `airflow` where nothing but the wheel and Airflow is installed, after its DAGs were read once."""
    commands = installed(wheel, wheel.parent / "airflow", "[airflow]")
    home = wheel.parent / "home"
    home.mkdir()

    def command(*arguments: str, **environment: str) -> str:
        configured = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": BUNDLES,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        }
        return run(commands / "airflow", *arguments, cwd=home, **configured | environment)

    command("db", "migrate")
    command("dags", "reserialize")
    return command


def listed(printed: str) -> list[dict[str, str]]:
    """The rows of a list that was asked for as JSON; warnings may be printed before it."""
    rows: list[dict[str, str]] = json.loads(printed[printed.index("[{") :])
    return rows


def test_airflow_lists_the_provider(airflow: Callable[..., str]) -> None:
    rows = listed(airflow("providers", "list", "--output", "json"))
    (ours,) = [row for row in rows if row["package_name"] == DISTRIBUTION]
    assert ours["version"] == __version__


def test_airflow_lists_the_connection_types(airflow: Callable[..., str]) -> None:
    rows = listed(airflow("providers", "hooks", "--output", "json"))
    ours = {row["connection_type"]: row["class"] for row in rows if row["package_name"] == DISTRIBUTION}
    assert ours == {
        "dvc": "ml_pipelines_airflow.hooks.dvc.DvcHook",
        "mlflow": "ml_pipelines_airflow.hooks.mlflow.MLflowHook",
    }


def test_airflow_lists_the_notifier(airflow: Callable[..., str]) -> None:
    rows = listed(airflow("providers", "notifications", "--output", "json"))
    assert "ml_pipelines_airflow.notifications.slack_callbacks.SlackRunNotifier" in {
        row["notification_class_name"] for row in rows
    }


def test_airflow_lists_the_plugin(airflow: Callable[..., str]) -> None:
    (ours,) = [row for row in listed(airflow("plugins", "--output", "json")) if row["name"] == "ml_pipelines"]
    assert f"{DISTRIBUTION}=={__version__}" in str(ours["source"])


def test_airflow_knows_the_options(airflow: Callable[..., str]) -> None:
    assert airflow("config", "get-value", "ml_pipelines", "store").splitlines()[-1] == ""
    at = "s3://artifacts/store"
    message = airflow("config", "get-value", "ml_pipelines", "store", AIRFLOW__ML_PIPELINES__STORE=at)
    assert message.splitlines()[-1] == at


def test_airflow_lists_the_dags_by_one_line_of_configuration(airflow: Callable[..., str]) -> None:
    assert "No data found" in airflow("dags", "list-import-errors")
    rows = listed(airflow("dags", "list", "--output", "json"))
    assert {row["dag_id"] for row in rows} == {path.stem for path in (HERE / "dags").glob("*.py")}
    assert {row["bundle_name"] for row in rows} == {"ml-pipelines"}
    assert all(row["bundle_version"].startswith(f"{__version__}-") for row in rows)
