"""Import once, before a worker forks, what every task would import again: most of the time of a small training.

Every Airflow task is a fork of its worker: what that has imported, the task has, in memory that both share. A worker
gets warm by its executor, with nothing to change in a DAG:

* Celery: `[celery] extra_celery_config = {"imports": ["ml_pipelines_airflow.execution.celery_preload"]}`
* LocalExecutor, also in `airflow standalone`:
  `[core] executor = ml_pipelines_airflow.execution.executors.WarmLocalExecutor`

A fork copies memory but no threads, so nothing is done here that starts a pool, opens a connection or computes much:
tests look at what a warm process has, and what its forks can do. OpenBLAS, which comes with numpy, ends its threads
before a fork and starts them when they are used.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from importlib import import_module

from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines_airflow.config import option
from ml_pipelines_airflow.execution import process

__all__ = ["DEFAULT", "modules", "preload"]

log = logging.getLogger(__name__)

DEFAULT = "default"  # in the option, for what the steps are made of
PHASES = ("parameters", "resolve", "compute", "publish")
# What takes up to a third of a second when a process does it first, and its forks need not do again.
FIRST_USES = {
    "ml_pipelines.adapters.mlflow.model_format": "prepare_mlflow",
    "ml_pipelines.runner.warmup": "warm_up",
    "ml_pipelines_airflow.dag_builders.warmup": "warm_up",
}
# What the steps reach by their ports, and what all of that imports only when it is used.
BEHIND = (
    *FIRST_USES,
    "airflow.dag_processing.bundles.local",
    "airflow.providers_manager",
    "ml_pipelines.modeling.skops_io",
    "ml_pipelines.adapters.dvc.source",
    "ml_pipelines.adapters.files.source",
    "ml_pipelines.adapters.mlflow.registry",
    "ml_pipelines.adapters.mlflow.tracking",
    "ml_pipelines.adapters.smoke_test.client",
    "ml_pipelines.adapters.smoke_test.worker",
    "ml_pipelines.adapters.sql.ledger",
    "ml_pipelines.reporting.figure_export",
    "ml_pipelines.runner.step",
    "ml_pipelines_airflow.hooks.dvc",
    "ml_pipelines_airflow.hooks.mlflow",
    "ml_pipelines_airflow.plugin",
    "ml_pipelines_airflow.connections",
    "ml_pipelines_airflow.tasks.training",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.model_registry.rest_store",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.rest_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracking.request_header.registry",
    "mlflow.utils.search_logged_model_utils",
    "multiprocessing.dummy",
    "pandas.core.methods.to_dict",
    "polars._utils.parquet",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.tree",
)


def modules() -> tuple[str, ...]:
    """The modules that `[ml_pipelines] preload` names, in which `default` stands for what the steps are made of."""
    named = [name.strip() for name in option("preload").split(",") if name.strip()]
    found: list[str] = []
    for name in named:
        found += _of_steps() if name == DEFAULT else [name]
    return tuple(dict.fromkeys(found))


def preload() -> None:
    """Import them. One that can't be imported is told and left out: a cold worker is better than none."""
    started, done = time.monotonic(), 0
    for name in modules():
        try:
            module = import_module(name)
            if name in FIRST_USES:
                getattr(module, FIRST_USES[name])()
        except Exception as exc:  # whatever a module does when it is imported
            log.warning("%s can't be preloaded: %s: %s", name, type(exc).__name__, exc)
        else:
            done += 1
    # What is here now stays: the collector would only touch, and so copy, what forks share.
    gc.collect()
    gc.freeze()
    process.current.forks = "ml_pipelines.modeling.skops_io" in sys.modules
    log.info("preloaded %d modules and what they import, in %.1f s", done, time.monotonic() - started)


def _of_steps() -> list[str]:
    phases = [getattr(step, phase) for step in (*TRAINING_STEPS.values(), *BATCH_STEPS.values()) for phase in PHASES]
    return sorted({path.partition(":")[0] for path in phases if path}) + list(BEHIND)
