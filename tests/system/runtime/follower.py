"""A worker process that follows a container until a test kills it. Its arguments are JSON on standard input."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from types import SimpleNamespace

from ml_pipelines.contracts import StepRequest
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.placement import Docker
from ml_pipelines_airflow.execution.container import run_in_container

arguments = json.load(sys.stdin)
run_in_container(
    StepRequest.model_validate(arguments["request"]),
    Settings(**arguments["settings"]),
    docker=Docker(**arguments["docker"]),
    ti=SimpleNamespace(try_number=1, task=SimpleNamespace(retry_delay=timedelta(minutes=1), on_kill=None)),
)
