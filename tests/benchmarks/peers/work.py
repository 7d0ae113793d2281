"""The work that every peer does: eight stages, each from files of a folder into files of it.

As a script: `python work.py STAGE FOLDER`. The folder's `task.json` says `source`, a CSV file, and `trees`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

STAGES = ("ingest", "check", "preprocess", "split", "train", "evaluate", "register", "promote")
KEY, TARGET, MODEL = "customer_id", "label", "churn"

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def ingest(folder: Path) -> None:
    """The CSV as Parquet."""
    import pandas as pd

    pd.read_csv(_task(folder)["source"]).to_parquet(folder / "raw.parquet")


def check(folder: Path) -> None:
    """Stop if there are too few rows, too many gaps, or a key twice."""
    import pandas as pd

    rows = pd.read_parquet(folder / "raw.parquet")
    problems = {
        "too few rows": len(rows) < 1000,
        "too many cells are missing": float(rows.isna().mean().max()) > 0.2,
        "a key is there twice": bool(rows[KEY].duplicated().any()),
        "a class is too rare": float(rows[TARGET].mean()) < 0.05,
    }
    if actual := [problem for problem, is_there in problems.items() if is_there]:
        raise SystemExit("; ".join(actual))
    (folder / "checked.json").write_text(json.dumps({"rows": len(rows)}))


def preprocess(folder: Path) -> None:
    """Rows that are valid, with numbers for texts."""
    import pandas as pd

    rows = pd.read_parquet(folder / "raw.parquet")
    rows = rows[(rows.select_dtypes("number") >= 0).all(axis=1)].drop(columns=KEY)
    texts = rows.select_dtypes(exclude="number").columns
    pd.get_dummies(rows, columns=list(texts), dtype="int8").to_parquet(folder / "clean.parquet")


def split(folder: Path) -> None:
    """Train and test rows, with equal shares of the classes."""
    import pandas as pd
    from sklearn.model_selection import train_test_split

    rows = pd.read_parquet(folder / "clean.parquet")
    for name, part in zip(
        ("train", "test"), train_test_split(rows, test_size=0.2, random_state=9, stratify=rows[TARGET]), strict=True
    ):
        part.to_parquet(folder / f"{name}.parquet")


def train(folder: Path) -> None:
    """A forest."""
    import joblib
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier

    rows = pd.read_parquet(folder / "train.parquet")
    forest = RandomForestClassifier(_task(folder)["trees"], max_depth=10, random_state=9, n_jobs=-1)
    joblib.dump(forest.fit(rows.drop(columns=TARGET), rows[TARGET]), folder / "model.joblib")


def evaluate(folder: Path) -> None:
    """Its metrics on the test rows."""
    import joblib
    import pandas as pd
    from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

    rows = pd.read_parquet(folder / "test.parquet")
    scores = joblib.load(folder / "model.joblib").predict_proba(rows.drop(columns=TARGET))[:, 1]
    metrics = {
        "roc_auc": roc_auc_score(rows[TARGET], scores),
        "average_precision": average_precision_score(rows[TARGET], scores),
        "accuracy": accuracy_score(rows[TARGET], scores > 0.5),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


def register(folder: Path) -> None:
    """Metrics and model in MLflow, which is told the requirements and so need not find them out."""
    import joblib
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    if mlflow.get_experiment_by_name(MODEL) is None:
        mlflow.create_experiment(MODEL, (folder / "mlflow-artifacts").as_uri())
    mlflow.set_experiment(MODEL)
    with mlflow.start_run():
        mlflow.log_params({"trees": _task(folder)["trees"]})
        mlflow.log_metrics(json.loads((folder / "metrics.json").read_text()))
        logged = mlflow.sklearn.log_model(
            joblib.load(folder / "model.joblib"),
            name="model",
            pip_requirements=["scikit-learn", "pandas"],
            registered_model_name=MODEL,
            # The default format trusts nothing of a forest; the file is this run's own.
            serialization_format="cloudpickle",
        )
    (folder / "registered.json").write_text(json.dumps({"version": str(logged.registered_model_version)}))


def promote(folder: Path) -> None:
    """The new version serves."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder}/mlflow.db"
    version = json.loads((folder / "registered.json").read_text())["version"]
    MlflowClient(uri, uri).set_registered_model_alias(MODEL, "champion", version)
    (folder / "promoted.json").write_text(json.dumps({"version": version}))


def _task(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "task.json").read_text()))


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]).resolve())
