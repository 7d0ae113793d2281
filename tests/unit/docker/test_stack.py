from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines.spec.scheduling import DefaultArgs

HERE = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((HERE / "docker-compose.airflow.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture
def stack(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("stack")


def test_write_env_writes_secrets_once_for_the_owner(stack: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert stack.write_env(file) == list(stack.SECRETS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = file.read_text()
    actual = stack.read_env(file)
    assert len(set(actual.values())) == len(stack.SECRETS)
    assert len(base64.urlsafe_b64decode(actual["AIRFLOW_FERNET_KEY"])) == 32
    assert len(actual["AIRFLOW_JWT_SECRET"]) >= 64
    assert stack.write_env(file) == []
    assert file.read_text() == written


def test_write_env_keeps_values_and_adds_missing_ones(stack: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('# mine\nWORKERS=3\nREDIS_PASSWORD="kept-as-it-is-1"\nAIRFLOW_PORT=9090')
    file.chmod(0o644)
    added = stack.write_env(file)
    assert "REDIS_PASSWORD" not in added
    assert file.read_text().startswith('# mine\nWORKERS=3\nREDIS_PASSWORD="kept-as-it-is-1"\nAIRFLOW_PORT=9090\n')
    assert stack.read_env(file)["REDIS_PASSWORD"] == "kept-as-it-is-1"
    assert set(stack.read_env(file)) == {"WORKERS", "AIRFLOW_PORT", *stack.SECRETS}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("REDIS_PASSWORD=", "REDIS_PASSWORD is a placeholder"),
        ("REDIS_PASSWORD=change-me-please", "REDIS_PASSWORD is a placeholder"),
        ("POSTGRES_PASSWORD=airflow", "POSTGRES_PASSWORD is a placeholder"),
        ("REDIS_PASSWORD=Hn5tq", "REDIS_PASSWORD is not a valid secret"),
        ("REDIS_PASSWORD=Hn5tq@Hn5tq/Hn5tq", "REDIS_PASSWORD is not a valid secret"),
        ("AIRFLOW_FERNET_KEY=Hn5tqHn5tqHn5tq", "AIRFLOW_FERNET_KEY is not a valid key"),
    ],
)
def test_write_env_rejects_an_invalid_secret(stack: ModuleType, tmp_path: Path, line: str, what: str) -> None:
    file = tmp_path / ".env"
    file.write_text(line)
    with pytest.raises(RequestError) as caught:
        stack.write_env(file)
    assert caught.value.what == what
    assert caught.value.where == str(file)
    assert "run `make env`" in caught.value.fix
    assert caught.value.got == "", "a secret is never shown"
    assert file.read_text() == line


@pytest.mark.parametrize("word", ["xxx", "TODO", "secret", "airflow", "changeme", "your"])
def test_write_env_accepts_a_generated_secret_that_contains_a_placeholder(
    stack: ModuleType, tmp_path: Path, word: str
) -> None:
    file = tmp_path / ".env"
    for name, generate in stack.SECRETS.items():
        if name != "AIRFLOW_FERNET_KEY":
            file.write_text(f"{name}={word}{generate()[len(word) :]}\n")
            assert name not in stack.write_env(file)


def test_no_placeholder_has_the_length_of_a_generated_secret(stack: ModuleType) -> None:
    lengths = {len(generate()) for generate in stack.SECRETS.values()}
    assert lengths.isdisjoint(map(len, stack.PLACEHOLDERS))


def test_script_needs_no_installed_package(tmp_path: Path) -> None:
    """Without what is installed: `-S` leaves all packages out."""
    command = [sys.executable, "-S", str(HERE / "include/docker/stack.py"), "env", "--env-file", str(tmp_path / "env")]
    environment = {**os.environ, "PYTHONPATH": str(HERE / "include")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(">> env: AIRFLOW_ADMIN_PASSWORD, ")
    (tmp_path / "env").write_text("REDIS_PASSWORD=changeme")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("REDIS_PASSWORD is a placeholder\n")
    assert "Traceback" not in done.stderr


def test_progress_prints_changes_until_all_are_ready(stack: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def container(service: str, state: str, health: str = "", code: int = 0) -> dict[str, Any]:
        return {"Name": f"x-{service}-1", "Service": service, "State": state, "Health": health, "ExitCode": code}

    progress = stack.Progress(started=0.0)
    assert not progress.done([container("init", "running"), container("db", "running", "starting")], None)
    assert (progress.waiting, progress.failed) == (["db"], [])
    assert not progress.done([container("init", "exited"), container("db", "running", "healthy")], None)
    assert progress.done([container("init", "exited"), container("db", "running", "healthy")], 0)
    assert not progress.done([container("init", "exited", code=3), container("db", "running", "healthy")], 0)
    assert progress.failed == ["init"]
    output = [line.split(" s  ")[1].split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert output == [
        ["x-db-1", "starting"],
        ["x-init-1", "running"],
        ["x-db-1", "healthy"],
        ["x-init-1", "done"],
        ["x-init-1", "failed with 3"],
    ]


def test_page_addresses_contain_credentials(stack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW_PORT", "MLFLOW_PORT", "AIRFLOW_ADMIN_USER", "MLFLOW_USER"):
        monkeypatch.delenv(name, raising=False)
    text = stack.page_addresses({"AIRFLOW_ADMIN_PASSWORD": "one", "MLFLOW_PASSWORD": "two", "AIRFLOW_PORT": "9090"})
    assert "Airflow   http://localhost:9090   user admin   password one" in text
    assert "MLflow    http://localhost:5000   user pipelines   password two" in text


def test_missing_docker_is_an_error(stack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceUnavailable) as caught:
        stack.Compose(tmp_path / "env").check()
    assert caught.value.what == "the stack needs a Docker engine and Compose"
    assert caught.value.got == "the program docker is not installed"
    assert "DOCKER_HOST" in caught.value.fix


# --- What the compose file promises ---


def test_each_secret_of_the_compose_file_is_generated(stack: ModuleType) -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (HERE / "docker-compose.airflow.yml").read_text()))
    assert asked == set(stack.SECRETS)


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_visibility_timeout_exceeds_the_longest_task() -> None:
    settings = COMPOSE["x-airflow-environment"]
    kept = timedelta(seconds=int(settings["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]))
    for declaration in (HERE / "dags").glob("*.yaml"):
        output = yaml.safe_load(declaration.read_text()).get("default_args", {})
        limit = DefaultArgs.model_validate(output).execution_timeout
        assert limit is None or limit < kept


def test_workers_have_no_secret_of_the_servers() -> None:
    server_secrets = {
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    }
    servers = [name for name in SERVICES if name.startswith("airflow-") and name != "airflow-worker"]
    assert all(SERVICES[name]["environment"].keys() >= server_secrets for name in servers)
    worker = SERVICES["airflow-worker"]["environment"]
    assert not worker.keys() & server_secrets
    texts = " ".join(str(value) for value in worker.values())
    for secret in ("AIRFLOW_DB_PASSWORD", "POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET"):
        assert secret not in texts


def test_only_workers_reach_the_docker_proxy() -> None:
    assert {name for name, service in SERVICES.items() if "engine" in service.get("networks", ())} == {
        "airflow-worker",
        "docker-proxy",
    }
    assert COMPOSE["networks"]["engine"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]
    assert COMPOSE["networks"]["data"] == {"internal": True}
