from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from ml_pipelines._utils.error_json import parse_result
from ml_pipelines.cli.app import main
from ml_pipelines.contracts import Identity, StepResult
from ml_pipelines.errors import SourceNotFound
from ml_pipelines.store.artifact_store import ArtifactStore

SPEC = {
    "model": {"name": "shop", "task": "classification"},
    "data": {"file": {"path": "a.csv"}, "key": "id", "target": "label"},
    "gate": {"metric": "roc_auc"},
}
HEAVY = ("dvc", "mlflow", "numpy", "pandas", "polars", "requests", "scipy", "sklearn", "skops", "sqlalchemy")
Command = Callable[..., tuple[int, str, str]]
DOWN = "ServiceUnavailable: the storage does not answer"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs `ml-pipelines` with arguments in a folder of its own: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ml-pipelines", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return call


def declare(folder: Path, name: str = "shop.yaml") -> Path:
    path = folder / name
    path.write_text(json.dumps(SPEC))
    return path


def imported(code: str, folder: Path) -> set[str]:
    """Which heavy packages a fresh process has after some code."""
    code = f"import sys\nsys.argv[0] = 'ml-pipelines'\n{code}\nprint(*[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_validation_import_no_heavy_package(tmp_path: Path) -> None:
    declare(tmp_path)
    code = (
        "from ml_pipelines.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "app(['run', '--help'], standalone_mode=False)\n"
        "from ml_pipelines.spec.loader import load_spec\n"
        "load_spec('shop.yaml')"
    )
    assert imported(code, tmp_path) == set()


def test_validate_imports_only_the_estimator_checks(tmp_path: Path) -> None:
    declare(tmp_path)
    code = "from ml_pipelines.cli.app import app\napp(['validate', 'shop.yaml'], standalone_mode=False)"
    assert imported(code, tmp_path) & {"dvc", "mlflow", "polars", "requests", "sqlalchemy", "skops"} == set()


def test_validate_prints_one_line(command: Command, tmp_path: Path) -> None:
    path = declare(tmp_path, f"[red]{'long' * 30}.yaml")
    path.write_text(json.dumps({"name": "shop", **SPEC}))
    code, out, err = command("validate", str(path))
    message = f"{path}: valid. Training shop, model shop, candidates linear, boosted_trees.\n"
    assert (code, out, err) == (0, message, "")


def test_error_is_printed_without_markup(command: Command, tmp_path: Path) -> None:
    name = f"[bold]{'long' * 30}[/red].yaml"
    code, out, err = command("validate", name)
    assert (code, out) == (1, "")
    assert err == f"SpecError: the declaration does not exist\n  where: {name}\n  fix: check the path\n"


def test_usage_error_prints_the_usage(command: Command) -> None:
    for arguments in (["run"], ["run", "a.yaml", "--promote", "maybe"], ["nothing"]):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("Usage: ")
        assert "--help' for help" in err


def test_invalid_request_is_refused(command: Command, tmp_path: Path) -> None:
    what = "RequestError: the request can't be read\n"
    texts = {"Invalid JSON: ": "step: train", "parameters: Field required; ": '{"step": "train"}'}
    for got, text in texts.items():
        (tmp_path / "request.json").write_text(text)
        code, out, err = command("run-step", "--request", "request.json")
        assert (code, out) == (1, "")
        assert err.startswith(f"{what}  where: request.json\n  expected: a StepRequest as JSON\n  got: {got}")
        assert "\n  fix: pass the URI of a file with a StepRequest" in err
    (tmp_path / "request.json").unlink()
    code, _, err = command("run-step", "--request", "request.json")
    assert code == 1
    assert err.startswith(what)
    assert "No such file" in err


@pytest.mark.parametrize(
    ("keys", "first"),
    [({}, "RequestError: the request can't be read"), ({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, DOWN)],
)
def test_unreachable_request_is_reported(
    command: Command, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], first: str
) -> None:
    S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    settings = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in (settings | keys).items():
        monkeypatch.setenv(name, value)
    code, _, err = command("run-step", "--request", "s3://bucket/request.json")
    assert code == 1
    assert err.startswith(f"{first}\n  where: s3://bucket/request.json\n")


