from __future__ import annotations

import contextlib
import csv
import gc
import json
import logging
import math
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.integration.processes import find_free_port, mlflow_server

from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.cli.app import main
from ml_pipelines.store.artifact_store import ArtifactStore, RunRecord
from ml_pipelines_airflow.local.postgres_and_redis import run_postgres


@dataclass(frozen=True)
class DvcRepo:
    """A git repository with DVC in it, and its remote, which is a folder."""

    folder: Path
    remote: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), "-c", "user.name=T", "-c", "user.email=t@example.com", *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(
        self, files: dict[str, bytes], *, tag: str | None = None, tracked: str | None = None, push: bool = True
    ) -> str:
        """Write the files and let DVC track each, or the folder `tracked` that they are in; the commit's hash."""
        from dvc.repo import Repo

        for name, content in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)
        with Repo(str(self.folder)) as repo:
            repo.add([str(self.folder / name) for name in ([tracked] if tracked else files)])
            if push:
                repo.push()
        return self.commit_git(tag=tag)

    def commit_git(self, files: dict[str, bytes] | None = None, *, tag: str | None = None) -> str:
        """Write files that git itself keeps, and commit all there is; the commit's hash."""
        for name, content in (files or {}).items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "data")
        if tag:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD")

    def copy(self, folder: Path) -> DvcRepo:
        """A copy of both in another folder, with the same commits and tags."""
        created = DvcRepo(folder / self.folder.name, folder / self.remote.name)
        shutil.copytree(self.folder, created.folder, symlinks=True)
        shutil.copytree(self.remote, created.remote)
        created.use_remote(f"url = {created.remote}")
        return created

    def use_remote(self, settings: str) -> None:
        """Let the work tree's settings of DVC name a remote."""
        (self.folder / ".dvc" / "config").write_text(f"[core]\n    remote = r\n['remote \"r\"']\n    {settings}\n")


def quieten_dvc() -> None:
    """DVC's handlers keep the standard error of the test that imported it first, which is closed in the next one."""
    import dvc.logger  # noqa: F401  makes the handlers

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture(scope="session")
def make_dvc_repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DvcRepo]]:
    """Makes a repository: `make_dvc_repo({"data/a.csv": b"..."}, tag="v1")`; more commits with its `commit`."""

    def make(files: dict[str, bytes] | None = None, *, folder: Path | None = None, **options: Any) -> DvcRepo:
        from dvc.repo import Repo

        folder = folder or tmp_path_factory.mktemp("dvc")
        created = DvcRepo(folder / "data-repo", folder / "data-remote")
        created.folder.mkdir()
        created.remote.mkdir()
        created.git("init", "--quiet", "--initial-branch=main")
        Repo.init(str(created.folder)).close()
        created.use_remote(f"url = {created.remote}")
        created.commit_git()
        if files:
            created.commit(files, **options)
        return created

    quieten_dvc()
    settings = str(tmp_path_factory.mktemp("dvc-settings"))
    with pytest.MonkeyPatch.context() as patch:
        # Neither the machine's settings of DVC and git nor its caches take part.
        for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR"):
            patch.setenv(name, settings)
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        yield make


@pytest.fixture
def dvc_repo(make_dvc_repo: Callable[..., DvcRepo], tmp_path: Path) -> Callable[..., DvcRepo]:
    """The same, in the test's own folder, as `data-repo` and `data-remote`."""
    return partial(make_dvc_repo, folder=tmp_path)


Row = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def shop_rows(rows: int = 400) -> list[Row]:
    """Customers of a shop; more and larger purchases and a better plan make `label` 1 more likely."""
    numbers = random.Random(7)
    created = []
    for index in range(rows):
        amount, visits = round(numbers.gauss(50, 15), 2), numbers.randint(0, 9)
        plan = numbers.choice(["basic", "plus", "pro"])
        score = (amount - 50) / 8 + visits - 4.5 + {"basic": -1, "plus": 0, "pro": 1}[plan]
        label = int(numbers.random() < 1 / (1 + math.exp(-score)))
        created.append(
            {"id": f"K{index:05}", "day": index // 4, "amount": amount, "visits": visits, "plan": plan, "label": label}
        )
    return created


@dataclass
class Shop:
    """A small pipeline in a folder: table `shop.csv`, declaration `shop.yaml`, artifacts in `store`."""

    folder: Path
    command: Callable[..., Told]

    @property
    def csv(self) -> Path:
        return self.folder / "shop.csv"

    @property
    def yaml(self) -> Path:
        return self.folder / "shop.yaml"

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "store"))

    def write(self, rows: list[Row]) -> None:
        with self.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def declare(self, *, data: dict[str, Any] | None = None, **sections: Any) -> None:
        """Write the declaration; JSON is YAML."""
        declared = {
            "model": {"name": "shop", "task": "classification"},
            "data": {"file": {"path": str(self.csv)}, "key": "id", "target": "label"} | (data or {}),
            "candidates": [{"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}],
            "gate": {"metric": "roc_auc"},
        }
        self.yaml.write_text(json.dumps(declared | sections, indent=1))

    def run(self, run_id: str, *options: str) -> Told:
        return self.command("run", self.yaml, "--store", self.folder / "store", "--run-id", run_id, *options)

    def records(self, run_id: str) -> dict[str, RunRecord]:
        """What the steps of a run got, by step; the last one of a mapped step."""
        return {record.result.step: record for record in self.store.run("shop", run_id)}

    @property
    def ledger(self) -> SqlLedger:
        return SqlLedger(os.environ["ML_PIPELINES_LEDGER"])

    def outcome(self, run_id: str) -> str:
        entry = self.ledger.entry("shop", run_id)
        assert entry is not None
        return entry.decision.outcome


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """Runs `ml-pipelines` with arguments, in this process."""

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["ml-pipelines", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Told(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where MLflow is: one database for all small pipelines, which have models of different names."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture
def shop(tmp_path: Path, mlflow_uri: str, command: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop that has not run yet."""
    monkeypatch.setenv("ML_PIPELINES_LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    created = Shop(tmp_path, command)
    created.write(shop_rows())
    created.declare()
    return created


@contextlib.contextmanager
def postgres_in_temporary_folder(*, auth: str = "scram-sha-256") -> Iterator[str]:
    """A server in a folder of its own, gone at the end; pytest's folders are closed to who runs it for root."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        # Root's server runs as nobody, who must get there.
        Path(folder).chmod(0o711)
        with run_postgres(
            Path(folder, "server"), port=find_free_port(), password=secrets.token_hex(16), auth=auth
        ) as url:
            yield url


@pytest.fixture(scope="session")
def start_mlflow() -> Callable[..., AbstractContextManager[str]]:
    """Runs `mlflow server` on what a folder has, and gives its URL: `with start_mlflow(folder, port) as url`."""
    return mlflow_server


@pytest.fixture(scope="session")
def postgres_server() -> Callable[..., AbstractContextManager[str]]:
    """Runs a PostgreSQL of its own, whose URL it gives: `with postgres_server() as url`; `auth="trust"` lets all in."""
    return postgres_in_temporary_folder


@pytest.fixture
def garbage_collected() -> Iterator[None]:
    """Collect the garbage of a test whose libraries leave sockets open, or a later test of the process fails."""
    yield
    gc.collect()
