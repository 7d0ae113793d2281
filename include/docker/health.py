"""Health checks of the stack's containers. Airflow's own `jobs check` takes ten CPU seconds.

Usage: health.py url ADDRESS | health.py component NAME | health.py worker
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
    """Run the check that the arguments name. Returns an exit code: 0 is healthy."""
    try:
        return check(arguments)
    except OSError as exc:  # connection refused, or a timeout
        print(exc, file=sys.stderr)
        return 1


def check(arguments: list[str]) -> int:
    """Run a check and return its exit code. Network errors propagate."""
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
    """Return the content of a URL of the stack. Any status except 200 is an error."""
    with urllib.request.urlopen(url, timeout=SECONDS) as response:  # noqa: S310  URL from the compose file
        return bytes(response.read())


def component_is_healthy(health: dict[str, dict[str, str | None]], name: str) -> bool:
    """Return whether Airflow's API reports a component as healthy.

    Args:
        health: response of `/monitor/health`.
        name: name of the component, such as `scheduler`.
    """
    return health.get(name, {}).get("status") == "healthy"


def worker_answers(broker: str) -> bool:
    """Return whether the Celery worker of this container answers through the broker."""
    from celery import Celery

    with Celery(broker=broker, set_as_current=False) as app:
        name = f"celery@{socket.gethostname()}"
        return bool(app.control.ping(destination=[name], timeout=SECONDS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
