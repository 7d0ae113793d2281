"""From images to the stack and back. This goes last: afterwards the stack has the DAGs of its image alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.system.pipelines import HERE, SHIPPED, TRAINING
from tests.system.stack import Stack

from ml_pipelines_airflow.release.verify import read_release

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

AIRFLOW, OTHER = "ml-pipelines-airflow:local", "ml-pipelines-training:local"


def make(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a target on the stack, as who deploys it."""
    known = {
        "AIRFLOW_API_PASSWORD": stack.secret("AIRFLOW_ADMIN_PASSWORD"),
        "AIRFLOW_API_URL": stack.url,
        "AIRFLOW_API_USER": "admin",
    }
    command = ["make", *arguments, f"ENV_FILE={stack.root / 'env'}"]
    return subprocess.run(command, cwd=HERE, env=stack.environment | known, capture_output=True, text=True, check=False)


def test_a_release_is_deployed_and_one_that_does_not_start_is_rolled_back(stack: Stack, tmp_path: Path) -> None:
    release = f"RELEASE={tmp_path / 'release.json'}"
    assert make(stack, "dags", release).returncode == 0
    done = make(stack, "deploy", release, f"IMAGE={AIRFLOW}", f"TRAINING_IMAGE={OTHER}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## ✅ Deployed" in done.stdout
    version = read_release(tmp_path / "release.json").version
    assert served(stack) == dict.fromkeys({TRAINING, *SHIPPED}, version)
    # There is no Airflow in this image.
    done = make(stack, "deploy", release, f"IMAGE={OTHER}", f"TRAINING_IMAGE={OTHER}")
    assert done.returncode != 0
    assert "docker has failed with code 1" in done.stdout
    assert "Not deployed: rolled back, and what was there before is served again" in done.stdout
    assert served(stack) == dict.fromkeys({TRAINING, *SHIPPED}, version)
    assert stack.secret("ML_PIPELINES_IMAGE") == AIRFLOW


def served(stack: Stack) -> dict[str, str]:
    """Versions of the DAGs of the image."""
    return {name: dag["bundle_version"] for name, dag in stack.dags().items() if dag["bundle_name"] == "ml-pipelines"}
