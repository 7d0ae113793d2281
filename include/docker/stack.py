"""`make env` and `make up`: write the secrets of the stack, and start it.

This script needs only Docker, Python and this project's errors, without installed packages. It respects Compose's
variables COMPOSE_FILE, COMPOSE_PROJECT_NAME and COMPOSE_PROFILES.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_pipelines.errors import PipelineError, RequestError, ServiceUnavailable

__all__ = ["Progress", "main", "read_env", "up", "write_env"]

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = "docker-compose.airflow.yml"
LONGEST_WAIT_SECONDS = 1200
SHORTEST_SECRET = 12
LOG_LINES = 40


def _hex() -> str:
    return secrets.token_hex(24)


# JWTs are signed with HMAC-SHA-512, which requires 64 bytes.
SECRETS: dict[str, Callable[[], str]] = {
    "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(15),
    "AIRFLOW_API_SECRET_KEY": _hex,
    "AIRFLOW_DB_PASSWORD": _hex,
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(64),
    "CELERY_DB_PASSWORD": _hex,
    "LEDGER_DB_PASSWORD": _hex,
    "MLFLOW_DB_PASSWORD": _hex,
    "MLFLOW_PASSWORD": lambda: secrets.token_urlsafe(15),
    "MLFLOW_SECRET_KEY": _hex,
    "POSTGRES_PASSWORD": _hex,
    "REDIS_PASSWORD": _hex,
    "STORE_SIGNING_KEY": lambda: secrets.token_hex(32),
}
# Secrets are used in URLs and JSON without escaping.
ALLOWED = re.compile(r"[A-Za-z0-9_=-]+")
# Complete values, in lower case: a generated secret may contain any of these words.
PLACEHOLDERS = frozenset(
    {
        "airflow",
        "change-me",
        "change-me-please",
        "changeme",
        "example",
        "example-password",
        "example-secret",
        "password",
        "placeholder",
        "secret",
        "todo",
        "xxx",
        "xxxxxxxxxxxx",
        "your-password",
        "your-password-here",
        "your-secret",
        "your-secret-here",
        "your_password",
        "your_secret",
    }
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns an exit code."""
    parser = argparse.ArgumentParser(prog="stack", description=__doc__)
    parser.add_argument("command", choices=["env", "up"])
    parser.add_argument("--env-file", type=Path, default=ROOT / ".env")
    options = parser.parse_args(arguments)
    try:
        if added := write_env(options.env_file):
            print(f">> {options.env_file.name}: {', '.join(added)}", flush=True)
        if options.command == "up":
            up(options.env_file)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def write_env(path: Path) -> list[str]:
    """Add missing secrets to an environment file, and restrict its permissions to the owner.

    Args:
        path: path of the file, created if missing. Existing values do not change.

    Returns:
        Names of the added secrets.

    Raises:
        RequestError: a secret in the file is a placeholder, too short or invalid.
    """
    variables = read_env(path)
    for name in SECRETS.keys() & variables.keys():
        _check(name, variables[name], path)
    missing = [name for name in SECRETS if name not in variables]
    path.touch(mode=0o600)
    path.chmod(0o600)
    if missing:
        before = path.read_text()
        lines = [f"{name}={SECRETS[name]()}\n" for name in missing]
        with path.open("a") as file:
            file.write("".join([*([] if before.endswith("\n") or not before else ["\n"]), *lines]))
    return missing


def read_env(path: Path) -> dict[str, str]:
    """Return the variables of an environment file without quotes; empty if the file does not exist."""
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.removeprefix("export ").partition("=") for line in lines if line.strip() and line[0] != "#"]
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _check(name: str, value: str, path: Path) -> None:
    fix = f"remove the line from {path} and run `make env`; if data exists already, see docs/how-to/stack.md"
    if not value or value.lower() in PLACEHOLDERS:
        raise RequestError(f"{name} is a placeholder", where=str(path), expected="a secret of your own", fix=fix)
    if len(value) < SHORTEST_SECRET or not ALLOWED.fullmatch(value):
        expected = f"{SHORTEST_SECRET} or more letters, digits, and - or _"
        raise RequestError(f"{name} is not a valid secret", where=str(path), expected=expected, fix=fix)
    if name == "AIRFLOW_FERNET_KEY" and len(value) != 44:
        raise RequestError(f"{name} is not a valid key", where=str(path), expected="32 bytes in base64", fix=fix)


def up(env_file: Path) -> None:
    """Build and start the stack, wait until all services are healthy, and print its addresses.

    Raises:
        ServiceUnavailable: Docker is not available, or a service is not healthy. Its log is printed first.
    """
    compose = Compose(env_file)
    compose.check()
    compose.run("build")
    print(">> start; the first time takes some minutes", flush=True)
    with tempfile.TemporaryFile("w+") as log:
        starting = compose.start("up", "--detach", "--no-build", "--remove-orphans", output=log)
        progress = Progress(started=time.monotonic())
        while not progress.done(compose.services(), starting.poll()):
            if (late := time.monotonic() - progress.started > LONGEST_WAIT_SECONDS) or starting.poll():
                starting.terminate()
                log.seek(0)
                raise compose.failure(
                    progress, f"not healthy after {LONGEST_WAIT_SECONDS} s" if late else log.read().splitlines()[-1]
                )
            time.sleep(2)
    print(page_addresses(read_env(env_file)))


