"""Import the libraries of the steps once, before a worker forks: imports take most of the time of a small training.

Every Airflow task is a fork of its worker and shares the worker's imported modules. An executor setting enables the
preload; DAGs do not change:

* Celery: `[celery] extra_celery_config = {"imports": ["ml_pipelines_airflow.execution.celery_preload"]}`
* LocalExecutor, also in `airflow standalone`:
  `[core] executor = ml_pipelines_airflow.execution.warm_local_executor.WarmLocalExecutor`

A fork copies memory but no threads. Preloading therefore starts no thread pool, opens no connection and computes
little; tests check the state of a preloaded process and the work of its forks. OpenBLAS, which numpy brings, stops its
threads before a fork and starts them on use.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from importlib import import_module

from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.step_table import training_steps
from ml_pipelines_airflow.config import option
from ml_pipelines_airflow.execution import worker_process

__all__ = ["DEFAULT", "WARMUPS", "modules", "preload"]

log = logging.getLogger(__name__)

DEFAULT = "default"
"""The name in the option that stands for the modules of the steps."""
PHASES = ("parameters", "resolve", "compute", "publish")
"""Fields of a step's row that name a module."""
WARMUPS = {
    "ml_pipelines.adapters.mlflow.model_format": "prepare_mlflow",
    "ml_pipelines.runner.warmup": "warm_up",
    "ml_pipelines_airflow.dag_builders.build_before_fork": "warm_up",
}
"""Functions by module whose first call in a process takes up to a third of a second; forks inherit the effect."""
# Modules that the steps reach through ports, and modules that the libraries import only on use.
_MORE_MODULES = (
    *WARMUPS,
    "airflow.dag_processing.bundles.local",
    "airflow.providers_manager",
    "ml_pipelines.modeling.skops_import",
    "ml_pipelines.adapters.dvc.source",
    "ml_pipelines.adapters.files.source",
    "ml_pipelines.adapters.mlflow.registry",
    "ml_pipelines.adapters.mlflow.tracking",
    "ml_pipelines.adapters.smoke_test.process",
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
    """Return the modules of `[ml_pipelines] preload`, in which `default` stands for the modules of the steps."""
    entries = [name.strip() for name in option("preload").split(",") if name.strip()]
    names: list[str] = []
    for entry in entries:
        names += _step_modules() if entry == DEFAULT else [entry]
    return tuple(dict.fromkeys(names))


def preload() -> None:
    """Import the modules and run the warm-ups. A module that fails to import is logged and left out."""
    started, done = time.monotonic(), 0
    for name in modules():
        try:
            module = import_module(name)
            if name in WARMUPS:
                getattr(module, WARMUPS[name])()
        except Exception as exc:  # importing a module can raise anything
            log.warning("%s can't be preloaded: %s: %s", name, type(exc).__name__, exc)
        else:
            done += 1
    # A collection in a fork would write to the shared memory pages of these objects, and so copy them.
    gc.collect()
    gc.freeze()
    worker_process.current.forks = "ml_pipelines.modeling.skops_import" in sys.modules
    log.info("preloaded %d modules and their imports in %.1f s", done, time.monotonic() - started)


def _step_modules() -> list[str]:
    paths = [getattr(step, phase) for step in (training_steps() | BATCH_STEPS).values() for phase in PHASES]
    return sorted({path.partition(":")[0] for path in paths if path}) + list(_MORE_MODULES)
