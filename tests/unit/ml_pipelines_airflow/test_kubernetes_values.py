"""The values for Airflow's Helm chart name what is there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import yaml

from ml_pipelines_airflow.config import CONFIG

VALUES = yaml.safe_load((Path(__file__).parents[3] / "include" / "kubernetes" / "values.yaml").read_text())


def test_settings_of_ours_exist() -> None:
    prefix = "AIRFLOW__ML_PIPELINES__"
    ours = [row["name"].removeprefix(prefix).lower() for row in VALUES["env"] if row["name"].startswith(prefix)]
    assert ours == ["store"]
    assert set(ours) <= set(CONFIG["ml_pipelines"]["options"])


def test_the_bundle_exists() -> None:
    (bundle,) = VALUES["dagProcessor"]["dagBundleConfigList"]
    module, _, name = bundle["classpath"].rpartition(".")
    assert hasattr(import_module(module), name)


def test_versions_are_kept_where_all_pods_see_them() -> None:
    (mount,) = VALUES["volumeMounts"]
    assert VALUES["config"]["dag_processor"]["dag_bundle_storage_path"] == mount["mountPath"]
    assert mount["name"] == VALUES["volumes"][0]["name"]
