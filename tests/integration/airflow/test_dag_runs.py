"""Runs of the training DAG with different outcomes. One process runs all of them; the tests read the results."""

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
from ml_pipelines.pipeline.step_table import training_steps
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.spec.task_steps import TRAINING_TASKS

pytestmark = [pytest.mark.xdist_group("airflow-runs"), pytest.mark.timeout(600)]

LINKS = ("mlflow_run_url", "model_version_url", "report_url")
BRANCHES = ("check_quality", "evaluate_model", "request_approval")
LARGEST_XCOM = 8 * 1024  # bytes
USED_COLUMN = "number_customer_service_calls"  # the first split of the trees of the small data
SECRET = "s3cret-of-mlflow"
COMPUTING = ("ingest", "check_quality", "preprocess", "split", "train[0]", "train[1]", "evaluate")
"""Labels of the steps whose results are cached."""
CHECKED = ("ingest_data", "check_quality")
TRAINED = (*CHECKED, "preprocess_data", "train_model[0]", "train_model[1]", "evaluate_model")
AFTER_QUALITY = (
    "preprocess_data",
    "train_model",
    "evaluate_model",
    "request_approval",
    "register_and_deploy",
    "keep_champion",
)
UNFIT = {
    "name": "unfit",
    "estimator": "sklearn.linear_model.LogisticRegression",
    "params": {"solver": "lbfgs", "l1_ratio": 1.0},
}
"""A candidate whose parameters do not fit together, so that its training fails."""
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
    {"name": "one_fails", "dag": "one_fails"},
    {"name": "all_fail", "dag": "all_fail"},
    {"name": "no_file", "dag": "no_file"},
    {"name": "no_revisions", "dag": "no_file", "conf": {"data_revision": "main"}},
    *({"name": f"{dag}_first", "dag": dag} for dag in ("gone", "altered", "narrower")),
    {"name": "gone", "dag": "gone", "breaks": {"model": "gone-model", "how": "removed"}},
    {"name": "altered", "dag": "altered", "breaks": {"model": "altered-model", "how": "altered"}},
    {"name": "narrower", "dag": "narrower"},
    {"name": "no_mlflow", "dag": "retried", "conf": {"candidates": ["tree"]}},
]