def test_unwritable_result_is_reported(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,label\n1,0\n2,1\n")
    source = {"file": {"path": str(tmp_path / "a.csv")}}
    request = {
        "step": "ingest",
        "parameters": {"source": source, "types": {}, "key": "id", "target": "label", "ignore": []},
        "seed": 1,
        "store": f"file://{tmp_path}/store",
        "identity": {"pipeline": "shop", "run_id": "r", "task_id": "t"},
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    code, _, err = command("run-step", "--request", "request.json", "--result", "nowhere/result.json")
    assert code == 1, err
    assert err.startswith("RequestError: the result can't be written\n  where: nowhere/result.json\n")
    assert "fix: correct --result; the result of the step is cached" in err


def test_step_error_is_written_to_the_result(command: Command, tmp_path: Path) -> None:
    source = {"file": {"path": "gone.csv"}}
    request = {
        "step": "ingest",
        "parameters": {"source": source, "types": {}, "key": "id", "target": "label", "ignore": []},
        "seed": 1,
        "store": f"file://{tmp_path}/store",
        "identity": {"pipeline": "shop", "run_id": "r", "task_id": "t"},
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    code, _, err = command("run-step", "--request", "request.json", "--result", "result.json")
    assert code == 1
    assert err.startswith("SourceNotFound: there is no such file\n")
    with pytest.raises(SourceNotFound, match="there is no such file"):
        parse_result((tmp_path / "result.json").read_bytes())


def test_show_refuses_an_unknown_run(command: Command, tmp_path: Path) -> None:
    code, out, err = command("show", "monday", "--pipeline", "shop", "--store", "store")
    assert (code, out) == (1, "")
    assert err.startswith("RequestError: run 'monday' of pipeline 'shop' has no decision\n")
    assert f"  where: file://{tmp_path}/store\n" in err


def test_show_finds_the_pipeline_of_a_run(command: Command, tmp_path: Path) -> None:
    code, out, err = command("show", "monday", "--store", "store")
    assert (code, out) == (1, "")
    assert err.startswith("RequestError: no pipeline has a run 'monday'\n")
    store = ArtifactStore(f"file://{tmp_path}/store")
    done = StepResult(step="ingest", key="0" * 64, status="computed", reason="miss: first time")
    store.record(Identity(pipeline="shop", run_id="monday", task_id="ingest"), done)
    _, _, err = command("show", "monday", "--store", "store")
    assert err.startswith("RequestError: run 'monday' of pipeline 'shop' has no decision\n")
    store.record(Identity(pipeline="credit", run_id="monday", task_id="ingest"), done)
    code, _, err = command("show", "monday", "--store", "store")
    assert code == 1
    assert err.startswith("RequestError: several pipelines have a run 'monday'\n")
    assert "  expected: --pipeline credit or shop\n" in err


def test_prune_accepts_an_empty_store(command: Command) -> None:
    for options, verb in ((["--dry-run"], "would remove"), ([], "removed")):
        code, out, err = command("store", "prune", "--store", "store", *options)
        assert (code, err) == (0, "")
        assert out == f"{verb} 0 runs, 0 results, 0 artifacts (0.0 MB), 0 temporary files of ended processes\n"


def test_doctor_reports_every_diagnostic(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_pipelines.services.diagnostics._mlflow", lambda settings: "answers")
    code, out, _ = command("doctor", "--store", "store")
    assert code == 0
    assert [line[:20].split(" ", 1)[0] for line in out.splitlines()] == ["ok"] * 5
    (tmp_path / "file").write_text("in the way")
    code, out, _ = command("doctor", "--store", "file/store")
    assert code == 1
    assert re.search("^FAIL artifact store +the store can't be used$", out, re.MULTILINE)
    assert "fix: check that it exists and is reachable from this machine" in out
