"""Healthchecks of the stack's containers, which cost little: Airflow's own `jobs check` takes ten seconds of a core.

Usage: health.py url URL | health.py component NAME | health.py worker
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request

__all__ = ["component_is_healthy", "main", "worker_answers"]

MONITOR = "http://airflow-apiserver:8080/api/v2/monitor/health"
SECONDS = 20


def main(arguments: list[str]) -> int:
    """Check what the arguments name. Returns an exit code: 0 is healthy."""
    try:
        return check(arguments)
    except OSError as exc:  # nobody listens, or does not answer in time
        print(exc, file=sys.stderr)
        return 1


def check(arguments: list[str]) -> int:
    """What :func:`main` does; raises what the network does."""
    match arguments:
        case ["url", url]:
            fetch(url)
            return 0
        case ["component", name]:
            return 0 if component_is_healthy(json.loads(fetch(MONITOR)), name) else 1
        case ["worker"]:
            return 0 if worker_answers(os.environ["AIRFLOW__CELERY__BROKER_URL"]) else 1
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def fetch(url: str) -> bytes:
    """What is at a URL of the stack; an answer other than 200 is an error."""
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310  written in the compose file
        return bytes(answer.read())


def component_is_healthy(health: dict[str, dict[str, str | None]], name: str) -> bool:
    """Whether Airflow's API has heard of a component lately.

    Args:
        health: the answer of `/monitor/health`.
        name: such as `scheduler` or `dag_processor`.
    """
    return health.get(name, {}).get("status") == "healthy"


def worker_answers(broker: str) -> bool:
    """Whether the Celery worker of this container answers over the broker."""
    from celery import Celery

    with Celery(broker=broker, set_as_current=False) as app:
        name = f"celery@{socket.gethostname()}"
        return bool(app.control.ping(destination=[name], timeout=SECONDS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
