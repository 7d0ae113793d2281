"""Faults lose nothing: killed at any point, MLflow gone, the store damaged, two runs at once.

Every run is the real command line in a process of its own, with MLflow's real client on a database or a server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.integration.ledgers import entries_of
from tests.integration.processes import find_free_port, mlflow_server

from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.promotion.history import find_external_change
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.layout import Manifest, RunRecord

pytestmark = [
    pytest.mark.timeout(600),  # a run takes a second or two, and on a busy machine ten
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

PIPELINE, MODEL = "customers", "churn"
DECLARATION = """
model: {name: churn, task: classification}
data:
  file: {path: "${ML_DATA_CUSTOMERS}"}
  key: customer_id
  target: label
candidates:
  - {name: logistic, estimator: sklearn.linear_model.LogisticRegression, params: {max_iter: 200}}
  - {name: tree, estimator: sklearn.tree.DecisionTreeClassifier, params: {max_depth: 3}}
gate: {metric: roc_auc, thresholds: {roc_auc: 0.5}, lift_over_dummy: 0, improvement: -1}
seed: 7
"""
ROWS = {"october": 420, "november": 520}
KILLED = -signal.SIGKILL
VALUES_OF_THE_PLACE = ("tracking_run_id", "model_uri", "tracking_url", "url")

Fault = dict[str, Any]


def fault(step: str, when: str, at: str, *, holding: str = "", do: tuple[str, ...] = ("kill",)) -> Fault:
    return {"step": step, "when": when, "at": at, "holding": holding, "do": do}


class Worker:
    """A process that runs the command line in forks of itself; see `fault_worker.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *jobs: dict[str, Any]) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    settings = {
        "COLUMNS": "1000",  # no message is wrapped
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    command = [sys.executable, str(Path(__file__).with_name("fault_worker.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | settings
    ) as process:
        yield Worker(process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Workspace:
    """A store and an MLflow of their own."""

    root: Path
    data: Path
    worker: Worker
    tracking_uri: str = ""
    ledger_url: str = ""

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(f"file://{self.root}/store")

    @property
    def mlflow(self) -> str:
        return self.tracking_uri or f"sqlite:///{self.root}/mlflow.db"

    @property
    def ledger(self) -> str:
        return self.ledger_url or f"sqlite:///{self.root}/ledger.db"

    def job(self, run_id: str, *options: str, data: str = "november", **job: Any) -> dict[str, Any]:
        environment = {
            "ML_PIPELINES_STORE": self.store.uri,
            "ML_PIPELINES_LEDGER": self.ledger,
            "MLFLOW_TRACKING_URI": self.mlflow,
            "ML_DATA_CUSTOMERS": str(self.data / f"{data}.csv"),
        }
        return {
            "argv": ["run", str(self.data / f"{PIPELINE}.yaml"), "--run-id", run_id, *options],
            "environment": environment,
            "out": str(self.root / f"{run_id}.out"),
            "err": str(self.root / f"{run_id}.err"),
            **job,
        }

    def run(self, run_id: str, *options: str, **job: Any) -> Done:
        return self.run_together(self.job(run_id, *options, **job))[0]

    def run_together(self, *jobs: dict[str, Any]) -> list[Done]:
        codes = self.worker.run(*jobs)
        texts = [(Path(job["out"]).read_text(), Path(job["err"]).read_text()) for job in jobs]
        return [Done(code, *text) for code, text in zip(codes, texts, strict=True)]

    def copy(self, root: Path, tracking_uri: str = "") -> Workspace:
        """The same store and database; MLflow's files stay where they are."""
        root.mkdir(exist_ok=True)
        shutil.copytree(self.root / "store", root / "store")
        for name in ("mlflow.db", "ledger.db"):
            shutil.copy(self.root / name, root / name)
        return Workspace(root, self.data, self.worker, tracking_uri)

    def records(self, run_id: str) -> dict[str, RunRecord]:
        actual = self.store.run(PIPELINE, run_id)
        return {task(record): record for record in actual}

    def entries(self) -> dict[str, Any]:
        """The ledger by run, of which each has one entry: what is in it, as outcome and version."""
        actual = entries_of(self.ledger)
        assert sorted(entry.seq for entry in actual) == list(range(1, len(actual) + 1))
        entries = {entry.run_id: (entry.decision.outcome, entry.details.version) for entry in reversed(actual)}
        assert len(entries) == len(actual)
        return entries


def task(record: RunRecord) -> str:
    index = record.identity.map_index
    return record.identity.task_id if index < 0 else f"{record.identity.task_id}[{index}]"


@pytest.fixture(scope="module")
def october(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One run has been, so that there is a champion."""
    root = tmp_path_factory.mktemp("october")
    rows = files("ml_pipelines").joinpath("sample_data/customers-2026-11.csv").read_text().splitlines(keepends=True)
    for name, count in ROWS.items():
        (root / f"{name}.csv").write_text("".join(rows[: count + 1]))
    (root / f"{PIPELINE}.yaml").write_text(DECLARATION)
    created = Workspace(root, root, worker)
    assert created.run("october", data="october", modules=str(root / "modules")).code == 0
    return created


@pytest.fixture(scope="module")
def undisturbed(october: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """November's run, without any fault."""
    created = october.copy(tmp_path_factory.mktemp("undisturbed"))
    assert created.run("november", clean=True).code == 0
    assert picture(created)["aliases"] == {"champion": "2", "previous": "1"}
    return created


# --- What a run leaves behind ---


def picture(workspace: Workspace, run_id: str = "november") -> dict[str, Any]:
    """All that must be the same however a run went: artifacts, keys, values, decision, MLflow."""
    entry = SqlLedger(workspace.ledger).entry(PIPELINE, run_id)
    assert entry is not None
    steps = {
        name: {
            "key": record.result.key,
            "outputs": {element: ref.model_dump(exclude={"uri"}) for element, ref in record.result.outputs.items()},
            "values": without_places(
                {name: value for name, value in record.result.values.items() if name not in VALUES_OF_THE_PLACE}
            ),
        }
        for name, record in workspace.records(run_id).items()
    }
    return {
        "steps": dict(sorted(steps.items())),
        # The report tells how long each step took.
        "entry": without_places(without_report(entry.model_dump(mode="json", exclude={"recorded_at", "hash"}))),
        "entries": workspace.entries(),
        **mlflow_picture(workspace.mlflow, run_id),
    }


def without_report(entry: dict[str, Any]) -> dict[str, Any]:
    """The same without the report, which tells how long each step took."""
    return {**entry, "details": {name: value for name, value in entry["details"].items() if name != "report"}}


def without_places(value: Any) -> Any:
    """The same without what each workspace has of its own: addresses of artifacts, digests of MLflow's other files."""
    if not isinstance(value, dict):
        return value
    return {
        name: sorted(item) if name == "registered" and item else without_places(item)
        for name, item in value.items()
        if name != "uri"
    }


def mlflow_picture(uri: str, run_id: str) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(MODEL).experiment_id
    runs = [run for run in client.search_runs([experiment]) if run.data.tags["ml_pipelines.run_id"] == run_id]
    ids = {run.info.run_id: run.info.run_name for run in runs}
    models = [model for model in client.search_logged_models([experiment]) if model.source_run_id in ids]
    versions = client.search_model_versions(f"name = '{MODEL}'")
    return {
        "runs": sorted(
            (
                run.info.run_name,
                run.info.status,
                run.data.params,
                {name: len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics},
                run.data.metrics,
                run.data.tags["ml_pipelines.key"],
                len(run.inputs.dataset_inputs),
                len(run.outputs.model_outputs),
                sorted(actual.path for actual in client.list_artifacts(run.info.run_id, "evaluation")),
            )
            for run in runs
        ),
        "models": sorted((ids[element.source_run_id], str(element.status), element.params) for element in models),
        "versions": {
            str(element.version): (
                str(element.status),
                element.tags["ml_pipelines.key"],
                element.tags["ml_pipelines.run_id"],
                ArtifactRef.model_validate_json(element.tags["ml_pipelines.artifact"]).sha256,
            )
            for element in versions
        },
        "aliases": {name: str(to) for name, to in client.get_registered_model(MODEL).aliases.items()},
    }


def assert_whole(workspace: Workspace) -> None:
    """Whatever can be read is what its name says, and whatever is promised is there."""
    root = workspace.root / "store"
    for path in (path for path in (root / "objects").rglob("*") if path.is_file()):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    for path in (root / "manifests").rglob("*.json"):
        for ref in Manifest.model_validate_json(path.read_bytes()).outputs.values():
            workspace.store.read(ref)
    for path in (root / "runs").rglob("*.json"):
        RunRecord.model_validate_json(path.read_bytes())


# --- Killed ---

COMPUTING = ("ingest", "check_quality", "preprocess", "split", "train[0]", "evaluate", "decide")
RENAME = "ml_pipelines.store.filesystems.local:LocalFileSystem._rename"
COMMIT = "ml_pipelines.store.artifact_store:ArtifactStore.commit"
RECORD = "ml_pipelines.store.artifact_store:ArtifactStore.record"
REMEMBER = "ml_pipelines.store.artifact_store:ArtifactStore.save_publication"
PUBLISH = "ml_pipelines.runner.step:_publish"
CLIENT = "mlflow:MlflowClient."

# In the order in which a run that is started again and again comes to them.
KILLS: list[Fault] = [
    fault("ingest", "before", "ml_pipelines.runner.step:_compute"),
    fault("ingest", "before", RENAME, holding="manifests/"),
    fault("ingest", "after", COMMIT),
    fault("compare_with_champion", "before", PUBLISH),
    fault("compare_with_champion", "before", RECORD),
    *(
        point
        for step in COMPUTING[1:5]
        for point in (
            fault(step, "before", "ml_pipelines.runner.step:_compute"),  # the lease is held
            fault(step, "after", RENAME, holding="objects/"),  # the first of its objects is stored
            fault(step, "before", RENAME, holding="manifests/"),  # the manifest is written, under another name
            fault(step, "after", COMMIT),  # all is stored, nothing is published or recorded
        )
    ),
    fault("train[0]", "after", CLIENT + "create_run"),
    fault("train[0]", "after", CLIENT + "create_logged_model"),
    fault("train[0]", "after", CLIENT + "log_model_artifacts"),
    fault("train[0]", "before", CLIENT + "set_terminated"),
    fault("train[0]", "before", REMEMBER),
    fault("train[0]", "before", RECORD),
    fault("train[1]", "after", COMMIT),
    fault("train[1]", "after", CLIENT + "finalize_logged_model"),
    fault("evaluate", "before", "ml_pipelines.runner.step:_compute"),
    fault("evaluate", "before", RENAME, holding="manifests/"),
    fault("evaluate", "after", COMMIT),
    fault("evaluate", "after", CLIENT + "log_batch"),
    fault("evaluate", "after", CLIENT + "log_artifacts"),
    fault("evaluate", "before", REMEMBER),
    fault("evaluate", "before", RECORD),
    fault("decide", "before", "ml_pipelines.runner.step:_compute"),
    fault("decide", "after", RENAME, holding="objects/"),
    fault("decide", "before", RENAME, holding="manifests/"),
    fault("decide", "after", COMMIT),
    fault("register", "before", PUBLISH),
    fault("register", "after", CLIENT + "create_model_version"),
    fault("register", "before", CLIENT + "set_registered_model_alias"),
    fault("register", "after", CLIENT + "set_registered_model_alias"),
    fault("register", "before", RECORD),
    fault("deploy", "before", PUBLISH),
    fault("deploy", "before", "ml_pipelines.adapters.smoke_test.process:predict_in_process"),
    fault("deploy", "after", CLIENT + "set_registered_model_alias", holding="previous"),
    fault("deploy", "after", CLIENT + "set_registered_model_alias", holding="champion"),
    fault("deploy", "after", CLIENT + "delete_registered_model_alias"),
    fault("deploy", "before", RECORD),
    fault("record_decision", "before", PUBLISH),
    fault("record_decision", "after", "ml_pipelines.promotion.hash_chain:next_entry"),
    fault("record_decision", "after", "ml_pipelines.adapters.sql.ledger:_append"),
    fault("record_decision", "after", "ml_pipelines.adapters.sql.ledger:SqlLedger.record"),
    fault("record_decision", "before", RECORD),
    fault("record_decision", "after", RECORD),
]


def test_every_step_is_killed() -> None:
    assert {kill["step"].partition("[")[0] for kill in KILLS} == set(TRAINING_STEPS)


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(
    october: Workspace, undisturbed: Workspace, tmp_path: Path
) -> None:
    workspace = october.copy(tmp_path)
    for kill in KILLS:
        done = workspace.run("november", fault=kill)
        assert (done.code, done.err) == (KILLED, ""), (kill, done)
        assert_whole(workspace)
    done = workspace.run("november")
    assert (done.code, done.err) == (0, ""), done
    assert picture(workspace) == picture(undisturbed)
    assert_whole(workspace)


# --- MLflow does not answer ---

# In the order of the run; what is cut off is reached again when the run is started once more.
CUTS: list[Fault] = [
    fault("train[0]", "before", PUBLISH, do=("cut",)),
    fault("train[1]", "after", CLIENT + "create_logged_model", do=("cut",)),
    fault("evaluate", "before", "ml_pipelines.steps.training.evaluate_io:resolve", do=("cut",)),
    fault("evaluate", "after", CLIENT + "log_batch", do=("cut",)),
    fault("decide", "before", "ml_pipelines.steps.training.decide:resolve", do=("cut",)),
    fault("register", "after", CLIENT + "create_model_version", do=("cut",)),
    fault("deploy", "after", CLIENT + "set_registered_model_alias", holding="previous", do=("cut",)),
    fault("deploy", "after", CLIENT + "set_registered_model_alias", holding="champion", do=("cut",)),
    fault("record_decision", "after", "ml_pipelines.adapters.sql.ledger:SqlLedger.record", do=("cut",)),
]


def test_mlflow_goes_away_at_every_step_that_talks_to_it(
    october: Workspace, undisturbed: Workspace, tmp_path: Path
) -> None:
    near, far = find_free_port(), find_free_port()
    workspace = october.copy(tmp_path, f"http://127.0.0.1:{near}")
    with mlflow_server(tmp_path, far):
        for cut in CUTS:
            done = workspace.run("november", link=[near, far], fault=cut)
            assert done.code == 1, (cut, done)
            what, where, got, fix = done.err.splitlines()
            assert what == "ServiceUnavailable: MLflow does not answer, or has an internal error", cut
            assert where == f"  where: http://127.0.0.1:{near}"
            assert got.startswith("  got: "), done.err
            assert fix == "  fix: check that it runs and can be reached from this machine, then try again"
            assert list(workspace.entries()) == ["october"] or cut["step"] == "record_decision"
            assert_whole(workspace)
        done = workspace.run("november", link=[near, far])
        assert (done.code, done.err) == (0, "")
        assert {line.split()[1] for line in done.out.splitlines()[:8]} == {"cached", "published"}
        behind = Workspace(workspace.root, workspace.data, workspace.worker, f"http://127.0.0.1:{far}")
        assert picture(behind) == picture(undisturbed)


# --- The store ---


def test_a_store_that_may_not_be_written_to(october: Workspace) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        root = Path(folder)
        for path in (root, october.data):
            path.chmod(0o755)
        shutil.copytree(
            october.data, root / "data", ignore=shutil.ignore_patterns("store", "mlflow*", "*.err", "*.out")
        )
        workspace = october.copy(root / "work")
        for name in ("mlflow.db", "ledger.db"):
            (root / "work" / name).chmod(0o644)
        for path in (root / "work" / "store").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (root / "work" / "store").chmod(0o555)
        workspace = Workspace(root / "work", root / "data", october.worker)
        before = sorted((root / "work" / "store").rglob("*"))
        done = workspace.run("november", unprivileged=True)
        after = sorted((root / "work" / "store").rglob("*"))
        for path in (root / "work" / "store").rglob("*"):
            path.chmod(0o755)
        (root / "work" / "store").chmod(0o755)
    assert done.code == 1, done
    what, where, got, fix = done.err.splitlines()
    assert what == "StoreUnavailable: this process has no access to the store"
    assert where.startswith(f"  where: {workspace.store.uri}/leases/ingest/")
    assert got.startswith("  got: PermissionError: [Errno 13] Permission denied: ")
    assert fix == "  fix: give its user permission to read and write"
    assert before == after


def object_of(workspace: Workspace, task: str, output: str) -> Path:
    """File of an artifact of November's run, wherever that ran."""
    return Path(workspace.records("november")[task].result.outputs[output].uri.removeprefix("file://"))


def in_store(workspace: Workspace, path: Path) -> Path:
    return workspace.root / "store" / "objects" / path.parent.name / path.name


def test_a_truncated_and_a_removed_object_are_computed_again(undisturbed: Workspace, tmp_path: Path) -> None:
    workspace = undisturbed.copy(tmp_path)
    train, report = (
        in_store(workspace, object_of(undisturbed, *which))
        for which in (("split", "train"), ("check_quality", "report"))
    )
    size = train.stat().st_size
    os.truncate(train, size // 2)
    report.unlink()
    assert workspace.run("november").code == 0
    split, check = (workspace.records("november")[step].result for step in ("split", "check_quality"))
    assert (split.status, check.status) == ("computed", "computed")
    assert split.reason == f"miss: output train of the earlier result has {size // 2} bytes instead of {size}"
    assert check.reason == "miss: output report of the earlier result is gone"
    assert picture(workspace)["steps"] == picture(undisturbed)["steps"]
    assert_whole(workspace)


def test_an_altered_object_is_never_used(undisturbed: Workspace, tmp_path: Path) -> None:
    workspace = undisturbed.copy(tmp_path)
    train = in_store(workspace, object_of(undisturbed, "split", "train"))
    good = train.read_bytes()
    train.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    shutil.rmtree(tmp_path / "store" / "manifests" / "train")  # so that somebody reads it
    done = workspace.run("november")
    assert done.code == 1, done
    what, where, expected, got, fix = done.err.splitlines()
    assert what == "ArtifactCorrupt: an artifact was changed after it was stored"
    assert where == f"  where: file://{train}"
    assert expected == f"  expected: sha256 {train.stem} of {len(good)} bytes"
    assert got == f"  got: sha256 {hashlib.sha256(train.read_bytes()).hexdigest()} of {len(good)} bytes"
    assert fix == "  fix: run the step that computed it again with `force`, which replaces it"
    assert workspace.run("november", "--force").code == 0
    assert train.read_bytes() == good
    assert picture(workspace) == picture(undisturbed)
    assert_whole(workspace)


def test_an_object_that_is_removed_between_two_steps(
    october: Workspace, undisturbed: Workspace, tmp_path: Path
) -> None:
    workspace = october.copy(tmp_path)
    train = in_store(workspace, object_of(undisturbed, "split", "train"))
    done = workspace.run(
        "november", fault=fault("train[0]", "before", "ml_pipelines.runner.step:_compute", do=("remove", str(train)))
    )
    assert done.code == 1, done
    what, where, expected, got, fix = done.err.splitlines()
    assert what == "ArtifactMissing: an artifact does not exist"
    assert where == f"  where: file://{train}"
    assert expected.endswith(f"bytes with sha256 {train.stem}")
    assert got == f"  got: nothing on host {socket.gethostname()}"
    assert fix.startswith("  fix: run the step that computed it again; if other machines have it, mount the store")
    assert workspace.run("november").code == 0
    assert workspace.records("november")["split"].result.reason == "miss: output train of the earlier result is gone"
    assert picture(workspace) == picture(undisturbed)


# --- Two runs at once ---


def how_often_computed(workspace: Workspace, *run_ids: str) -> dict[str, int]:
    counted: dict[str, int] = {}
    for run_id in run_ids:
        for name, record in workspace.records(run_id).items():
            counted[name] = counted.get(name, 0) + (record.result.status == "computed")
    return counted


BEFORE_MLFLOW = ("ingest", "check_quality", "preprocess", "split", "train[0]", "train[1]")


def settle(workspace: Workspace, ended: Mapping[str, Done], **options: tuple[str, ...]) -> None:
    """Start those again that were told to, with their options; none may fail in another way."""
    for run_id, done in ended.items():
        if done.code:
            assert done.code == 1, done
            reported = [line for line in done.err.splitlines() if "waiting for the model lock" not in line]
            assert reported[0].startswith("RegistryError: "), done.err
            assert "start the run again" in done.err.splitlines()[-1], done.err
            again = workspace.run(run_id, *options.get(run_id, ()))
            assert (again.code, again.err) == (0, ""), again


def assert_one_champion(workspace: Workspace, *run_ids: str) -> None:
    entries = workspace.entries()
    assert set(entries) == {"october", *run_ids}
    outcomes = {name: entries[name][0] for name in run_ids}
    assert set(outcomes.values()) <= {"promoted", "no_change"}
    actual = [mlflow_picture(workspace.mlflow, name) for name in run_ids]
    aliases = actual[0]["aliases"]
    # Both may have promoted one version: what one run has trained and published, the other reuses.
    assert {entries[name][1] for name in run_ids if outcomes[name] == "promoted"} == {aliases["champion"]}
    assert aliases["previous"] == "1"
    assert {status for element in actual for _, status, *_ in element["runs"]} == {"FINISHED"}


@pytest.fixture(scope="module")
def postgres(postgres_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with postgres_server() as url:
        yield url


LOAD = "ml_pipelines.runner.step:import_object"


@pytest.mark.parametrize(
    ("step", "at"),
    [("ingest", LOAD), ("register", LOAD), ("deploy", CLIENT + "set_registered_model_alias")],
)
def test_two_runs_at_once(october: Workspace, tmp_path: Path, step: str, at: str) -> None:
    """Both wait for the other before a step, then go on side by side."""
    workspace = october.copy(tmp_path)
    (tmp_path / "met").mkdir()
    meet = fault(step, "before", at, do=("meet", str(tmp_path / "met"), "2"))
    names = ("left", "right")
    left, right = workspace.run_together(*(workspace.job(name, fault=meet) for name in names))
    counts = how_often_computed(workspace, *names)
    assert {name: counts[name] for name in BEFORE_MLFLOW} == dict.fromkeys(BEFORE_MLFLOW, 1)
    settle(workspace, {"left": left, "right": right})
    assert_one_champion(workspace, *names)
    assert_whole(workspace)


def test_two_runs_that_promote_at_once_with_the_ledger_in_postgresql(
    october: Workspace, postgres: str, tmp_path: Path
) -> None:
    """Both come to the deployment with models of their own, and one must go first."""
    workspace = dataclasses.replace(october.copy(tmp_path), ledger_url=postgres)
    (tmp_path / "met").mkdir()
    meet = fault("deploy", "before", LOAD, do=("meet", str(tmp_path / "met"), "2"))
    options = {"left": ("--candidate", "logistic"), "right": ("--candidate", "tree")}
    ended = workspace.run_together(*(workspace.job(name, *chosen, fault=meet) for name, chosen in options.items()))
    settle(workspace, dict(zip(options, ended, strict=True)), **options)
    entries = workspace.entries()
    # Whichever came second was held against the model of the first; with this gate both may serve, one after the other.
    assert set(entries) == set(options)
    assert {outcome for outcome, _ in entries.values()} == {"promoted"}
    earlier, later = entries_of(postgres)[::-1]
    assert (earlier.seq, later.seq, later.decision.champion_version) == (1, 2, earlier.details.version)
    aliases = mlflow_picture(workspace.mlflow, "left")["aliases"]
    assert aliases == {"champion": later.details.version, "previous": earlier.details.version}
    ledger = SqlLedger(postgres)
    assert find_external_change(MlflowRegistry(workspace.mlflow), ledger, MODEL) is None


# --- Going back ---

ROLLBACK_KILLS = [
    fault("", "before", "ml_pipelines.adapters.smoke_test.process:predict_in_process"),
    fault("", "after", CLIENT + "set_registered_model_alias", holding="previous"),
    fault("", "after", CLIENT + "set_registered_model_alias", holding="champion"),
    fault("", "after", "ml_pipelines.adapters.sql.ledger:_append"),
    fault("", "after", "ml_pipelines.adapters.sql.ledger:SqlLedger.record"),
]


def roll_back(workspace: Workspace, *options: str, **job: Any) -> Done:
    created = workspace.job("back", **job)
    created["argv"] = ["rollback", MODEL, "--reason", "complaints", "--run-id", "back", *options]
    return workspace.run_together(created)[0]


def test_a_rollback_that_is_killed_again_and_again_is_finished_by_the_next(
    undisturbed: Workspace, tmp_path: Path
) -> None:
    workspace = undisturbed.copy(tmp_path)
    for kill in ROLLBACK_KILLS:
        done = roll_back(workspace, "--to", "1", fault=kill)
        assert (done.code, done.err) == (KILLED, ""), (kill, done)
    done = roll_back(workspace, "--to", "1", clean=True)
    assert (done.code, done.err) == (0, "")
    assert "ROLLED BACK" in done.out
    assert workspace.entries() == {
        "october": ("promoted", "1"),
        "november": ("promoted", "2"),
        "back": ("rolled_back", "1"),
    }
    assert mlflow_picture(workspace.mlflow, "november")["aliases"] == {"champion": "1", "previous": "2"}
    # What was rolled back is made again, and waits for a person.
    assert workspace.run("december").code == 0
    assert workspace.entries()["december"] == ("held", None)
    assert workspace.run("january", "--approve").code == 0
    assert workspace.entries()["january"][0] == "promoted"


def test_a_rollback_to_the_previous_one_after_half_a_rollback_asks_which(
    undisturbed: Workspace, tmp_path: Path
) -> None:
    workspace = undisturbed.copy(tmp_path)
    half = fault("", "after", CLIENT + "set_registered_model_alias", holding="champion")
    assert roll_back(workspace, fault=half).code == KILLED
    done = roll_back(workspace)
    assert done.code == 1
    assert done.err.splitlines() == [
        "RegistryError: the previous version is ambiguous, since the champion was changed externally",
        f"  where: model {MODEL}",
        "  expected: the champion at version 2, as recorded in the ledger",
        "  got: the alias champion was changed externally, from version 2 to version 1",
        "  fix: name the version for the rollback",
    ]
    assert roll_back(workspace, "--to", "1").code == 0
    assert workspace.entries()["back"] == ("rolled_back", "1")


def test_a_version_whose_artifact_is_gone_does_not_serve_again(undisturbed: Workspace, tmp_path: Path) -> None:
    workspace = undisturbed.copy(tmp_path)
    registry = MlflowRegistry(workspace.mlflow)
    # MLflow's files are those of the run before: only the version's way to them is taken away here.
    with contextlib.closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection, connection:
        connection.execute(
            "UPDATE model_versions SET source = ?, storage_location = ? WHERE version = 1",
            (str(tmp_path / "gone"), str(tmp_path / "gone")),
        )
    done = roll_back(workspace)
    assert done.code == 1
    assert done.err.startswith("RegistryError: the file of version 1 of churn is gone")
    champion = registry.by_alias(MODEL, "champion")
    assert champion is not None
    assert champion.version == "2"
    assert set(workspace.entries()) == {"october", "november"}
