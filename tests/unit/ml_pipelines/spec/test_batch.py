from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing

from ml_pipelines._utils.imports import import_object
from ml_pipelines.cli import app as cli
from ml_pipelines.errors import SpecError
from ml_pipelines.pipeline.batch import BATCH_STEPS, SCORING_STEPS
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.spec.batch import Shards
from ml_pipelines.spec.loader import declaration_kind, load_drift, load_scoring, load_spec, parse_drift, parse_scoring

DAGS = Path(__file__).parents[4] / "dags"
SMALL = """\
model: {name: churn}
data: {file: {path: rows.csv}, key: id}
shards: {rows: 100}
"""


def issues(text):
    with pytest.raises(SpecError) as caught:
        parse_scoring(text, path="batch.yaml")
    return {item.path: f"{item.line}:{item.column} {item.message} {item.hint}".strip() for item in caught.value.issues}


def test_scoring_defaults():
    spec = parse_scoring(SMALL, path="batch.yaml")
    assert (spec.name, spec.model.alias, spec.model.version, spec.min_scored) == ("batch", "champion", None, 1.0)
    assert (spec.shards, spec.output.keep, spec.schedule) == (Shards(rows=100), (), None)


def test_scoring_issues_have_lines_and_hints():
    text = """\
model: {nam: churn, version: 3}
data:
  file: {path: rows.csv}
  key: prediction
shards: {rows: 0}
output: {keep: [state, model]}
min_scored: 95
runtime: {score_shards: {pool: one}}
schedule: {cron: "0 5 * *"}
colour: red
"""
    matches = issues(text)
    assert matches["model.nam"] == (
        '1:9 unknown field "nam": expected one of name, alias, version did you mean "name"?'
    )
    assert matches["model.version"] == '1:30 expected text, got 3 put it in quotes: "3"'
    assert matches["data.key"].startswith('4:8 "prediction" is reserved for the scores')
    assert matches["shards.rows"] == "5:16 expected a number above 0, got 0"
    assert matches["output.keep[1]"].startswith('6:24 "model" is reserved for the scores')
    assert matches["min_scored"] == "7:13 expected a number of at most 1, got 95"
    assert matches["runtime.score_shards"] == (
        "8:11 expected a task, one of ingest_batch, plan_shards, score_shard, collect_scores, "
        'got "score_shards" did you mean "score_shard"?'
    )
    assert "schedule.cron" in matches
    assert matches["colour"].startswith('10:1 unknown field "colour"')


@pytest.mark.parametrize(
    ("changed", "place", "message"),
    [
        ("shards: {rows: 5, count: 5}", "shards", "expected either rows or count"),
        ("shards: {}", "shards", "expected either rows or count"),
        ("shards: {count: 1001}", "shards.count", "expected a number of at most 1000, got 1001"),
    ],
)
def test_shards_need_either_rows_or_count(changed, place, message):
    assert message in issues(SMALL.replace("shards: {rows: 100}", changed))[place]


def test_schedule_needs_a_trigger_and_batch_needs_one_source():
    assert "expected cron, on_champion: true or both" in issues(SMALL + "schedule: {timezone: UTC}")["schedule"]
    several = SMALL.replace("key: id", "key: id, sql: {query: select 1, url: x}")
    assert "expected exactly one source: dvc, file or sql; got 2" in issues(several)["data"]
    assert issues("")[""] == "1:1 the file is empty declare at least model and data"


def test_declaration_kind_is_read_from_the_sections(tmp_path):
    assert declaration_kind(DAGS / "ml_batch_scoring.yaml") == "scoring"
    assert declaration_kind(DAGS / "ml_drift_monitor.yaml") == "drift"
    assert declaration_kind(DAGS / "ml_training_pipeline.yaml") == "training"
    broken = tmp_path / "broken.yaml"
    broken.write_text("shards: [")
    assert declaration_kind(broken) == "training"


@pytest.mark.parametrize(
    ("read", "file", "what", "fix"),
    [
        (load_spec, "ml_batch_scoring.yaml", "a scoring", "`ml-pipelines score`"),
        (load_spec, "ml_drift_monitor.yaml", "a drift monitor", "`ml-pipelines drift`"),
        (load_scoring, "credit_risk.yaml", "a training", "`ml-pipelines run`"),
        (load_drift, "ml_batch_scoring.yaml", "a scoring", "scoring_dag"),
    ],
)
def test_loader_refuses_another_kind_of_declaration(read, file, what, fix):
    with pytest.raises(SpecError, match=f"the file declares {what}") as caught:
        read(DAGS / file)
    assert not caught.value.issues
    assert caught.value.where == str(DAGS / file)
    assert fix in caught.value.fix


def test_shipped_scoring_declaration_is_valid():
    spec = load_scoring(DAGS / "ml_batch_scoring.yaml")
    assert spec.model.name == "customer-churn-model"
    done = typer.testing.CliRunner().invoke(cli.app, ["validate", str(DAGS / "ml_batch_scoring.yaml")])
    assert done.exit_code == 0
    assert "valid. Scoring ml_batch_scoring, model customer-churn-model." in done.output


@pytest.mark.parametrize("step", SCORING_STEPS)
def test_scoring_parameters_survive_json(step):
    spec = parse_scoring(SMALL, path="batch.yaml")
    kind = import_object(SCORING_STEPS[step].parameters)
    message = kind.of(spec)
    assert kind.model_validate_json(message.model_dump_json()) == message
    assert message.for_run(RunOptions()) == message
    assert kind.not_in_key <= set(kind.model_fields)


@pytest.mark.parametrize("step", BATCH_STEPS)
def test_phases_of_batch_steps_resolve(step):
    row = BATCH_STEPS[step]
    assert all(import_object(item) for item in (row.compute, row.resolve, row.publish) if item)


def test_load_scoring_imports_no_heavy_package():
    code = (
        "import json, sys\n"
        "from ml_pipelines.spec.loader import load_scoring\n"
        f"load_scoring({str(DAGS / 'ml_batch_scoring.yaml')!r})\n"
        "print(json.dumps([name for name in ('polars', 'sklearn', 'pandas', 'mlflow') if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_drift_issues_have_lines_and_hints():
    text = """\
model: {name: churn}
watc: scores
limits: {index: 0}
retrain: {on: feature, cooldown: week}
schedule: {timezone: UTC}
runtime: {measure: {pool: one}}
"""
    with pytest.raises(SpecError) as caught:
        parse_drift(text, path="watch.yaml")
    matches = {item.path: f"{item.line} {item.message} {item.hint}".strip() for item in caught.value.issues}
    assert matches["watc"].endswith('did you mean "watch"?')
    assert matches["limits.index"] == "3 expected a number above 0, got 0"
    assert matches["retrain.on"] == (
        '4 expected one of features, predictions, any, got "feature" did you mean "features"?'
    )
    assert matches["retrain.cooldown"].startswith("4 expected a duration such as 90s, 5m, 4h or 1d")
    assert matches["schedule"] == "5 expected cron, on_scores: true or both"
    assert matches["runtime.measure"].endswith('did you mean "measure_drift"?')


def test_shipped_drift_monitor_watches_the_shipped_scoring():
    spec, scoring = (
        load_declaration(DAGS / f"{name}.yaml")
        for load_declaration, name in (
            (load_drift, "ml_drift_monitor"),
            (load_scoring, "ml_batch_scoring"),
        )
    )
    assert (spec.watch, spec.model) == (scoring.name, scoring.model)
    assert spec.retrain is not None
    assert (spec.retrain.on, spec.retrain.cooldown.days) == ("features", 7)
