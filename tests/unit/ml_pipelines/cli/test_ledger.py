from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.cli import ledger as cli_ledger
from ml_pipelines.cli.app import main
from ml_pipelines.contracts import Comparison, Decision, Finding, Identity, Interval, RuleVerdict
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.ports import ModelVersion
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.testing import FakeServices

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ml-pipelines", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeServices:
    """A registry in memory with a champion, version 2, and a real ledger that tells how it came to be."""
    created = FakeServices()
    created.ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    created.registry.versions["churn"] = [ModelVersion("churn", number, None) for number in "12"]
    created.registry.set_alias("churn", "2", "champion")
    rule = RuleVerdict(rule="threshold roc_auc", passed=True, value=0.9, limit=0.8)
    for number in "12":
        identity = Identity(pipeline="churn", run_id=f"run-{number}", task_id="t", run_url=f"http://airflow/{number}")
        decision = Decision(
            outcome="promoted",
            model="churn",
            reason=f"why {number}",
            metric="roc_auc",
            metrics={"roc_auc": 0.9},
            rules=(rule,),
        )
        created.ledger.record(identity, decision, RunDetails(version=number))
    monkeypatch.setattr(cli_ledger, "_services", lambda: created)
    monkeypatch.setattr(cli_ledger.out, "width", 200, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return created


def test_why_explains_the_champion(services: Any, command: Command) -> None:
    code, out, _ = command("why", "churn")
    assert code == 0
    for text in ("why 2", "threshold roc_auc", "http://airflow/2", "run-2 of churn"):
        assert text in out
    assert "why 1" in command("why", "churn:1")[1]


def test_why_shows_promotion_and_rollback(services: Any, command: Command) -> None:
    identity = Identity(pipeline="ops", run_id="back", task_id="t")
    services.ledger.record(
        identity, Decision(outcome="rolled_back", model="churn", reason="complaints"), RunDetails(version="1")
    )
    services.registry.set_alias("churn", "1", "champion")
    out = command("why", "churn@champion")[1]
    assert out.index("complaints") < out.index("why 1")


@pytest.mark.parametrize(
    ("asked", "output"),
    [
        (
            "churn:9",
            "RequestError: the ledger has no promotion of version 9 of churn\n  where: model churn\n"
            "  expected: one of the versions 1, 2\n  got: version 9\n"
            "  fix: name a version that was the champion; `ml-pipelines history` lists them\n",
        ),
        (
            "churn@next",
            "RegistryError: no version has the alias next\n  where: model churn\n"
            "  fix: name a version, as MODEL:VERSION, or another alias\n",
        ),
    ],
)
def test_why_refuses_an_unknown_version(services: Any, command: Command, asked: str, output: str) -> None:
    assert command("why", asked)[::2] == (1, output)


def test_history_lists_the_newest_first(services: Any, command: Command) -> None:
    _, out, _ = command("history", "churn")
    lines = out.splitlines()
    assert lines[0].split() == ["entry", "when", "(UTC)", "outcome", "serves", "metric", "run", "why"]
    assert [line.split()[0] for line in lines[1:]] == ["2", "1"]
    assert len(command("history", "churn", "--limit", "1")[1].splitlines()) == 2
    code, _, err = command("history", "other")
    assert (code, err.splitlines()[0]) == (1, "RequestError: the ledger has no entry of model 'other'")
    assert "expected: a model that has one: churn" in err


def test_history_lists_findings_with_remedies(services: Any, command: Command) -> None:
    findings = tuple(
        Finding(check="leakage", column=f"[b]{number}\x1b", severity=severity, detail="d", remedy="ignore it")
        for number, severity in enumerate(["warn", "hold", "warn", "warn"])
    )
    decision = Decision(outcome="held", model="churn", reason="[red]so[/] :tada:", findings=findings)
    services.ledger.record(Identity(pipeline="churn", run_id="run-3", task_id="t"), decision, RunDetails())
    out = command("history", "churn")[1]
    lines = [line.strip() for line in out.splitlines()]
    assert lines[1].endswith("[red]so[/] :tada:")
    assert lines[2:6] == [
        "hold [b]1\\x1b: leakage. d. Remedy: ignore it",
        "warn [b]0\\x1b: leakage. d. Remedy: ignore it",
        "warn [b]2\\x1b: leakage. d. Remedy: ignore it",
        "and 1 more findings",
    ]


def test_history_at_a_moment(services: Any, command: Command) -> None:
    last = services.ledger.entries("churn")[0].recorded_at
    assert "churn: version 2 was the champion on" in command("history", "churn", "--at", last[:10])[1]
    assert "churn: version 2 was the champion on" in command("history", "churn", "--at", last)[1]
    assert "the ledger has no champion on 2020-01-01 23:59 UTC" in command("history", "churn", "--at", "2020-01-01")[1]
    code, _, err = command("history", "churn", "--at", "then")
    assert (code, err.splitlines()[0]) == (1, "RequestError: --at is not a date or time")


def test_verify_accepts_an_intact_ledger(services: Any, command: Command) -> None:
    code, out, _ = command("ledger", "verify")
    last = services.ledger.entries("churn")[0].hash
    assert (code, out) == (0, f"churn: 2 entries, intact; the last has hash {last}\n")
    assert command("ledger", "verify", "churn")[0] == 0
    code, _, err = command("ledger", "verify", "other")
    assert (code, err.splitlines()[0]) == (1, "RequestError: the ledger has no entry of model 'other'")


def test_verify_reports_a_tampered_entry(services: Any, command: Command, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("DROP TRIGGER ml_ledger_entries_delete")
        connection.execute("DELETE FROM ml_ledger_entries WHERE seq = 1")
    code, out, _ = command("ledger", "verify")
    assert (code, out) == (1, "churn: entry 1 is missing\n")


def test_verify_reports_an_external_change(services: Any, command: Command) -> None:
    services.registry.set_alias("churn", "1", "champion")
    output = "churn: the alias champion was changed externally, from version 2 to version 1\n"
    for arguments, code in ((("ledger", "verify"), 1), (("history", "churn"), 0), (("why", "churn:2"), 0)):
        ended, out, _ = command(*arguments)
        assert (ended, output in out) == (code, True)


def test_verify_works_without_the_registry(services: Any, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    services.registry.down = True
    code, out, _ = command("ledger", "verify")
    assert code == 0
    assert out.startswith("churn: the registry does not answer: the model registry does not answer\n")
    with pytest.raises(ServiceUnavailable):
        services.registry.by_alias("churn", "champion")


def test_rollback_needs_a_reason(services: Any, command: Command) -> None:
    code, _, err = command("rollback", "churn", "--reason", " ")
    assert (code, err.splitlines()[0]) == (1, "RequestError: a rollback needs a reason")
    assert command("rollback", "churn")[0] == 2


def test_rollback_records_user_and_reason(services: Any, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def roll_back(services: Any, model: str, choose: Any, *, reason: str, identity: Identity) -> Any:
        seen.append((model, choose(services.registry).version, reason, identity))
        return services.ledger.entries(model)[0]

    monkeypatch.setattr("ml_pipelines.promotion.transitions.roll_back", roll_back)
    assert command("rollback", "churn", "--to", "1", "--reason", "complaints", "--run-id", "r")[0] == 0
    ((model, version, reason, identity),) = seen
    assert (model, version, reason) == ("churn", "1", "complaints")
    assert (identity.pipeline, identity.run_id) == ("rollback", "r")
    code, _, err = command("rollback", "churn", "--to", "9", "--reason", "complaints")
    assert (code, err.splitlines()[0]) == (1, "RegistryError: there is no version 9")


def test_verify_accepts_an_empty_ledger(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_ledger, "_services", lambda: SimpleNamespace(ledger=FakeServices().ledger))
    assert command("ledger", "verify")[:2] == (0, "the ledger has no entries\n")


RULES = "gate:\n  metric: roc_auc\n  thresholds: {roc_auc: %s}\n  lift_over_dummy: 0\n"


@pytest.fixture
def judged(services: Any) -> Any:
    """One decision with all its evidence, promoted by the gate of its time."""
    evidence = {
        "candidate": "tree",
        "metric": "roc_auc",
        "metrics": {"roc_auc": 0.9},
        "dummy_metrics": {"roc_auc": 0.5},
        "dummy_comparison": Comparison(
            metric="roc_auc",
            difference=0.4,
            interval=Interval(low=0.35, high=0.45, confidence=0.95),
            reference=0.5,
            relative=Interval(low=0.7, high=0.9, confidence=0.95),
            draws=200,
            rows=500,
        ),
    }
    decision = Decision(outcome="promoted", model="other", reason="so", **evidence)
    services.ledger.record(Identity(pipeline="p", run_id="monday", task_id="t"), decision, RunDetails(version="1"))
    stopped = Decision(outcome="stopped", model="other", reason="poor data")
    services.ledger.record(Identity(pipeline="p", run_id="tuesday", task_id="t"), stopped, RunDetails())
    return services


@pytest.mark.parametrize(("limit", "flips"), [("0.8", 0), ("0.95", 1)])
def test_backtest_lists_changed_decisions(
    judged: Any, command: Command, tmp_path: Path, limit: str, flips: int
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES % limit)
    code, out, _ = command("gate", "backtest", "--rules", str(tmp_path / "rules.yaml"), "--model", "other")
    assert (code, out.splitlines()[-1]) == (0, f"{flips} of 1 decisions on other change")
    assert ("threshold roc_auc: roc_auc is 0.9 and must be at least 0.95" in out) == bool(flips)
    assert ("monday" in out) == bool(flips)


@pytest.mark.parametrize(("lift", "flips"), [("0.3", 0), ("0.36", 1), ("69%", 0), ("71%", 1)])
def test_backtest_applies_another_lift_to_the_recorded_bound(
    judged: Any, command: Command, tmp_path: Path, lift: str, flips: int
) -> None:
    (tmp_path / "rules.yaml").write_text((RULES % "0.8").replace("dummy: 0", f"dummy: {lift}"))
    _, out, _ = command("gate", "backtest", "--rules", str(tmp_path / "rules.yaml"), "--model", "other")
    assert out.splitlines()[-1] == f"{flips} of 1 decisions on other change"


def test_backtest_reports_unknown_metrics_with_their_line(judged: Any, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES.replace("roc_auc: %s", "roc_acu: 0.9"))
    code, out, err = command("gate", "backtest", "--rules", str(file), "--model", "other")
    assert (code, out) == (1, "")
    assert f"{file}:3:" in err
    assert "roc_acu" in err


def test_backtest_refuses_a_model_without_decisions(judged: Any, command: Command, tmp_path: Path) -> None:
    code, _, err = command("gate", "backtest", "--rules", str(tmp_path / "rules.yaml"), "--model", "nobody")
    assert (code, err.splitlines()[0]) == (
        1,
        "RequestError: the ledger has no decision on 'nobody' with metrics",
    )
