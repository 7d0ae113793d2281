"""Batches scored through Airflow: found again, in part, too little, empty. One process runs all of them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_pipelines.contracts import StepResult

pytestmark = [pytest.mark.timeout(600)]

ROWS = 556
SHARDS = [150, 150, 150, 106]
BATCH: dict[str, Any] = {
    "model": {"name": "small-model"},
    "data": {"file": {"path": "${ML_DATA_SMALL}/customers.csv"}, "key": "customer_id"},
    "shards": {"rows": 150},
    "default_args": {"retries": 0},
}
DAMAGED = ["first", "plan_shards", "plan_shards", "shard_1"]
SCENARIOS: list[dict[str, Any]] = [
    {"name": "train", "dag": "small", "conf": {"candidates": ["linear"]}},
    {"name": "first", "dag": "scores"},
    {"name": "again", "dag": "scores"},
    {"name": "larger", "dag": "scores", "conf": {"shard_rows": 300, "model_version": "1"}},
    {"name": "partial", "dag": "enough", "damage": DAMAGED},
    {"name": "too_few", "dag": "strict"},
    {"name": "forced", "dag": "strict", "conf": {"force": True}},
    {"name": "empty", "dag": "empty"},
    {"name": "lacking", "dag": "lacking"},
    {"name": "repeated", "dag": "repeated"},
    {"name": "no_drift", "dag": "drift_scores"},
    {"name": "other_rows", "dag": "shifted"},
    {"name": "drift", "dag": "drift_shifted"},
    {"name": "cooling", "dag": "drift_shifted"},
    {"name": "ignored", "dag": "drift_ignored"},
]
DRIFT = {"model": {"name": "small-model"}, "retrain": {"on": "any", "cooldown": "7d"}, "default_args": {"retries": 0}}


class Runs:
    """The results of the scenarios."""

    def __init__(self, airflow: Any, document: dict[str, Any], printed: str) -> None:
        self.airflow, self.document, self.printed = airflow, document, printed

    def states(self, name: str) -> dict[str, str]:
        return {task: row["state"] for task, row in self.document["runs"][name]["tasks"].items()}

    def state(self, name: str) -> str:
        return str(self.document["runs"][name]["state"])

    def result(self, name: str, task: str) -> StepResult:
        step = task.partition("[")[0]
        return StepResult.model_validate_json(self.document["runs"][name]["xcom"][task][step])

    def statuses(self, name: str) -> dict[str, str]:
        xcom = self.document["runs"][name]["xcom"]
        return {task: self.result(name, task).status for task, keys in xcom.items() if task.partition("[")[0] in keys}

    def scores(self, name: str) -> pl.DataFrame:
        ref = self.result(name, "collect_scores").outputs["scores"]
        return pl.read_parquet(ref.uri.removeprefix("file://"))

    def events(self, name: str) -> list[dict[str, Any]]:
        run_id = self.document["runs"][name]["run_id"]
        return [event["extra"] for event in self.document["asset_events"] if event["run_id"] == run_id]


@pytest.fixture(scope="module")
def runs(make_airflow: Callable[[], Any]) -> Runs:
    airflow = make_airflow()
    data: Path = airflow.root / "data"
    lines = (data / "customers.csv").read_text().splitlines(keepends=True)
    (data / "empty.csv").write_text(lines[0])
    (data / "lacking.csv").write_text("".join(lines).replace("international_plan", "internationalplan", 1))
    airflow.add_pipeline("small")
    airflow.add_scoring("scores", **BATCH)
    # Another column in `keep` gives other results of the same shards.
    airflow.add_scoring("enough", **BATCH, output={"keep": ["international_plan"]}, min_scored=0.7)
    airflow.add_scoring("strict", **BATCH, output={"keep": ["total_day_minutes"]}, min_scored=0.9)
    header, *rows = csv.reader(lines)
    place = header.index("total_day_minutes")
    infinite = ",".join([*rows[0][:place], "inf", *rows[0][place + 1 :]])
    # The first customer occurs again at the end, in another shard, and has an infinite number in the first row.
    (data / "repeated.csv").write_text("".join([lines[0], f"{infinite}\n", *lines[2:], lines[1]]))
    for name in ("empty", "lacking", "repeated"):
        file = {"file": {"path": f"${{ML_DATA_SMALL}}/{name}.csv"}, "key": "customer_id"}
        airflow.add_scoring(name, **BATCH | {"data": file}, min_scored=0.99)
    shifted = [[*row[:place], str(float(row[place]) + 100), *row[place + 1 :]] for row in rows]
    with (data / "shifted.csv").open("w", newline="") as file_of_shifted:
        csv.writer(file_of_shifted).writerows([header, *shifted])
    airflow.add_scoring(
        "shifted", **BATCH | {"data": {"file": {"path": "${ML_DATA_SMALL}/shifted.csv"}, "key": "customer_id"}}
    )
    airflow.add_drift("drift_scores", watch="scores", **DRIFT)
    airflow.add_drift("drift_shifted", watch="shifted", **DRIFT)
    airflow.add_drift("drift_ignored", watch="shifted", **{**DRIFT, "retrain": {"on": "predictions"}})
    airflow.add_pipeline("subscribed", schedule={"on_drift": True})
    scenarios, document = airflow.root / "scenarios.json", airflow.root / "results.json"
    scenarios.write_text(json.dumps(SCENARIOS))
    process = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("scenarios.py")), str(scenarios), str(document)],
        env=airflow.environment | {"DAGS": str(airflow.root / "dags"), "COLUMNS": "200"},
        cwd=airflow.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-5000:]
    return Runs(airflow, json.loads(document.read_text()), process.stdout)


def test_every_row_gets_a_score_with_model_and_data(runs: Runs) -> None:
    assert runs.state("first") == "success"
    shards = [f"score_shard[{index}]" for index in range(4)]
    assert set(runs.states("first")) == {"ingest_batch", "plan_shards", *shards, "collect_scores"}
    assert runs.document["runs"]["first"]["tasks"]["score_shard[2]"]["shown"] == "shard 2"
    assert runs.result("first", "plan_shards").values == {"rows": ROWS, "shards": SHARDS, "warnings": []}
    assert [runs.result("first", shard).values["rows"] for shard in shards] == SHARDS
    customers = pl.read_csv(runs.airflow.root / "data" / "customers.csv")
    scores = runs.scores("first")
    assert scores.columns == ["customer_id", "prediction", "probability", "model", "model_version", "data"]
    assert scores["customer_id"].to_list() == customers["customer_id"].to_list()
    assert scores["probability"].is_between(0, 1).all()
    assert (scores["prediction"] == (scores["probability"] >= 0.5)).all()
    pin = runs.result("first", "ingest_batch").values["pin"]
    assert scores.select("model", "model_version", "data").unique().rows() == [("small-model", "1", pin["digest"])]


def test_asset_event_has_the_address_of_the_scores(runs: Runs) -> None:
    (event,) = runs.events("first")
    assert (event["outcome"], event["rows"], event["scored"], event["failed"]) == ("complete", ROWS, ROWS, 0)
    assert (event["model"], event["version"]) == ("small-model", "1")
    assert event["scores"] == runs.result("first", "collect_scores").outputs["scores"].model_dump(mode="json")
    (asset,) = {event["asset"] for event in runs.document["asset_events"] if event["dag"] == "scores"}
    assert asset == "scores.scores"


def test_second_run_is_all_cache_hits(runs: Runs) -> None:
    assert set(runs.statuses("first").values()) == {"computed"}
    assert runs.statuses("again") == dict.fromkeys(runs.statuses("first"), "cached")
    first, again = (runs.result(name, "collect_scores").outputs for name in ("first", "again"))
    assert first == again


def test_other_shards_have_the_same_scores(runs: Runs) -> None:
    assert runs.result("larger", "plan_shards").values["shards"] == [300, 256]
    assert runs.statuses("larger")["ingest_batch"] == "cached"
    # The number of rows in a prediction can change the last digit.
    first, larger = runs.scores("first"), runs.scores("larger")
    assert first.drop("probability").equals(larger.drop("probability"))
    assert (first["probability"] - larger["probability"]).abs().max() < 1e-12


def test_failed_shard_within_the_limit_loses_only_its_rows(runs: Runs) -> None:
    states = runs.states("partial")
    assert (states["score_shard[1]"], states["collect_scores"], runs.state("partial")) == (
        "failed",
        "success",
        "success",
    )
    values = runs.result("partial", "collect_scores").values
    assert (values["outcome"], values["scored"], values["failed"]) == ("partial", ROWS - 150, 150)
    assert values["failed_shards"] == [1]
    scores, all_scores = runs.scores("partial"), runs.scores("first")
    assert scores.drop("international_plan").equals(pl.concat([all_scores[:150], all_scores[300:]]))
    assert "an artifact was changed after it was stored" in runs.printed
    assert [event["failed_shards"] for event in runs.events("partial")] == [[1]]


def test_failed_shards_beyond_the_limit_fail_the_run(runs: Runs) -> None:
    assert runs.state("too_few") == "failed"
    assert runs.states("too_few")["collect_scores"] == "failed"
    assert "406 of 556 rows have a score; failed: shard 1 (rows 151 to 300)" in runs.printed
    assert runs.events("too_few") == []
    # A forced run computes the shard again.
    assert runs.state("forced") == "success"
    assert runs.result("forced", "collect_scores").values["outcome"] == "complete"
    assert set(runs.statuses("forced").values()) == {"computed"}


def test_empty_batch_succeeds(runs: Runs) -> None:
    assert runs.state("empty") == "success"
    assert runs.states("empty")["score_shard"] == "skipped"
    assert runs.result("empty", "collect_scores").values["outcome"] == "empty"
    assert len(runs.scores("empty")) == 0
    assert [event["rows"] for event in runs.events("empty")] == [0]


def test_batch_without_a_column_fails_with_a_suggestion(runs: Runs) -> None:
    assert runs.state("lacking") == "failed"
    assert runs.states("lacking")["ingest_batch"] == "failed"
    assert "the batch lacks columns that small-model version 1 was trained with: international_plan" in runs.printed
    assert "did you mean 'internationalplan' for 'international_plan'?" in runs.printed


def test_repeated_key_is_quarantined_and_infinite_number_logged(runs: Runs) -> None:
    result, scores = runs.result("repeated", "collect_scores"), runs.scores("repeated")
    assert result.values["outcome"] == "partial"
    assert result.values["quarantined_by_reason"] == {"customer_id occurred before": 1}
    assert (len(scores), scores["customer_id"].n_unique()) == (ROWS, ROWS)
    warnings = [
        "total_day_minutes is infinite in 1 of 557 rows: the model treats them as missing",
        "customer_id occurred before in 1 of 557 rows, which go to quarantine",
    ]
    assert runs.result("repeated", "plan_shards").values["warnings"] == warnings
    assert all(warning in runs.printed for warning in warnings)
    process = score(runs, "repeated")
    assert all(warning in process.stderr for warning in warnings)
    assert "partial: 556 of 557 rows scored, 1 quarantined, 0 in failed shards" in process.stdout


def score(runs: Runs, name: str) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        [str(Path(sys.executable).with_name("ml-pipelines")), "score", f"dags/{name}.yaml", "--store", "store"],
        env=runs.airflow.environment | {"COLUMNS": "200"},
        cwd=runs.airflow.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process


def test_command_reuses_the_results_of_airflow(runs: Runs) -> None:
    process = score(runs, "scores")
    assert process.stdout.count("cached") == 7
    assert "complete: 556 of 556 rows scored, 0 quarantined, 0 in failed shards" in process.stdout
    assert runs.result("first", "collect_scores").outputs["scores"].uri in process.stdout


def request_message(runs: Runs, name: str) -> str:
    return str(runs.document["runs"][name]["xcom"]["request_training"]["return_value"])


def test_equal_rows_request_no_training(runs: Runs) -> None:
    assert runs.state("no_drift") == "success"
    values = runs.result("no_drift", "measure_drift").values
    assert (values["rows"], values["judged"], values["features"], values["predictions"]) == (ROWS, True, False, False)
    assert values["prediction_index"] < 0.01  # both profiles are of the same rows
    assert request_message(runs, "no_drift").startswith("no training requested: 0 of 5 features have drifted")
    assert runs.events("no_drift") == []


def test_drift_has_a_report_and_requests_one_training_per_cooldown(runs: Runs) -> None:
    result = runs.result("drift", "measure_drift")
    assert result.values["drifted"] == ["total_day_minutes"]
    page = Path(result.outputs["report"].uri.removeprefix("file://")).read_text()
    assert "1 of 5 features have drifted" in page
    assert "<svg" in page
    assert "src=" not in page
    (event,) = runs.events("drift")
    assert (event["model"], event["drifted"], event["pipeline"]) == (
        "small-model",
        ["total_day_minutes"],
        "drift_shifted",
    )
    assert event["report"] == result.outputs["report"].model_dump(mode="json")
    assert request_message(runs, "drift") == "training requested: 1 of 5 features have drifted"
    assert runs.state("cooling") == "success"
    assert request_message(runs, "cooling").startswith("no training requested: the last request was at ")
    assert runs.events("cooling") == []
    (asset,) = {event["asset"] for event in runs.document["asset_events"] if event["dag"] == "drift_shifted"}
    assert asset == "small-model.drift"


def test_drift_of_another_kind_requests_no_training(runs: Runs) -> None:
    assert runs.result("ignored", "measure_drift").values["features"] is True
    assert request_message(runs, "ignored").startswith("no training requested: 1 of 5")
    assert runs.events("ignored") == []


def test_command_measures_the_same_drift(runs: Runs) -> None:
    process = subprocess.run(
        [str(Path(sys.executable).with_name("ml-pipelines")), "drift", "dags/drift_shifted.yaml", "--store", "store"],
        env=runs.airflow.environment | {"COLUMNS": "200"},
        cwd=runs.airflow.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("drifted: 1 of 5 features have drifted")
    assert runs.result("drift", "measure_drift").outputs["report"].uri in process.stdout
