"""Runs of the DAG through Airflow, each with another end. One process runs all; the tests look at what they left."""

from __future__ import annotations

import csv
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.integration.ledgers import entries_of
from tests.integration.processes import find_free_port

from ml_pipelines._utils.process import user_name
from ml_pipelines.contracts import Decision, StepResult
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines_airflow.tasks.training import TASK_IDS

pytestmark = [pytest.mark.xdist_group("airflow-runs"), pytest.mark.timeout(600)]

LINKS = ("mlflow_run_url", "model_version_url", "report_url")
BRANCHES = ("compare_with_champion", "check_quality", "decide", "request_approval")
LARGEST_XCOM = 8 * 1024  # bytes
KNOWN_COLUMN = "number_customer_service_calls"  # what the trees of the small data begin with
SECRET = "s3cret-of-mlflow"
COMPUTING = (
    "ingest_data",
    "check_quality",
    "preprocess_data",
    "split_data",
    "train_model[0]",
    "train_model[1]",
    "evaluate_model",
)
AFTER_QUALITY = (
    "preprocess_data",
    "split_data",
    "train_model",
    "evaluate_model",
    "decide",
    "request_approval",
    "register_model",
    "deploy_model",
    "keep_champion",
)
COMPARED = ("ingest_data", "compare_with_champion")
TRAINED = (*COMPARED, *COMPUTING, "decide")
SCENARIOS: list[dict[str, Any]] = [
    {"name": "first", "dag": "small"},
    {"name": "again", "dag": "small"},
    {"name": "forced", "dag": "small", "conf": {"force": True}},
    {"name": "one_candidate", "dag": "small", "conf": {"candidates": ["tree"]}},
    {"name": "never", "dag": "other_model", "conf": {"promote": "never"}},
    {"name": "rejected", "dag": "strict"},
    {"name": "held", "dag": "asked", "conf": {"promote": "hold"}},
    {
        "name": "approved",
        "dag": "asked",
        "conf": {"promote": "hold"},
        "environment": {"ML_PIPELINES_APPROVE": "yes"},
    },
    {"name": "other_gate", "dag": "other_gate"},
    {"name": "stopped", "dag": "spoiled"},
    {"name": "no_file", "dag": "no_file"},
    {"name": "no_revisions", "dag": "no_file", "conf": {"data_revision": "main"}},
    *({"name": f"{dag}_first", "dag": dag} for dag in ("gone", "altered", "narrower")),
    {"name": "gone", "dag": "gone", "breaks": {"model": "gone-model", "how": "removed"}},
    {"name": "altered", "dag": "altered", "breaks": {"model": "altered-model", "how": "altered"}},
    {"name": "narrower", "dag": "narrower"},
    {"name": "no_mlflow", "dag": "retried", "conf": {"candidates": ["tree"]}},
]


class Runs:
    """What the scenarios left."""

    def __init__(self, root: Path, found: dict[str, Any], printed: str) -> None:
        self.root, self.found, self.printed = root, found, printed

    def states(self, name: str) -> dict[str, str]:
        return {task: each["state"] for task, each in self.found["runs"][name]["tasks"].items()}

    def tries(self, name: str, task: str) -> int:
        return int(self.found["runs"][name]["tasks"][task]["tries"])

    def state(self, name: str) -> str:
        return str(self.found["runs"][name]["state"])

    def xcom(self, name: str) -> dict[str, dict[str, str]]:
        """Texts by task and key."""
        return dict(self.found["runs"][name]["xcom"])

    def result(self, name: str, task: str) -> StepResult:
        return StepResult.model_validate_json(self.xcom(name)[task]["result"])

    def results(self, name: str) -> dict[str, StepResult]:
        return {task: self.result(name, task) for task, keys in self.xcom(name).items() if "result" in keys}

    def entries(self, name: str) -> list[LedgerEntry]:
        """The ledger's entries for a run."""
        run_id = self.found["runs"][name]["run_id"]
        every = entries_of(f"sqlite:///{self.root}/ledger.db")
        return [entry for entry in every if entry.run_id == run_id]

    def decision(self, name: str) -> Decision:
        (entry,) = self.entries(name)
        return entry.decision

    def events(self, name: str) -> dict[str, Any]:
        run_id = self.found["runs"][name]["run_id"]
        return {each["asset"]: each["extra"] for each in self.found["asset_events"] if each["run_id"] == run_id}


