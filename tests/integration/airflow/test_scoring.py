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
    "data": {"file": {"path": "${SMALL_DATA}/customers.csv"}, "key": "customer_id"},
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
    {"name": "mended", "dag": "strict", "conf": {"force": True}},
    {"name": "empty", "dag": "empty"},
    {"name": "lacking", "dag": "lacking"},
    {"name": "repeated", "dag": "repeated"},
    {"name": "no_drift", "dag": "watch_scores"},
    {"name": "other_rows", "dag": "shifted"},
    {"name": "drift", "dag": "watch_shifted"},
    {"name": "cooling", "dag": "watch_shifted"},
    {"name": "unwanted", "dag": "watch_unwanted"},
]
WATCH = {"model": {"name": "small-model"}, "retrain": {"on": "any", "cooldown": "7d"}, "default_args": {"retries": 0}}


class Runs:
    """What the scenarios left."""

    def __init__(self, airflow: Any, found: dict[str, Any], printed: str) -> None:
        self.airflow, self.found, self.printed = airflow, found, printed

    def states(self, name: str) -> dict[str, str]:
        return {task: each["state"] for task, each in self.found["runs"][name]["tasks"].items()}

    def state(self, name: str) -> str:
        return str(self.found["runs"][name]["state"])

    def result(self, name: str, task: str) -> StepResult:
        step = task.partition("[")[0]
        return StepResult.model_validate_json(self.found["runs"][name]["xcom"][task][step])

    def how(self, name: str) -> dict[str, str]:
        xcom = self.found["runs"][name]["xcom"]
        return {task: self.result(name, task).status for task, keys in xcom.items() if task.partition("[")[0] in keys}

    def scores(self, name: str) -> pl.DataFrame:
        ref = self.result(name, "collect_scores").outputs["scores"]
        return pl.read_parquet(ref.uri.removeprefix("file://"))

    def events(self, name: str) -> list[dict[str, Any]]:
        run_id = self.found["runs"][name]["run_id"]
        return [each["extra"] for each in self.found["asset_events"] if each["run_id"] == run_id]


@pytest.fixture(scope="module")
def runs(make_airflow: Callable[[], Any]) -> Runs:
    airflow = make_airflow()
    data: Path = airflow.root / "data"
    lines = (data / "customers.csv").read_text().splitlines(keepends=True)
    (data / "empty.csv").write_text(lines[0])
    (data / "lacking.csv").write_text("".join(lines).replace("international_plan", "internationalplan", 1))
    airflow.add_pipeline("small")
    airflow.add_scoring("scores", **BATCH)
    # Another column to keep is another result of each shard, of the same shards.
    airflow.add_scoring("enough", **BATCH, output={"keep": ["international_plan"]}, min_scored=0.7)
    airflow.add_scoring("strict", **BATCH, output={"keep": ["total_day_minutes"]}, min_scored=0.9)
    header, *rows = csv.reader(lines)
    place = header.index("total_day_minutes")
    infinite = ",".join([*rows[0][:place], "inf", *rows[0][place + 1 :]])
    # The first customer once more at the end, in another shard, and with an infinite number before.
    (data / "repeated.csv").write_text("".join([lines[0], f"{infinite}\n", *lines[2:], lines[1]]))
    for name in ("empty", "lacking", "repeated"):
        file = {"file": {"path": f"${{SMALL_DATA}}/{name}.csv"}, "key": "customer_id"}
        airflow.add_scoring(name, **BATCH | {"data": file}, min_scored=0.99)
    shifted = [[*row[:place], str(float(row[place]) + 100), *row[place + 1 :]] for row in rows]
    with (data / "shifted.csv").open("w", newline="") as file_of_shifted:
        csv.writer(file_of_shifted).writerows([header, *shifted])
    airflow.add_scoring(
        "shifted", **BATCH | {"data": {"file": {"path": "${SMALL_DATA}/shifted.csv"}, "key": "customer_id"}}
    )
    airflow.add_drift("watch_scores", watch="scores", **WATCH)
    airflow.add_drift("watch_shifted", watch="shifted", **WATCH)
    airflow.add_drift("watch_unwanted", watch="shifted", **{**WATCH, "retrain": {"on": "predictions"}})
    airflow.add_pipeline("listens", schedule={"on_drift": True})
    told, found = airflow.root / "scenarios.json", airflow.root / "results.json"
    told.write_text(json.dumps(SCENARIOS))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("scenarios.py")), str(told), str(found)],
        env=airflow.environment | {"DAGS": str(airflow.root / "dags"), "COLUMNS": "200"},
        cwd=airflow.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return Runs(airflow, json.loads(found.read_text()), done.stdout)


def test_every_row_gets_a_score_that_says_where_it_comes_from(runs: Runs) -> None:
    assert runs.state("first") == "success"
    shards = [f"score_shard[{index}]" for index in range(4)]
    assert set(runs.states("first")) == {"ingest_batch", "plan_shards", *shards, "collect_scores"}
    assert runs.found["runs"]["first"]["tasks"]["score_shard[2]"]["shown"] == "shard 2"
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


def test_its_asset_tells_where_the_scores_are(runs: Runs) -> None:
    (event,) = runs.events("first")
    assert (event["outcome"], event["rows"], event["scored"], event["failed"]) == ("complete", ROWS, ROWS, 0)
    assert (event["model"], event["version"]) == ("small-model", "1")
    assert event["scores"] == runs.result("first", "collect_scores").outputs["scores"].model_dump(mode="json")
    (asset,) = {each["asset"] for each in runs.found["asset_events"] if each["dag"] == "scores"}
    assert asset == "scores.scores"


