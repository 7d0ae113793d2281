"""Deployment and rollback of images. This runs last: afterwards the stack has only the DAGs of its image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.system.pipelines import CHECKOUT, SHIPPED, TRAINING
from tests.system.stack import Stack

from ml_pipelines_airflow.release.verify import read_release

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

AIRFLOW, OTHER = "ml-pipelines-airflow:local", "ml-pipelines-training:local"


def make(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a target with the credentials of a deployment."""
    credentials = {
        "AIRFLOW_API_PASSWORD": stack.secret("AIRFLOW_ADMIN_PASSWORD"),
        "AIRFLOW_API_URL": stack.url,
        "AIRFLOW_API_USER": "admin",
    }
    command = ["make", *arguments, f"ENV_FILE={stack.root / 'env'}"]
    return subprocess.run(
        command, cwd=CHECKOUT, env=stack.environment | credentials, capture_output=True, text=True, check=False
    )


def test_release_is_deployed_and_a_broken_one_rolled_back(stack: Stack, tmp_path: Path) -> None:
    release = f"RELEASE={tmp_path / 'release.json'}"
    assert make(stack, "dags", release).returncode == 0
    process = make(stack, "deploy", release, f"IMAGE={AIRFLOW}", f"TRAINING_IMAGE={OTHER}")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "## ✅ Deployed" in process.stdout
    version = read_release(tmp_path / "release.json").version
    assert served_versions(stack) == dict.fromkeys({TRAINING, *SHIPPED}, version)
    # This image has no Airflow.
    process = make(stack, "deploy", release, f"IMAGE={OTHER}", f"TRAINING_IMAGE={OTHER}")
    assert process.returncode != 0
    assert "docker failed with exit code 1" in process.stdout
    assert "Not deployed: rolled back to the previous release" in process.stdout
    assert served_versions(stack) == dict.fromkeys({TRAINING, *SHIPPED}, version)
    assert stack.secret("ML_PIPELINES_IMAGE") == AIRFLOW


def served_versions(stack: Stack) -> dict[str, str]:
    """Return the versions of the DAGs of the image."""
    return {name: dag["bundle_version"] for name, dag in stack.dags().items() if dag["bundle_name"] == "ml-pipelines"}
