"""Build a DAG once before a worker forks: Airflow imports more modules when a process builds its first DAG."""

from __future__ import annotations

from ml_pipelines.spec.loader import parse_spec
from ml_pipelines_airflow.dag_builders.training import build_training_dag

__all__ = ["warm_up"]

DECLARATION = """
model: {name: warmup, task: classification}
data: {file: {path: warmup.csv}, key: key, target: target}
candidates: [{name: tree, estimator: sklearn.tree.DecisionTreeClassifier}]
gate: {metric: roc_auc}
"""


def warm_up() -> None:
    """Build a small training DAG and discard it."""
    build_training_dag(parse_spec(DECLARATION, path="warmup.yaml"))