@pytest.fixture(scope="module")
def runs(make_airflow: Callable[[], Any]) -> Runs:
    airflow = make_airflow()
    airflow.add_pipeline("small")
    airflow.add_pipeline("other_gate", gate={"metric": "roc_auc", "thresholds": {"roc_auc": 0.55}})
    airflow.add_pipeline("asked", model={"name": "asked-model", "task": "classification"})
    airflow.add_pipeline("other_model", model={"name": "other-model", "task": "classification"})
    airflow.add_pipeline(
        "strict",
        model={"name": "strict-model", "task": "classification"},
        gate={"metric": "roc_auc", "thresholds": {"roc_auc": 1.0}},
    )
    data = {"key": "customer_id", "target": "label"}
    answers = {"international_plan": {"type": "string", "allowed": ["no", "yes"]}}
    spoiled = {**data, "file": {"path": "${SMALL_DATA}/spoiled.csv"}, "columns": answers}
    airflow.add_pipeline("spoiled", data=spoiled)
    retried = {"owner": "tests", "retries": 1, "retry_delay": "0s"}
    airflow.add_pipeline(
        "no_file", data={**data, "file": {"path": "${SMALL_DATA}/not-there.csv"}}, default_args=retried
    )
    airflow.add_pipeline("retried", default_args=retried)
    address = f"http://reader:{SECRET}@127.0.0.1:{find_free_port()}"
    SCENARIOS[-1]["environment"] = {
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "generic", "host": address})
    }
    for seed, (name, broken) in enumerate({"gone": "hold", "altered": "promote", "narrower": "hold"}.items(), start=1):
        model = {"name": f"{name}-model", "task": "classification"}
        gate = {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}, "broken_champion": broken}
        airflow.add_pipeline(name, model=model, gate=gate, seed=seed)
    later = write_later_data(airflow.root)
    for scenario in SCENARIOS:
        if scenario["name"] in later:
            scenario["environment"] = {"SMALL_DATA": later[scenario["name"]]}
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
    (airflow.root / "printed.log").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:]
    return Runs(airflow.root, json.loads(found.read_text()), done.stdout)


def write_later_data(root: Path) -> dict[str, str]:
    """The data of the later runs by scenario: some rows fewer, and once without a column that the champion knows."""
    with (root / "data" / "customers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:-50]
    folders = {}
    for name in ("gone", "altered", "narrower"):
        folder = root / f"data-{name}"
        folder.mkdir()
        columns = [column for column in rows[0] if (name, column) != ("narrower", KNOWN_COLUMN)]
        with (folder / "customers.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        folders[name] = str(folder)
    return folders


def test_the_first_model_is_promoted(runs: Runs) -> None:
    assert runs.state("first") == "success"
    states = runs.states("first")
    skipped = {task for task, state in states.items() if state == "skipped"}
    assert skipped == {"handle_poor_quality", "request_approval", "keep_champion"}
    assert {state for task, state in states.items() if task not in skipped} == {"success"}
    assert runs.decision("first").outcome == "promoted"
    assert runs.result("first", "deploy_model").values == {"version": "1", "previous_version": None}
    assert {result.status for task, result in runs.results("first").items() if task in COMPUTING} == {"computed"}


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("first", {*TRAINED, "register_model", "deploy_model"}),
        ("approved", {*TRAINED, "register_model", "deploy_model"}),
        ("again", {*COMPARED, "keep_champion"}),
        ("stopped", {*COMPARED, "check_quality", "handle_poor_quality"}),
        ("rejected", {*TRAINED, "keep_champion"}),
        ("held", {*TRAINED, "keep_champion"}),
        ("one_candidate", {*TRAINED, "keep_champion"} - {"train_model[0]"}),
    ],
)
def test_by_its_verdict_a_task_has_run_or_was_skipped(runs: Runs, name: str, ran: set[str]) -> None:
    states = runs.states(name)
    assert {task for task, state in states.items() if state == "success"} == {*ran, "record_decision"}
    assert {state for task, state in states.items() if task not in {*ran, "record_decision"}} == {"skipped"}
    assert set(states) == set(runs.states("first"))