def page_addresses(variables: Mapping[str, str]) -> str:
    """Return the addresses and credentials of the pages.

    Args:
        variables: variables of the file. Those of the shell take precedence, as in Compose.
    """
    settings = {**variables, **os.environ}
    pages = [
        ("Airflow", settings.get("AIRFLOW_PORT", "8080"), settings.get("AIRFLOW_ADMIN_USER", "admin"), "AIRFLOW_ADMIN"),
        ("MLflow", settings.get("MLFLOW_PORT", "5000"), settings.get("MLFLOW_USER", "pipelines"), "MLFLOW"),
    ]
    lines = [
        f"{name:<9} http://localhost:{port}   user {user}   password {settings[f'{secret}_PASSWORD']}"
        for name, port, user, secret in pages
    ]
    return "\n".join(["", *lines, "", "Unpause and trigger ml_training_pipeline there. make logs, make ps, make down."])


class Compose:
    """`docker compose` for the stack, with an environment file."""

    def __init__(self, env_file: Path) -> None:
        self._command = ["docker", "compose", "--env-file", str(env_file)]
        self._environment = {"COMPOSE_FILE": str(ROOT / COMPOSE_FILE), **os.environ}
        socket = os.environ.get("DOCKER_HOST", "")
        if socket.startswith("unix://"):
            self._environment.setdefault("DOCKER_SOCKET", socket.removeprefix("unix://"))

    def check(self) -> None:
        """Check that Docker and Compose are available.

        Raises:
            ServiceUnavailable: one of them is missing.
        """
        for command in (["docker", "compose", "version"], ["docker", "info"]):
            try:
                process = subprocess.run(command, capture_output=True, text=True, check=False)
                got = process.stderr.strip() if process.returncode else ""
            except FileNotFoundError:
                got = "the program docker is not installed"
            if got:
                raise ServiceUnavailable(
                    "the stack needs a Docker engine and Compose",
                    where=" ".join(command),
                    got=got,
                    fix="install and start Docker, or set DOCKER_HOST",
                )

    def run(self, *arguments: str) -> None:
        """Run a command and print its output.

        Raises:
            ServiceUnavailable: the command failed.
        """
        print(f">> docker compose {' '.join(arguments)}", flush=True)
        if subprocess.run([*self._command, *arguments], cwd=ROOT, env=self._environment, check=False).returncode:
            raise ServiceUnavailable(
                f"`docker compose {' '.join(arguments)}` failed", fix="fix the problem reported above"
            )

    def start(self, *arguments: str, output: Any) -> subprocess.Popen[bytes]:
        """Start a command and write its output to a file."""
        command = [*self._command, *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=output, stderr=output)

    def services(self) -> list[dict[str, Any]]:
        """Return the `Name`, `Service`, `State`, `Health` and `ExitCode` of each container."""
        command = [*self._command, "ps", "--all", "--format", "json"]
        process = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        return [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]

    def failure(self, progress: Progress, reason: str) -> ServiceUnavailable:
        """Print the logs of services that are not ready, and return the error."""
        services = progress.failed or progress.waiting
        for service in services:
            print(f"\n>> log of {service}", flush=True)
            command = [*self._command, "logs", "--no-color", "--no-log-prefix", "--tail", str(LOG_LINES), service]
            subprocess.run(command, cwd=ROOT, env=self._environment, check=False)
        return ServiceUnavailable(
            "the stack is not healthy",
            where=", ".join(services),
            got=reason.strip(),
            fix="fix the problem in the log; see `make logs` and docs/how-to/stack.md",
        )


class Progress:
    """Print the state of each container when it changes.

    Args:
        started: start time on the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.waiting: list[str] = []
        self.failed: list[str] = []
        self._reported: dict[str, str] = {}

    def done(self, containers: list[dict[str, Any]], code: int | None) -> bool:
        """Print changes. Return whether Compose has ended and all containers are healthy or completed."""
        states = {container["Name"]: _state(container) for container in containers}
        ready = ("healthy", "running", "done")
        self.waiting = sorted({row["Service"] for row in containers if states[row["Name"]] not in ready})
        self.failed = [row["Service"] for row in containers if states[row["Name"]].startswith(("failed", "unhealthy"))]
        for name, state in sorted(states.items()):
            if state != self._reported.get(name) and state != "created":
                print(f"  {time.monotonic() - self.started:4.0f} s  {name:<40} {state}", flush=True)
        self._reported = states
        return code == 0 and bool(containers) and not self.waiting


def _state(container: Mapping[str, Any]) -> str:
    if container["State"] == "exited":
        return "done" if container["ExitCode"] == 0 else f"failed with {container['ExitCode']}"
    return str(container["Health"] or container["State"])


if __name__ == "__main__":
    sys.exit(main())
