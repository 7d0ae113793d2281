"""Real containers: an image of this checkout, an MLflow server, and a folder that containers and tests share."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.conftest import Row, shop_rows
from tests.integration.processes import find_free_port, mlflow_server

import docker
from ml_pipelines.contracts import Identity, StepRequest
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.placement import Docker
from ml_pipelines_airflow.execution.container import LABEL, run_in_container

CHECKOUT = Path(__file__).parents[3]
IMAGE = "ml-pipelines-training:system-test"
BUILD = {
    "name": "ml-pipelines-system-test",
    "services": {
        "training": {
            "image": IMAGE,
            "build": {"context": str(CHECKOUT), "dockerfile": "include/docker/Dockerfile.training"},
        }
    },
}


@dataclass
class Runtime:
    """A folder with a store, MLflow, and the engine of the containers."""

    folder: Path
    settings: Settings
    engine: docker.DockerClient = field(repr=False)

    def ti(self) -> SimpleNamespace:
        """Return the part of a task instance that the runtime uses."""
        return SimpleNamespace(try_number=1, task=SimpleNamespace(retry_delay=timedelta(minutes=1), on_kill=None))

    def request(self, step: str, parameters: dict[str, Any], run_id: str, **references: Any) -> StepRequest:
        identity = Identity(pipeline="shop", run_id=run_id, task_id=step)
        return StepRequest(
            step=step, parameters=parameters, seed=1, store=self.settings.store, identity=identity, **references
        )

    def run(self, request: StepRequest, **limits: Any) -> Any:
        return run_in_container(request, self.settings, docker=Docker(**{"cpus": 2, **limits}), ti=self.ti())

    def containers(self) -> list[Any]:
        """Return the containers of this store."""
        label = f"{LABEL}.store={self.settings.store}"
        return list(self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True))

    def with_secret(self, **variables: str) -> Runtime:
        return replace(self, settings=replace(self.settings, tracking_variables=variables))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    engine = docker.from_env()
    engine.ping()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> str:
    """The training image of this checkout."""
    command = ["docker", "compose", "--file", "-", "build", "--quiet"]
    process = subprocess.run(command, input=json.dumps(BUILD), capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    return IMAGE


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that every user may write to: a container never runs as root, even if the tests do."""
    before = os.umask(0)
    with tempfile.TemporaryDirectory(prefix="ml-pipelines-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
    os.umask(before)


@pytest.fixture(scope="session")
def mlflow(open_folder: Path) -> Iterator[str]:
    with mlflow_server(open_folder, find_free_port()) as url:
        yield url


@pytest.fixture
def runtime(
    engine: docker.DockerClient, image: str, open_folder: Path, mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runtime]:
    """A new store. Its remaining containers are removed at the end."""
    folder = Path(tempfile.mkdtemp(dir=open_folder))
    folder.chmod(0o777)
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__DOCKER_IMAGE", image)
    # MLflow listens only on the loopback interface.
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__DOCKER_NETWORK", "host")
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__DOCKER_VOLUMES", f"{folder}:{folder}")
    # SQLite creates files for their owner only.
    (folder / "ledger.db").touch(mode=0o666)
    settings = Settings(
        store=f"file://{folder}/store",
        tracking_uri=mlflow,
        ledger=f"sqlite:///{folder}/ledger.db",
        environment=os.environ,
    )
    runtime = Runtime(folder, settings, engine)
    yield runtime
    for container in runtime.containers():
        container.remove(force=True)


@pytest.fixture
def ingest(runtime: Runtime) -> Callable[..., StepRequest]:
    """Creates a request that reads a small table."""

    def make(run_id: str = "r") -> StepRequest:
        path = runtime.folder / "shop.csv"
        rows: list[Row] = shop_rows(40)
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines))
        source = {"file": {"path": str(path)}}
        parameters = {"source": source, "types": {}, "key": "id", "target": "label", "ignore": []}
        return runtime.request("ingest", parameters, run_id)

    return make