def test_a_run_that_ends_well_never_waits_for_the_next_task(runs: Runs) -> None:
    told = dict(re.findall(r"^=== (\w+)\n(.*?)(?=^=== |\Z)", runs.printed, re.DOTALL | re.MULTILINE))
    waited = {name for name, text in told.items() if "No tasks to run" in text}  # and `dag.test()` sleeps for a second
    assert waited
    assert {runs.state(name) for name in waited} == {"failed"}


def test_mapped_tasks_are_shown_by_the_name_of_their_candidate(runs: Runs) -> None:
    tasks = runs.found["runs"]["first"]["tasks"]
    assert [tasks[f"train_model[{index}]"]["shown"] for index in (0, 1)] == ["linear", "tree"]


def test_nothing_new_ends_the_run_before_it_computes(runs: Runs) -> None:
    assert runs.state("again") == "success"
    decision = runs.decision("again")
    assert (decision.outcome, decision.champion_version) == ("no_change", "1")
    assert decision.reason.startswith("nothing has changed since version 1, the champion: data, code, parameters, ")
    ran = {task for task, state in runs.states("again").items() if state == "success"}
    assert ran == {"ingest_data", "compare_with_champion", "keep_champion", "record_decision"}
    assert {state for task, state in runs.states("again").items() if task not in ran} == {"skipped"}
    (entry,), (first,) = runs.entries("again"), runs.entries("first")
    assert entry.details.fingerprint == first.details.fingerprint
    assert set(entry.details.fingerprint) == {"data", "code", "parameters", "environment", "gate"}


def test_another_gate_is_another_decision_and_no_training(runs: Runs) -> None:
    compared = runs.result("other_gate", "compare_with_champion").values
    assert (compared["changed"], compared["reason"]) == (["gate"], "gate changed since version 1, the champion")
    results = runs.results("other_gate")
    assert {results[task].status for task in COMPUTING} == {"cached"}
    assert results["decide"].status == "computed"
    assert runs.decision("other_gate").outcome == "no_change"  # the champion's own model again


def test_a_test_run_waits_for_nobody(runs: Runs) -> None:
    held = runs.decision("held")
    assert (held.outcome, runs.states("held")["request_approval"]) == ("held", "skipped")
    assert held.reason == ("no person approved. all rules passed; this run asks for approval before the promotion")
    assert runs.states("held")["keep_champion"] == "success"
    assert "ML_PIPELINES_APPROVE=yes approves" in runs.printed
    (entry,) = runs.entries("approved")
    assert (entry.decision.outcome, entry.details.version) == ("promoted", "1")
    assert entry.details.approver == user_name()
    assert runs.entries("held")[0].details.approver is None


def test_force_computes_everything_again_and_gets_the_same(runs: Runs) -> None:
    first, forced = runs.results("first"), runs.results("forced")
    assert {task: forced[task].status for task in COMPUTING} == dict.fromkeys(COMPUTING, "computed")
    assert {forced[task].reason for task in COMPUTING} == {"miss: forced"}
    for task in ("split_data", "train_model[0]", "train_model[1]"):
        made, before = forced[task].outputs, first[task].outputs
        assert {name: ref.sha256 for name, ref in made.items() if ref.kind != "json"} == {
            name: ref.sha256 for name, ref in before.items() if ref.kind != "json"
        }
    assert runs.decision("forced").outcome == "no_change"


def test_candidates_that_were_not_chosen_are_skipped_and_the_others_judged(runs: Runs) -> None:
    states = runs.states("one_candidate")
    assert (states["train_model[0]"], states["train_model[1]"]) == ("skipped", "success")
    assert (states["evaluate_model"], states["decide"], runs.state("one_candidate")) == ("success",) * 3
    decision = runs.decision("one_candidate")
    assert (decision.candidate, decision.candidate_index) == ("tree", 0)


