"""`make env` and `make up`: the stack's secrets, and its start with progress.

Needs Docker and Python, and nothing installed: only the standard library and this project's errors, which need no more.
Compose's own variables hold: COMPOSE_FILE, COMPOSE_PROJECT_NAME, COMPOSE_PROFILES.
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


# JWTs are signed by HMAC with SHA-512, which asks for 64 bytes.
SECRETS: dict[str, Callable[[], str]] = {
    "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(15),
    "AIRFLOW_API_SECRET_KEY": _hex,
    "AIRFLOW_DB_PASSWORD": _hex,
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(64),
    "LEDGER_DB_PASSWORD": _hex,
    "MLFLOW_DB_PASSWORD": _hex,
    "MLFLOW_PASSWORD": lambda: secrets.token_urlsafe(15),
    "MLFLOW_SECRET_KEY": _hex,
    "POSTGRES_PASSWORD": _hex,
    "REDIS_PASSWORD": _hex,
}
# They stand in addresses and in JSON, as they are.
ALLOWED = re.compile(r"[A-Za-z0-9_=-]+")
PLACEHOLDER = re.compile(r"change.?me|placeholder|example|your.?|password|secret|airflow|xxx|todo", re.IGNORECASE)


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns an exit code."""
    parser = argparse.ArgumentParser(prog="stack", description=__doc__)
    parser.add_argument("command", choices=["env", "up"])
    parser.add_argument("--env-file", type=Path, default=ROOT / ".env")
    given = parser.parse_args(arguments)
    try:
        if added := write_env(given.env_file):
            print(f">> {given.env_file.name}: {', '.join(added)}", flush=True)
        if given.command == "up":
            up(given.env_file)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def write_env(path: Path) -> list[str]:
    """Add the secrets that a file of variables lacks, and see that nobody else can read it.

    Args:
        path: the file, which is made if it is not there. What it says already is never changed.

    Returns:
        The names that were added.

    Raises:
        RequestError: a secret of the file is a placeholder, too short, or not what it must be.
    """
    found = read_env(path)
    for name in SECRETS.keys() & found.keys():
        _check(name, found[name], path)
    missing = [name for name in SECRETS if name not in found]
    path.touch(mode=0o600)
    path.chmod(0o600)
    if missing:
        before = path.read_text()
        lines = [f"{name}={SECRETS[name]()}\n" for name in missing]
        with path.open("a") as file:
            file.write("".join([*([] if before.endswith("\n") or not before else ["\n"]), *lines]))
    return missing


