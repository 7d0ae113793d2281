"""Prepare the stack; idempotent, and applies changed passwords.

It creates the databases with their owners, Airflow's tables, the training pool, the UI password and the sample data.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

__all__ = ["create_database", "main", "write_password_file"]

PASSWORDS = Path("/auth/passwords.json")
SAMPLE_DATA = Path("/data")
# Database -> variable with the password of its owner, which has the same name.
DATABASES = {
    "airflow": "AIRFLOW_DB_PASSWORD",
    "celery": "CELERY_DB_PASSWORD",
    "ledger": "LEDGER_DB_PASSWORD",
    "mlflow": "MLFLOW_DB_PASSWORD",
}


def main() -> None:
    """Prepare everything, in order."""
    environment = os.environ
    connection = psycopg2.connect(
        host="postgres", user="postgres", dbname="postgres", password=environment["POSTGRES_PASSWORD"]
    )
    connection.autocommit = True  # a database cannot be created in a transaction
    with connection.cursor() as cursor:
        for name, password in DATABASES.items():
            create_database(cursor, name, environment[password])
            print(f"database {name}: ready", flush=True)
    connection.close()
    call("airflow", "db", "migrate")
    slots = environment["TRAINING_SLOTS"]
    call("airflow", "pools", "set", "training", slots, "Concurrent trainings; other tasks use the remaining slots.")
    write_password_file(PASSWORDS, environment)
    call("python", "-m", "ml_pipelines_airflow.local.demo", "--workspace", str(SAMPLE_DATA), "--only-data")


def call(*command: str) -> None:
    """Run a command; exit with its code if it fails."""
    print(f"{' '.join(command[:3])}:", flush=True)
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)


def create_database(cursor: Any, name: str, password: str) -> None:
    """Create a role and its database if they do not exist, and set the password of the role.

    Args:
        cursor: cursor of a superuser, outside a transaction.
        name: name of the role and of its database.
        password: new password of the role.
    """
    role = sql.Identifier(name)
    cursor.execute("select 1 from pg_roles where rolname = %s", (name,))
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("create role {} login").format(role))
    cursor.execute(sql.SQL("alter role {} password {}").format(role, sql.Literal(password)))
    cursor.execute("select 1 from pg_database where datname = %s", (name,))
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("create database {} owner {}").format(role, role))
    cursor.execute(sql.SQL("revoke connect on database {} from public").format(role))


def write_password_file(path: Path, environment: Mapping[str, str]) -> None:
    """Write the password file of Airflow's SimpleAuthManager. Only its user can read it."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({environment["AIRFLOW_ADMIN_USER"]: environment["AIRFLOW_ADMIN_PASSWORD"]}))


if __name__ == "__main__":
    main()