def test_never_promotes_nothing(runs: Runs) -> None:
    assert runs.state("never") == "success"
    decision = runs.decision("never")
    assert decision.outcome == "rejected"
    assert decision.reason == "promotion was switched off for this run; all rules passed"
    assert "other-model" not in runs.found["models"]
    assert runs.states("never")["keep_champion"] == "success"


def test_a_rejected_model_is_a_good_run(runs: Runs) -> None:
    assert runs.state("rejected") == "success"
    decision = runs.decision("rejected")
    assert decision.outcome == "rejected"
    assert "roc_auc" in decision.reason
    assert runs.states("rejected")["keep_champion"] == "success"
    assert runs.states("rejected")["register_model"] == "skipped"
    assert "strict-model" not in runs.found["models"]


def test_poor_data_stops_the_run_well_before_training(runs: Runs) -> None:
    assert runs.state("stopped") == "success"
    states = runs.states("stopped")
    assert {task: states[task] for task in ("check_quality", "handle_poor_quality", "record_decision")} == {
        "check_quality": "success",
        "handle_poor_quality": "success",
        "record_decision": "success",
    }
    assert {states[task] for task in AFTER_QUALITY if task in states} == {"skipped"}
    assert not [task for task in states if task.startswith("train_model") and states[task] != "skipped"]
    decision = runs.decision("stopped")
    assert decision.outcome == "stopped"
    assert "international_plan" in decision.reason


@pytest.mark.parametrize(("name", "told"), [("no_file", "not-there.csv"), ("no_revisions", "has no revisions")])
def test_what_would_only_fail_again_is_not_tried_again(runs: Runs, name: str, told: str) -> None:
    assert runs.state(name) == "failed"
    assert runs.states(name)["ingest_data"] == "failed"
    assert runs.tries(name, "ingest_data") == 1
    assert told in runs.printed
    assert runs.entries(name) == []


def test_a_server_that_does_not_answer_is_tried_again(runs: Runs) -> None:
    assert runs.state("no_mlflow") == "failed"
    assert runs.states("no_mlflow")["compare_with_champion"] == "failed"
    assert runs.tries("no_mlflow", "compare_with_champion") == 2
    assert runs.tries("no_mlflow", "ingest_data") == 1
    assert "MLflow does not answer" in runs.printed
    assert runs.entries("no_mlflow") == []


@pytest.mark.parametrize(
    ("name", "outcome", "why"),
    [
        ("gone", "held", "the file of version 1 of gone-model is gone"),
        ("altered", "promoted", "the bytes of an artifact do not have its digest"),
        ("narrower", "held", f"the champion needs column '{KNOWN_COLUMN}', which is no longer among the features"),
    ],
)
def test_a_champion_that_can_not_be_compared_is_a_verdict_and_no_crash(
    runs: Runs, name: str, outcome: str, why: str
) -> None:
    assert runs.decision(f"{name}_first").outcome == "promoted"
    assert runs.state(name) == "success"
    assert "failed" not in runs.states(name).values()
    decision = runs.decision(name)
    assert (decision.outcome, decision.champion_version) == (outcome, "1")
    assert (decision.comparison, decision.champion_metrics) == (None, {})
    (rule,) = [each for each in decision.rules if each.rule == "compared with champion"]
    assert rule.detail.startswith(f"champion version 1 could not be compared: {why}")
    assert rule.passed == (outcome == "promoted")
    aliases = runs.found["models"][f"{name}-model"]["aliases"]
    serves = {"champion": 2, "previous": 1} if outcome == "promoted" else {"champion": 1}
    assert {alias: int(version) for alias, version in aliases.items() if alias != "challenger"} == serves
    if outcome == "held":
        assert rule.detail in decision.reason
        assert (runs.states(name)["register_model"], runs.states(name)["keep_champion"]) == ("skipped", "success")
    report = runs.entries(name)[0].details.report
    assert html.escape(why, quote=False) in html.unescape(Path(urlsplit(report.uri).path).read_text())


