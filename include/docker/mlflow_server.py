"""Starts MLflow's server: brings its tables up to date, and writes its settings of sign-in where only it reads."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["main", "write_auth_settings"]

SETTINGS = Path("/tmp/mlflow-auth.ini")  # noqa: S108  in the container's own memory
# Who has signed in is remembered that long: a password takes a tenth of a second of a core to check.
REMEMBERED_SECONDS = 60


def main() -> None:
    """Serve, with the command line's arguments; everything secret comes by the environment."""
    write_auth_settings(SETTINGS, os.environ)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(SETTINGS)
    from mlflow.cli import cli

    # Called here and not as commands: the address holds a password, and arguments can be read by other processes.
    cli.main(["db", "upgrade", os.environ["MLFLOW_BACKEND_STORE_URI"]], standalone_mode=False)
    cli.main(["server", "--app-name", "basic-auth", *sys.argv[1:]])


def write_auth_settings(path: Path, environment: Mapping[str, str]) -> None:
    """Write MLflow's settings of sign-in: who is not the administrator may only read.

    Args:
        path: of the file, readable by this user alone.
        environment: with `MLFLOW_BACKEND_STORE_URI`, where the users are kept too.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings["mlflow"] = {
        "database_uri": environment["MLFLOW_BACKEND_STORE_URI"],
        "default_permission": "READ",
        "auth_cache_ttl_seconds": str(REMEMBERED_SECONDS),
    }
    path.touch(mode=0o600)
    with path.open("w") as file:
        settings.write(file)


if __name__ == "__main__":
    main()
