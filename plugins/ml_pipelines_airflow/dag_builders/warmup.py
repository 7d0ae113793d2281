"""What a worker does once, so that no task waits for it: Airflow imports more when a DAG is made first."""

from __future__ import annotations

from ml_pipelines.spec.loader import parse_spec
from ml_pipelines_airflow.dag_builders.training import build_training_dag

__all__ = ["warm_up"]

DECLARED = """
model: {name: practice, task: classification}
data: {file: {path: practice.csv}, key: key, target: target}
candidates: [{name: tree, estimator: sklearn.tree.DecisionTreeClassifier}]
gate: {metric: roc_auc}
"""


def warm_up() -> None:
    """Make a DAG, and forget it."""
    build_training_dag(parse_spec(DECLARED, path="practice.yaml"))