def test_every_run_that_ends_well_leaves_one_entry(runs: Runs) -> None:
    assert {name: len(runs.entries(name)) for name in runs.found["runs"] if runs.state(name) == "success"} == {
        "first": 1,
        "again": 1,
        "forced": 1,
        "one_candidate": 1,
        "never": 1,
        "rejected": 1,
        "held": 1,
        "approved": 1,
        "other_gate": 1,
        "stopped": 1,
        **{f"{name}{run}": 1 for name in ("gone", "altered", "narrower") for run in ("_first", "")},
    }


def test_xcom_carries_references_and_small_numbers(runs: Runs) -> None:
    customers = [f'"C{number:05}"' for number in range(1, 3334)]
    for name in runs.found["runs"]:
        for task, keys in runs.xcom(name).items():
            assert sum(len(text.encode()) for text in keys.values()) < LARGEST_XCOM, (name, task)
            # Airflow keeps what a branch chooses; a result is kept once.
            chosen = {"return_value", "skipmixin_key"} if task in BRANCHES else set()
            assert set(keys) <= {"result", *chosen, *LINKS}, (name, task)
            for text in keys.values():
                assert not [customer for customer in customers if customer in text], (name, task)
    for task, result in runs.results("first").items():
        assert all(ref.uri.startswith(f"file://{runs.root}/store/objects/") for ref in result.outputs.values()), task


def test_no_credential_is_told_anywhere(runs: Runs) -> None:
    assert SECRET not in runs.printed
    assert SECRET not in json.dumps(runs.found)
    written = [path for path in (runs.root / "store").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_the_logs_hold_no_warning_that_is_ours(runs: Runs) -> None:
    warned = [line for line in runs.printed.splitlines() if "[py.warnings]" in line]
    # `dag.test()` warns of Airflow's own parts; skops would have every shim of Airflow warn, a thousand times.
    assert not [line for line in warned if "/ml_pipelines" in line or "/skops/" in line or "/operators/" in line]


def test_assets_tell_the_data_and_the_model(runs: Runs) -> None:
    first = runs.events("first")
    pin = first["small.data"]["pin"]
    assert (pin["source"], pin["location"]) == ("file", f"{runs.root}/data/customers.csv")
    assert pin["digest"]
    assert first["small-model"] == {
        "pipeline": "small",
        "run_id": runs.found["runs"]["first"]["run_id"],
        "version": "1",
        "previous_version": None,
        "metrics": runs.result("first", "evaluate_model").values["test"],
        "pin": pin,
    }
    assert list(runs.events("again")) == ["small.data"]
    assert list(runs.events("stopped")) == ["spoiled.data"]


def test_mlflow_knows_whose_trainings_it_holds(runs: Runs) -> None:
    run_id = runs.found["runs"]["first"]["run_id"]
    mine = [each for each in runs.found["mlflow_runs"] if each["tags"].get("ml_pipelines.run_id") == run_id]
    told = sorted(
        (each["tags"]["ml_pipelines.task_id"], each["tags"]["ml_pipelines.map_index"], each["status"]) for each in mine
    )
    assert told == [("train_model", "0", "FINISHED"), ("train_model", "1", "FINISHED")]
    assert {each["tags"]["ml_pipelines.pipeline"] for each in mine} == {"small"}
    assert all(each["tags"]["ml_pipelines.run_url"].startswith("http") for each in mine)


def test_the_same_declaration_without_airflow_gives_the_same(runs: Runs) -> None:
    found = runs.found["without_airflow"]
    there = {step: [StepResult.model_validate(each) for each in results] for step, results in found["steps"].items()}
    first = runs.results("first")
    for step, results in there.items():
        tasks = ["train_model[0]", "train_model[1]"] if step == "train" else [TASK_IDS[step]]
        for task, result in zip(tasks, results, strict=True):
            here = first[task]
            assert (result.status, result.key) == (here.status, here.key), task
            if step != "train" and step != "evaluate":  # these tell how long they took
                assert {name: ref.sha256 for name, ref in result.outputs.items()} == {
                    name: ref.sha256 for name, ref in here.outputs.items()
                }, task
    assert found["decision"] == runs.decision("first").model_dump(mode="json")