class Runs:
    """The results of the scenarios."""

    def __init__(self, root: Path, document: dict[str, Any], printed: str) -> None:
        self.root, self.document, self.printed = root, document, printed

    @property
    def names(self) -> list[str]:
        return list(self.document["runs"])

    def run_id(self, name: str) -> str:
        return str(self.document["runs"][name]["run_id"])

    def tasks(self, name: str) -> dict[str, dict[str, Any]]:
        """Task instances by label."""
        return dict(self.document["runs"][name]["tasks"])

    def states(self, name: str) -> dict[str, str]:
        return {task: row["state"] for task, row in self.tasks(name).items()}

    def succeeded(self, name: str) -> set[str]:
        return {task for task, state in self.states(name).items() if state == "success"}

    def tries(self, name: str, task: str) -> int:
        return int(self.tasks(name)[task]["tries"])

    def state(self, name: str) -> str:
        return str(self.document["runs"][name]["state"])

    def xcom(self, name: str) -> dict[str, dict[str, str]]:
        """Texts by task and key."""
        return dict(self.document["runs"][name]["xcom"])

    def results(self, name: str) -> dict[str, StepResult]:
        """Results by step; `train[0]` for a mapped one."""
        return {
            step + task.removeprefix(task.partition("[")[0]): StepResult.model_validate_json(text)
            for task, texts in self.xcom(name).items()
            for step, text in texts.items()
            if step in training_steps()
        }

    def result(self, name: str, step: str) -> StepResult:
        return self.results(name)[step]

    def entries(self, name: str) -> list[LedgerEntry]:
        """The ledger's entries for a run."""
        entries = entries_of(f"sqlite:///{self.root}/ledger.db")
        return [entry for entry in entries if entry.run_id == self.run_id(name)]

    def decision(self, name: str) -> Decision:
        (entry,) = self.entries(name)
        return entry.decision

    def log(self, name: str) -> str:
        """The output of a run."""
        logs = dict(re.findall(r"^=== (\w+)\n(.*?)(?=^=== |\Z)", self.printed, re.DOTALL | re.MULTILINE))
        return str(logs[name])

    def events(self, name: str) -> dict[str, Any]:
        """The `extra` of the asset events of a run by asset."""
        events = self.document["asset_events"]
        return {event["asset"]: event["extra"] for event in events if event["run_id"] == self.run_id(name)}


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
    tree = {"name": "tree", "estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3}}
    for name, others in {"one_fails": [tree], "all_fail": []}.items():
        model = {"name": f"{name}-model", "task": "classification"}
        airflow.add_pipeline(name, model=model, candidates=[UNFIT, *others])
    data = {"key": "customer_id", "target": "label"}
    answers = {"international_plan": {"type": "string", "allowed": ["no", "yes"]}}
    spoiled = {**data, "file": {"path": "${ML_DATA_SMALL}/spoiled.csv"}, "columns": answers}
    airflow.add_pipeline("spoiled", data=spoiled)
    retried = {"owner": "tests", "retries": 1, "retry_delay": "0s"}
    airflow.add_pipeline(
        "no_file", data={**data, "file": {"path": "${ML_DATA_SMALL}/not-there.csv"}}, default_args=retried
    )
    airflow.add_pipeline("retried", default_args=retried)
    address = f"http://reader:{SECRET}@127.0.0.1:{find_free_port()}"
    SCENARIOS[-1]["environment"] = {
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "generic", "host": address})
    }
    for seed, (name, policy) in enumerate({"gone": "hold", "altered": "promote", "narrower": "hold"}.items(), start=1):
        model = {"name": f"{name}-model", "task": "classification"}
        gate = {"metric": "roc_auc", "thresholds": {"roc_auc": 0.6}, "broken_champion": policy}
        airflow.add_pipeline(name, model=model, gate=gate, seed=seed)
    later = write_later_data(airflow.root)
    for scenario in SCENARIOS:
        if scenario["name"] in later:
            scenario["environment"] = {"ML_DATA_SMALL": later[scenario["name"]]}
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
    (airflow.root / "printed.log").write_text(process.stdout)
    assert process.returncode == 0, process.stdout[-5000:]
    return Runs(airflow.root, json.loads(document.read_text()), process.stdout)


