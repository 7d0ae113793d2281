"""Start the MLflow server: migrate its tables and write its authentication settings to a private file."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["main", "write_auth_settings"]

SETTINGS = Path("/tmp/mlflow-auth.ini")  # noqa: S108  in the memory of the container
# A password check takes 0.1 CPU seconds, so its result is cached for this time.
AUTH_CACHE_SECONDS = 60


def main() -> None:
    """Start the server with the arguments of the command line. Secrets are in the environment."""
    write_auth_settings(SETTINGS, os.environ)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(SETTINGS)
    from mlflow.cli import cli

    # Function calls instead of commands: the URL contains a password, and other processes can read arguments.
    cli.main(["db", "upgrade", os.environ["MLFLOW_BACKEND_STORE_URI"]], standalone_mode=False)
    cli.main(["server", "--app-name", "basic-auth", *sys.argv[1:]])


def write_auth_settings(path: Path, environment: Mapping[str, str]) -> None:
    """Write MLflow's authentication settings. Users except the administrator can only read.

    Args:
        path: path of the file. Only this user can read it.
        environment: variables with `MLFLOW_BACKEND_STORE_URI`, the database that also stores the users.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings["mlflow"] = {
        "database_uri": environment["MLFLOW_BACKEND_STORE_URI"],
        "default_permission": "READ",
        "auth_cache_ttl_seconds": str(AUTH_CACHE_SECONDS),
    }
    path.touch(mode=0o600)
    with path.open("w") as file:
        settings.write(file)


if __name__ == "__main__":
    main()