def test_a_second_run_is_a_look_up(runs: Runs) -> None:
    assert set(runs.how("first").values()) == {"computed"}
    assert runs.how("again") == dict.fromkeys(runs.how("first"), "cached")
    first, again = (runs.result(name, "collect_scores").outputs for name in ("first", "again"))
    assert first == again


def test_a_run_may_ask_for_other_shards_and_gets_the_same_scores(runs: Runs) -> None:
    assert runs.result("larger", "plan_shards").values["shards"] == [300, 256]
    assert runs.how("larger")["ingest_batch"] == "cached"
    # How many rows are predicted at once may round the last digit differently.
    first, larger = runs.scores("first"), runs.scores("larger")
    assert first.drop("probability").equals(larger.drop("probability"))
    assert (first["probability"] - larger["probability"]).abs().max() < 1e-12


def test_within_the_share_a_failed_shard_costs_its_rows_and_is_named(runs: Runs) -> None:
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


def test_beyond_the_share_the_run_fails_and_hands_nothing_on(runs: Runs) -> None:
    assert runs.state("too_few") == "failed"
    assert runs.states("too_few")["collect_scores"] == "failed"
    assert "406 of 556 rows have a score; failed: shard 1 (rows 151 to 300)" in runs.printed
    assert runs.events("too_few") == []
    # The next one, forced, makes the shard anew.
    assert runs.state("mended") == "success"
    assert runs.result("mended", "collect_scores").values["outcome"] == "complete"
    assert set(runs.how("mended").values()) == {"computed"}


def test_a_batch_without_rows_is_an_outcome(runs: Runs) -> None:
    assert runs.state("empty") == "success"
    assert runs.states("empty")["score_shard"] == "skipped"
    assert runs.result("empty", "collect_scores").values["outcome"] == "empty"
    assert len(runs.scores("empty")) == 0
    assert [event["rows"] for event in runs.events("empty")] == [0]


def test_a_batch_that_lacks_a_column_fails_with_what_is_meant(runs: Runs) -> None:
    assert runs.state("lacking") == "failed"
    assert runs.states("lacking")["ingest_batch"] == "failed"
    assert "the batch lacks columns that small-model version 1 was trained with: international_plan" in runs.printed
    assert "did you mean 'internationalplan' for 'international_plan'?" in runs.printed


def test_a_repeated_key_is_scored_once_and_an_infinite_number_told(runs: Runs) -> None:
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
    told = score(runs, "repeated")
    assert all(warning in told.stderr for warning in warnings)
    assert "partial: 556 of 557 rows scored, 1 quarantined, 0 in failed shards" in told.stdout


def score(runs: Runs, name: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ml-pipelines")), "score", f"dags/{name}.yaml", "--store", "store"],
        env=runs.airflow.environment | {"COLUMNS": "200"},
        cwd=runs.airflow.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_command_finds_what_airflow_has_computed(runs: Runs) -> None:
    done = score(runs, "scores")
    assert done.stdout.count("cached") == 7
    assert "complete: 556 of 556 rows scored, 0 quarantined, 0 in failed shards" in done.stdout
    assert runs.result("first", "collect_scores").outputs["scores"].uri in done.stdout


def said(runs: Runs, name: str) -> str:
    return str(runs.found["runs"][name]["xcom"]["request_training"]["return_value"])


def test_rows_like_those_of_the_training_call_for_nothing(runs: Runs) -> None:
    assert runs.state("no_drift") == "success"
    values = runs.result("no_drift", "measure_drift").values
    assert (values["rows"], values["judged"], values["features"], values["predictions"]) == (ROWS, True, False, False)
    assert values["prediction_index"] < 0.01  # two runs have scored the same rows
    assert said(runs, "no_drift").startswith("no training is called for: 0 of 5 features have drifted")
    assert runs.events("no_drift") == []


def test_drift_leaves_a_report_and_calls_once_within_the_cool_down(runs: Runs) -> None:
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
        "watch_shifted",
    )
    assert event["report"] == result.outputs["report"].model_dump(mode="json")
    assert said(runs, "drift") == "called for a training: 1 of 5 features have drifted"
    assert runs.state("cooling") == "success"
    assert said(runs, "cooling").startswith("no training is called for: one was at ")
    assert runs.events("cooling") == []
    (asset,) = {each["asset"] for each in runs.found["asset_events"] if each["dag"] == "watch_shifted"}
    assert asset == "small-model.drift"


def test_drift_that_the_policy_does_not_count_calls_for_nothing(runs: Runs) -> None:
    assert runs.result("unwanted", "measure_drift").values["features"] is True
    assert said(runs, "unwanted").startswith("no training is called for: 1 of 5")
    assert runs.events("unwanted") == []


def test_the_command_measures_the_same(runs: Runs) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ml-pipelines")), "drift", "dags/watch_shifted.yaml", "--store", "store"],
        env=runs.airflow.environment | {"COLUMNS": "200"},
        cwd=runs.airflow.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("drifted: 1 of 5 features have drifted")
    assert runs.result("drift", "measure_drift").outputs["report"].uri in done.stdout