def write_later_data(root: Path) -> dict[str, str]:
    """Write the data of later runs and return the folders by scenario.

    All have fewer rows. That of `narrower` lacks a column that the champion uses.
    """
    with (root / "data" / "customers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:-50]
    folders = {}
    for name in ("gone", "altered", "narrower"):
        folder = root / f"data-{name}"
        folder.mkdir()
        columns = [column for column in rows[0] if (name, column) != ("narrower", USED_COLUMN)]
        with (folder / "customers.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        folders[name] = str(folder)
    return folders


def test_first_model_is_promoted(runs: Runs) -> None:
    assert runs.state("first") == "success"
    skipped = {task for task, state in runs.states("first").items() if state == "skipped"}
    assert skipped == {"handle_poor_quality", "request_approval", "keep_champion"}
    assert runs.succeeded("first") == runs.tasks("first").keys() - skipped
    assert runs.decision("first").outcome == "promoted"
    assert runs.result("first", "deploy").values == {"version": "1", "previous_version": None}
    assert {runs.result("first", step).status for step in COMPUTING} == {"computed"}


@pytest.mark.parametrize(
    ("name", "succeeded"),
    [
        ("first", {*TRAINED, "register_and_deploy"}),
        ("approved", {*TRAINED, "register_and_deploy"}),
        ("again", {*CHECKED, "keep_champion"}),
        ("stopped", {*CHECKED, "handle_poor_quality"}),
        ("rejected", {*TRAINED, "keep_champion"}),
        ("held", {*TRAINED, "keep_champion"}),
        ("one_candidate", {*TRAINED, "keep_champion"} - {"train_model[0]"}),
    ],
)
def test_tasks_of_other_branches_are_skipped(runs: Runs, name: str, succeeded: set[str]) -> None:
    assert runs.succeeded(name) == {*succeeded, "record_decision"}
    others = {state for task, state in runs.states(name).items() if task not in runs.succeeded(name)}
    assert others == {"skipped"}
    assert set(runs.states(name)) == set(runs.states("first"))


def test_a_candidate_that_fails_does_not_stop_the_others(runs: Runs) -> None:
    assert runs.state("one_fails") == "success"
    assert runs.succeeded("one_fails") == {*TRAINED, "register_and_deploy", "record_decision"}
    assert [runs.result("one_fails", f"train[{index}]").status for index in (0, 1)] == ["failed", "cached"]
    decision = runs.decision("one_fails")
    assert (decision.outcome, decision.candidate, decision.candidate_index) == ("promoted", "tree", 0)
    (failure,) = decision.failures
    assert (failure.candidate, failure.task) == ("unfit", "train_model")
    assert [finding.check for finding in decision.findings] == ["candidate_failed"]


def test_a_run_fails_with_all_errors_if_all_candidates_fail(runs: Runs) -> None:
    states = runs.states("all_fail")
    assert (states["train_model[0]"], states["evaluate_model"]) == ("success", "failed")
    assert "all candidates failed" in runs.log("all_fail")
    assert "unfit, training: sklearn.linear_model.LogisticRegression can't be fitted" in runs.log("all_fail")
    assert runs.entries("all_fail") == []


def test_successful_run_never_waits_for_the_scheduler(runs: Runs) -> None:
    # `dag.test()` prints this before it sleeps for a second.
    waited = {name for name in runs.names if "No tasks to run" in runs.log(name)}
    assert waited
    assert {runs.state(name) for name in waited} == {"failed"}


def test_log_groups_the_steps_of_a_task(runs: Runs) -> None:
    # Airflow has groups too, before and after the work of a task.
    lines = re.findall(r"::(group::\w+ \w+|endgroup::)", runs.log("first"))
    starts = {line.removeprefix("group::Step "): lines[i + 1] for i, line in enumerate(lines) if "::Step " in line}
    assert starts == dict.fromkeys(training_steps(), "endgroup::")


def test_mapped_tasks_have_the_name_of_their_candidate(runs: Runs) -> None:
    assert [runs.tasks("first")[f"train_model[{index}]"]["shown"] for index in (0, 1)] == ["linear", "tree"]


def test_run_without_changes_ends_before_the_quality_check(runs: Runs) -> None:
    assert runs.state("again") == "success"
    decision = runs.decision("again")
    assert (decision.outcome, decision.champion_version) == ("no_change", "1")
    assert runs.results("again").keys() == {"ingest", "compare_with_champion", "record_decision"}
    (entry,), (first,) = runs.entries("again"), runs.entries("first")
    assert entry.details.fingerprint == first.details.fingerprint
    assert set(entry.details.fingerprint) == {"data", "code", "parameters", "environment", "gate"}


def test_changed_gate_decides_again_without_a_training(runs: Runs) -> None:
    compared = runs.result("other_gate", "compare_with_champion").values
    assert compared["changed"] == ["gate"]
    results = runs.results("other_gate")
    assert {results[step].status for step in COMPUTING} == {"cached"}
    assert results["decide"].status == "computed"
    assert runs.decision("other_gate").outcome == "no_change"  # the winner is the champion itself


def test_test_run_answers_the_approval_by_the_environment(runs: Runs) -> None:
    held = runs.decision("held")
    assert (held.outcome, runs.states("held")["request_approval"]) == ("held", "skipped")
    assert runs.states("held")["keep_champion"] == "success"
    assert "ML_PIPELINES_APPROVE=yes" in runs.log("held")
    (entry,) = runs.entries("approved")
    assert (entry.decision.outcome, entry.details.version) == ("promoted", "1")
    assert entry.details.approver == user_name()
    assert runs.entries("held")[0].details.approver is None


def test_force_computes_again_with_equal_results(runs: Runs) -> None:
    first, forced = runs.results("first"), runs.results("forced")
    assert {step: forced[step].status for step in COMPUTING} == dict.fromkeys(COMPUTING, "computed")
    assert {forced[step].reason for step in COMPUTING} == {"miss: forced"}
    for step in ("split", "train[0]", "train[1]"):
        assert _digests(forced[step]) == _digests(first[step])
    assert runs.decision("forced").outcome == "no_change"


def _digests(result: StepResult) -> dict[str, str]:
    """Return the digests of the outputs without JSON documents, some of which contain durations."""
    return {name: ref.sha256 for name, ref in result.outputs.items() if ref.kind != "json"}


def test_candidates_that_are_not_selected_are_skipped(runs: Runs) -> None:
    states = runs.states("one_candidate")
    assert (states["train_model[0]"], states["train_model[1]"]) == ("skipped", "success")
    assert (states["evaluate_model"], runs.state("one_candidate")) == ("success", "success")
    decision = runs.decision("one_candidate")
    assert (decision.candidate, decision.candidate_index) == ("tree", 0)


def test_promote_never_deploys_nothing(runs: Runs) -> None:
    assert runs.state("never") == "success"
    decision = runs.decision("never")
    assert decision.outcome == "rejected"
    assert "other-model" not in runs.document["models"]
    assert runs.states("never")["keep_champion"] == "success"


def test_run_with_a_rejected_model_succeeds(runs: Runs) -> None:
    assert runs.state("rejected") == "success"
    decision = runs.decision("rejected")
    assert decision.outcome == "rejected"
    assert "roc_auc" in decision.reason
    assert runs.states("rejected")["keep_champion"] == "success"
    assert runs.states("rejected")["register_and_deploy"] == "skipped"
    assert "strict-model" not in runs.document["models"]


def test_poor_data_stops_the_run_before_the_training(runs: Runs) -> None:
    assert runs.state("stopped") == "success"
    states = runs.states("stopped")
    assert {states[task] for task in AFTER_QUALITY if task in states} == {"skipped"}
    assert not [task for task in states if task.startswith("train_model") and states[task] != "skipped"]
    decision = runs.decision("stopped")
    assert decision.outcome == "stopped"
    assert "international_plan" in decision.reason


@pytest.mark.parametrize(("name", "message"), [("no_file", "not-there.csv"), ("no_revisions", "has no revisions")])
def test_permanent_error_is_not_retried(runs: Runs, name: str, message: str) -> None:
    assert runs.state(name) == "failed"
    assert runs.states(name)["ingest_data"] == "failed"
    assert runs.tries(name, "ingest_data") == 1
    assert message in runs.log(name)
    assert runs.entries(name) == []


def test_unavailable_server_is_retried(runs: Runs) -> None:
    assert runs.state("no_mlflow") == "failed"
    assert runs.states("no_mlflow")["check_quality"] == "failed"
    assert runs.tries("no_mlflow", "check_quality") == 2
    assert runs.tries("no_mlflow", "ingest_data") == 1
    assert "MLflow does not answer" in runs.log("no_mlflow")
    assert runs.entries("no_mlflow") == []


@pytest.mark.parametrize(
    ("name", "outcome", "why"),
    [
        ("gone", "held", "the file of version 1 of gone-model is gone"),
        ("altered", "promoted", "the bytes of an artifact do not have its digest"),
        ("narrower", "held", f"the champion needs column '{USED_COLUMN}', which is no longer among the features"),
    ],
)
def test_champion_that_can_not_be_scored_is_a_rule_of_the_decision(
    runs: Runs, name: str, outcome: str, why: str
) -> None:
    assert runs.decision(f"{name}_first").outcome == "promoted"
    assert runs.state(name) == "success"
    assert "failed" not in runs.states(name).values()
    decision = runs.decision(name)
    assert (decision.outcome, decision.champion_version) == (outcome, "1")
    assert (decision.comparison, decision.champion_metrics) == (None, {})
    (rule,) = [verdict for verdict in decision.rules if verdict.rule == "compared with champion"]
    assert why in rule.detail
    assert rule.passed == (outcome == "promoted")
    aliases = runs.document["models"][f"{name}-model"]["aliases"]
    expected = {"champion": 2, "previous": 1} if outcome == "promoted" else {"champion": 1}
    assert {alias: int(version) for alias, version in aliases.items() if alias != "challenger"} == expected
    if outcome == "held":
        assert rule.detail in decision.reason
        assert (runs.states(name)["register_and_deploy"], runs.states(name)["keep_champion"]) == ("skipped", "success")
    report = runs.entries(name)[0].details.report
    assert html.escape(why, quote=False) in html.unescape(Path(urlsplit(report.uri).path).read_text())


def test_successful_run_has_one_ledger_entry(runs: Runs) -> None:
    assert {name: len(runs.entries(name)) for name in runs.names if runs.state(name) == "success"} == {
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
        "one_fails": 1,
        **{f"{name}{run}": 1 for name in ("gone", "altered", "narrower") for run in ("_first", "")},
    }


def test_xcoms_are_references_and_small_values(runs: Runs) -> None:
    customers = [f'"C{number:05}"' for number in range(1, 3334)]
    for name in runs.names:
        for task, keys in runs.xcom(name).items():
            assert sum(len(text.encode()) for text in keys.values()) < LARGEST_XCOM, (name, task)
            # Airflow stores the choice of a branch.
            choice = {"return_value", "skipmixin_key"} if task in BRANCHES else set()
            assert set(keys) <= {*TRAINING_TASKS.get(task.partition("[")[0], ()), *choice, *LINKS}, (name, task)
            for text in keys.values():
                assert not [customer for customer in customers if customer in text], (name, task)
    for step, result in runs.results("first").items():
        assert all(ref.uri.startswith(f"file://{runs.root}/store/objects/") for ref in result.outputs.values()), step


def test_credential_is_nowhere_in_logs_and_store(runs: Runs) -> None:
    assert SECRET not in runs.printed
    assert SECRET not in json.dumps(runs.document)
    files = [path for path in (runs.root / "store").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_logs_have_no_warning_of_this_package(runs: Runs) -> None:
    warnings = [line for line in runs.printed.splitlines() if "[py.warnings]" in line]
    # `dag.test()` causes warnings of Airflow itself. skops would cause one per deprecated name of Airflow.
    assert not [line for line in warnings if "/ml_pipelines" in line or "/skops/" in line or "/operators/" in line]


def test_asset_events_describe_dataset_and_model(runs: Runs) -> None:
    first = runs.events("first")
    pin = first["small.data"]["pin"]
    assert (pin["source"], pin["location"]) == ("file", "${ML_DATA_SMALL}/customers.csv")
    assert pin["digest"]
    assert first["small-model"] == {
        "pipeline": "small",
        "run_id": runs.run_id("first"),
        "version": "1",
        "previous_version": None,
        "metrics": runs.result("first", "evaluate").values["test"],
        "pin": pin,
    }
    assert list(runs.events("again")) == ["small.data"]
    assert list(runs.events("stopped")) == ["spoiled.data"]


def test_mlflow_runs_have_identity_tags(runs: Runs) -> None:
    run_id = runs.run_id("first")
    rows = [row for row in runs.document["mlflow_runs"] if row["tags"].get("ml_pipelines.run_id") == run_id]
    identities = sorted(
        (row["tags"]["ml_pipelines.task_id"], row["tags"]["ml_pipelines.map_index"], row["status"]) for row in rows
    )
    assert identities == [("train_model", "0", "FINISHED"), ("train_model", "1", "FINISHED")]
    assert {row["tags"]["ml_pipelines.pipeline"] for row in rows} == {"small"}
    assert all(row["tags"]["ml_pipelines.run_url"].startswith("http") for row in rows)


def test_run_without_airflow_has_equal_results(runs: Runs) -> None:
    document = runs.document["without_airflow"]
    first = runs.results("first")
    for step, rows in document["steps"].items():
        labels = [f"train[{index}]" for index in range(len(rows))] if step == "train" else [step]
        for label, row in zip(labels, rows, strict=True):
            result = StepResult.model_validate(row)
            assert (result.status, result.key) == (first[label].status, first[label].key), label
            if step != "train" and step != "evaluate":  # their documents contain durations
                digests = {name: ref.sha256 for name, ref in result.outputs.items()}
                assert digests == {name: ref.sha256 for name, ref in first[label].outputs.items()}, label
    assert document["decision"] == runs.decision("first").model_dump(mode="json")
