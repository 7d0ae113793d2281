"""The signature follows the recorded types, so MLflow accepts rows as users and servers send them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tests.step_values import split_record

from ml_pipelines.adapters.mlflow.model_format import model_signature, write_model
from ml_pipelines.contracts import ArtifactRef, DataPin
from ml_pipelines.modeling.features import frame_from_records, predict
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.ports import Training
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.training.train import train

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ROWS = 60
COLUMNS = {
    "age": [20 + number % 40 for number in range(ROWS)],
    "count": [None if number % 2 else number for number in range(ROWS)],
    "amount": [number * 1.5 for number in range(ROWS)],
    # Has no value in most rows, so in no example row either.
    "rare": ["seldom" if number == 59 else None for number in range(ROWS)],
    "city": ["Köln" if number % 3 else None for number in range(ROWS)],
    "vip": [[True, False, None][number % 3] for number in range(ROWS)],
    "day": [date(2026, 1, 1 + number % 28) for number in range(ROWS)],
    "moment": [datetime(2026, 1, 1 + number % 28, 12, 30) for number in range(ROWS)],
}
SCHEMA = {"rare": pl.String, "vip": pl.Boolean}
TYPES = {"rare": str, "city": str}
TIMES = ("day", "moment")
ROW = {name: values[4] for name, values in COLUMNS.items()}


def frame(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame([ROW | changes, ROW | changes])


def csv(**changes: Any) -> pd.DataFrame:
    """Rows as `pandas.read_csv` returns them: integers, or floats where one is missing; None as a missing boolean."""
    text = frame(**changes).to_csv(index=False)
    rows = pd.read_csv(StringIO(text), dtype=TYPES).astype(dict.fromkeys(TIMES, "datetime64[ns]"))
    return rows.assign(vip=rows["vip"].astype(object).where(rows["vip"].notna(), None))


def served(**changes: Any) -> Any:
    """Rows as MLflow's scoring server parses them."""
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    records = json.loads(frame(**changes).to_json(orient="records", date_format="iso"))
    signature = SIGNATURE[0]
    return infer_and_parse_data({"dataframe_records": records}, signature.inputs)


SIGNATURE: list[Any] = []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow.pyfunc

    labels = [int(number % 5 > 2) for number in range(ROWS)]
    table = pl.LazyFrame({"id": range(ROWS), **COLUMNS, "label": labels}, schema_overrides=SCHEMA)
    candidate = Candidate(name="c", estimator="sklearn.linear_model.LogisticRegression", params={})
    parameters = TrainParameters(
        task="classification",
        key="id",
        target="label",
        positive=None,
        features=Features(),
        candidate=candidate,
        model="churn",
    )
    output = train(table=table, split=split_record(), parameters=parameters, seed=1).outputs
    record, data = output["training"], dump_model(output["model"])
    training = Training(
        model="churn",
        candidate="c",
        key="0" * 64,
        params={},
        metrics={},
        pin=DataPin(source="file", location="a.csv"),
        model_ref=ArtifactRef(uri="file:///a", sha256="0" * 64, bytes=len(data), kind="model"),
        model_bytes=data,
        requirements=["scikit-learn"],
        trusted_types=record["trusted_types"],
        features=record["features"],
        example=record["smoke"]["rows"],
        predictions=record["smoke"]["answers"],
    )
    folder = tmp_path_factory.mktemp("model") / "model"
    logged: Any = SimpleNamespace(artifact_location=str(folder), model_id="m-1", source_run_id="r")
    write_model(training, logged, folder)
    SIGNATURE[:] = [model_signature(record["features"], record["smoke"]["answers"])]
    return mlflow.pyfunc.load_model(str(folder)), output["model"], record


def test_the_signature_has_the_recorded_types(trained: Any) -> None:
    inputs = trained[0].metadata.signature.inputs
    types = {column.name: repr(column.type) for column in inputs}
    assert types == {
        "age": "Any",
        "count": "Any",
        "amount": "double",
        "rare": "string",
        "city": "string",
        "vip": "boolean",
        "day": "datetime",
        "moment": "datetime",
    }


@pytest.mark.parametrize("rows", [frame, csv, served])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"age": None},
        {"age": 1 << 40},
        {"count": 3},
        {"count": None},
        {"amount": None},
        {"rare": "seldom"},
        {"rare": None},
        {"city": None},
        {"vip": None},
        {"day": None},
        {"moment": None},
    ],
    ids=str,
)
def test_pyfunc_accepts_real_rows(trained: Any, rows: Callable[..., Any], changes: dict[str, Any]) -> None:
    loaded, model, record = trained
    records = [
        {name: value.isoformat() if isinstance(value, date) else value for name, value in (ROW | changes).items()}
    ]
    expected = predict(model, frame_from_records(records, record["features"]), record)
    answers = loaded.predict(rows(**changes))
    assert list(np.asarray(answers)) == [int(expected[0] > 0.5)] * 2