def read_env(path: Path) -> dict[str, str]:
    """The variables of a file, without quotes around their values; none if there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.removeprefix("export ").partition("=") for line in lines if line.strip() and line[0] != "#"]
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _check(name: str, value: str, path: Path) -> None:
    fix = f"remove the line from {path} and run `make env`; if data exists already, see docs/how-to/stack.md"
    if not value or PLACEHOLDER.search(value):
        raise RequestError(f"{name} is a placeholder", where=str(path), expected="a secret of your own", fix=fix)
    if len(value) < SHORTEST_SECRET or not ALLOWED.fullmatch(value):
        expected = f"{SHORTEST_SECRET} or more letters, digits, and - or _"
        raise RequestError(f"{name} is no good secret", where=str(path), expected=expected, fix=fix)
    if name == "AIRFLOW_FERNET_KEY" and len(value) != 44:
        raise RequestError(f"{name} is no key", where=str(path), expected="32 bytes in base64", fix=fix)


def up(env_file: Path) -> None:
    """Build, start, wait until all is healthy, and say where it is.

    Raises:
        ServiceUnavailable: there is no engine, or a service does not get healthy; its log is printed before.
    """
    compose = Compose(env_file)
    compose.check()
    compose.run("build")
    print(">> start; the first time takes some minutes", flush=True)
    with tempfile.TemporaryFile("w+") as said:
        starting = compose.start("up", "--detach", "--no-build", "--remove-orphans", output=said)
        progress = Progress(started=time.monotonic())
        while not progress.done(compose.services(), starting.poll()):
            if (late := time.monotonic() - progress.started > LONGEST_WAIT_SECONDS) or starting.poll():
                starting.terminate()
                said.seek(0)
                raise compose.failure(progress, "it takes too long" if late else said.read().splitlines()[-1])
            time.sleep(2)
    print(where(read_env(env_file)))


def where(variables: Mapping[str, str]) -> str:
    """Where the pages are, and how one signs in.

    Args:
        variables: of the file; what the shell sets counts before them, as for Compose.
    """
    known = {**variables, **os.environ}
    pages = [
        ("Airflow", known.get("AIRFLOW_PORT", "8080"), known.get("AIRFLOW_ADMIN_USER", "admin"), "AIRFLOW_ADMIN"),
        ("MLflow", known.get("MLFLOW_PORT", "5000"), known.get("MLFLOW_USER", "pipelines"), "MLFLOW"),
    ]
    lines = [
        f"{name:<9} http://localhost:{port}   user {user}   password {known[f'{secret}_PASSWORD']}"
        for name, port, user, secret in pages
    ]
    return "\n".join(["", *lines, "", "Unpause and trigger ml_training_pipeline there. make logs, make ps, make down."])


class Compose:
    """`docker compose` on the stack, with a file of variables."""

    def __init__(self, env_file: Path) -> None:
        self._command = ["docker", "compose", "--env-file", str(env_file)]
        self._environment = {"COMPOSE_FILE": str(ROOT / COMPOSE_FILE), **os.environ}
        socket = os.environ.get("DOCKER_HOST", "")
        if socket.startswith("unix://"):
            self._environment.setdefault("DOCKER_SOCKET", socket.removeprefix("unix://"))

    def check(self) -> None:
        """See that there is an engine and Compose.

        Raises:
            ServiceUnavailable: one of them is not there.
        """
        for command in (["docker", "compose", "version"], ["docker", "info"]):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                got = done.stderr.strip() if done.returncode else ""
            except FileNotFoundError:
                got = "no program docker"
            if got:
                raise ServiceUnavailable(
                    "the stack needs a Docker engine and Compose",
                    where=" ".join(command),
                    got=got,
                    fix="install and start Docker, or let DOCKER_HOST name its engine",
                )

    def run(self, *arguments: str) -> None:
        """Run a command to its end, its output shown.

        Raises:
            ServiceUnavailable: it has failed.
        """
        print(f">> docker compose {' '.join(arguments)}", flush=True)
        if subprocess.run([*self._command, *arguments], cwd=ROOT, env=self._environment, check=False).returncode:
            raise ServiceUnavailable(
                f"`docker compose {' '.join(arguments)}` has failed", fix="mend what it says above"
            )

    def start(self, *arguments: str, output: Any) -> subprocess.Popen[bytes]:
        """Start a command whose output goes to a file."""
        command = [*self._command, *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=output, stderr=output)

    def services(self) -> list[dict[str, Any]]:
        """What Compose tells of every container: `Name`, `Service`, `State`, `Health`, `ExitCode`."""
        command = [*self._command, "ps", "--all", "--format", "json"]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def failure(self, progress: Progress, said: str) -> ServiceUnavailable:
        """The error to raise; what the services that are not ready have logged is printed."""
        services = progress.failed or progress.waiting
        for service in services:
            print(f"\n>> log of {service}", flush=True)
            command = [*self._command, "logs", "--no-color", "--no-log-prefix", "--tail", str(LOG_LINES), service]
            subprocess.run(command, cwd=ROOT, env=self._environment, check=False)
        return ServiceUnavailable(
            "the stack does not get healthy",
            where=", ".join(services),
            got=said.strip(),
            fix="mend what the log says; make logs shows all of it, and docs/how-to/stack.md what it may mean",
        )


class Progress:
    """Tells each container's state as it changes.

    Args:
        started: on the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.waiting: list[str] = []
        self.failed: list[str] = []
        self._told: dict[str, str] = {}

    def done(self, containers: list[dict[str, Any]], code: int | None) -> bool:
        """Tell what is new, and whether all is ready: started by Compose, and healthy or ended well."""
        states = {each["Name"]: _state(each) for each in containers}
        ready = ("healthy", "running", "done")
        self.waiting = sorted({each["Service"] for each in containers if states[each["Name"]] not in ready})
        self.failed = [
            each["Service"] for each in containers if states[each["Name"]].startswith(("failed", "unhealthy"))
        ]
        for name, state in sorted(states.items()):
            if state != self._told.get(name) and state != "created":
                print(f"  {time.monotonic() - self.started:4.0f} s  {name:<40} {state}", flush=True)
        self._told = states
        return code == 0 and bool(containers) and not self.waiting


def _state(container: Mapping[str, Any]) -> str:
    if container["State"] == "exited":
        return "done" if container["ExitCode"] == 0 else f"failed with {container['ExitCode']}"
    return str(container["Health"] or container["State"])


if __name__ == "__main__":
    sys.exit(main())
