from __future__ import annotations

from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text

from ml_pipelines.contracts import CandidateFailure, Comparison, DataPin, Decision, Finding, Interval, RuleVerdict
from ml_pipelines.pipeline.candidate_failures import failure_finding
from ml_pipelines.ports.ledger_entry import RowCounts, RunDetails
from ml_pipelines.reporting.decision_card import decision_card, decision_markdown

EVALUATION: dict[str, Any] = {
    "metric": "roc_auc",
    "winner": "tree",
    "selection": {
        "winner": "tree",
        "best": "tree",
        "scores": [
            {"candidate": "linear", "score": 0.8, "standard_error": 0.02, "gap": 0.11, "gap_error": 0.015},
            {"candidate": "tree", "score": 0.91, "standard_error": 0.013, "gap": 0.0, "gap_error": 0.0},
        ],
        "reason": "tree has the best roc_auc",
    },
    "candidates": [
        {"candidate": "linear", "validation": {"roc_auc": 0.8}, "test": {"roc_auc": 0.79, "recall": None}},
        {"candidate": "tree", "validation": {"roc_auc": 0.91}, "test": {"roc_auc": 0.905, "recall": 0.5}},
    ],
    "dummy": {"test": {"roc_auc": 0.5, "recall": 0.0}},
}
PIN = DataPin(source="dvc", location="a.csv", revision="c" * 40, digest="sha256:" + "d" * 64)
ROWS = RowCounts(rows_in=1000, kept=990, quarantined=10, quarantined_by_reason={"amount is infinite": 10})


def rendered(decision: Decision, details: RunDetails, width: int = 120, **options: Any) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(decision_card(decision, details, **options))
    return captured.get()


@pytest.mark.parametrize("outcome", ["promoted", "held", "rejected", "no_change", "stopped"])
def test_decision_card_starts_with_outcome_and_reason(outcome: Any) -> None:
    first, *rest = rendered(Decision(outcome=outcome, model="shop", reason="that is why"), RunDetails()).splitlines()
    assert f"shop: {outcome.replace('_', ' ').upper()}" in first
    assert "that is why" in "".join(rest)


def test_decision_card_shows_data_rows_models_and_rules() -> None:
    rules = (
        RuleVerdict(rule="threshold roc_auc", passed=True, value=0.905, limit=0.6),
        RuleVerdict(rule="beats champion", passed=False, value=-0.01, limit=0.0),
    )
    decision = Decision(
        outcome="rejected",
        model="shop",
        reason="worse",
        candidate="tree",
        metric="roc_auc",
        champion_metrics={"roc_auc": 0.915},
        dummy_metrics={"roc_auc": 0.5},
        rules=rules,
    )
    steps = [("ingest", True, 0.25), ("train[tree]", False, 3.0)]
    text = rendered(decision, RunDetails(pin=PIN, rows=ROWS), evaluation=EVALUATION, steps=steps)
    lines = [" ".join(line.strip("│ ").split()) for line in text.splitlines()]
    assert "data a.csv at cccccccccccc sha256:dddddddddddd" in lines
    assert "rows 1,000 = 990 kept + 10 quarantined (10 amount is infinite)" in lines
    assert "linear 0.800 0.790 -" in lines
    assert "tree * 0.910 0.905 0.500" in lines
    assert "linear 0.800 0.020 0.110 0.015" in lines
    assert "tree * 0.910 0.013 0.000 0.000" in lines
    assert "selected: tree has the best roc_auc" in lines
    assert "champion 0.915 -" in lines
    assert "threshold roc_auc 0.905 0.600 pass" in lines
    assert "beats champion -0.010 0.000 fail" in lines
    assert "2 steps, 1 reused from the store; slowest: train[tree] 3.0 s, ingest 0.2 s" in lines


def complete_decision() -> Decision:
    """Return a decision with values for all fields."""
    rules = (
        RuleVerdict(rule="guard model_bytes", passed=True, value=421239.0, limit=5e7, detail="small enough"),
        RuleVerdict(rule="beats champion", passed=False, value=-0.004, limit=0.0, detail="may be worse"),
        RuleVerdict(rule="asked", passed=False, detail="a | b"),
    )
    return Decision(
        outcome="held",
        model="shop",
        reason="beats champion: may be worse",
        candidate="tree",
        metric="roc_auc",
        metrics={"roc_auc": 0.905, "recall": None},
        intervals={"roc_auc": Interval(low=0.88, high=0.93, confidence=0.95)},
        champion_metrics={"roc_auc": 0.9, "recall": 0.4},
        champion_intervals={"roc_auc": Interval(low=0.87, high=0.92, confidence=0.95)},
        champion_version="3",
        dummy_metrics={"roc_auc": 0.5, "recall": 0.0},
        comparison=Comparison(
            metric="roc_auc",
            difference=0.005,
            interval=Interval(low=-0.004, high=0.014, confidence=0.95),
            draws=2000,
            rows=1022,
        ),
        rules=rules,
    )


def test_decision_card_shows_intervals_and_failed_rules() -> None:
    details = RunDetails(changed=("data", "gate"), approver="ada")
    text = rendered(complete_decision(), details, evaluation=EVALUATION)
    lines = [" ".join(line.strip("│ ").split()) for line in text.splitlines()]
    assert "difference +0.005 roc_auc to the champion (95 %: -0.004 to +0.014, 1,022 rows)" in lines
    assert "changed data, gate since the champion" in lines
    assert "champion version 3, unchanged" in lines
    assert "approved by ada" in lines
    assert [line for line in lines if line.startswith("95 % interval")] == [
        "95 % interval 0.880-0.930",
        "95 % interval 0.870-0.920",
    ]
    assert "guard model_bytes 421,239 50,000,000 pass" in lines
    assert "beats champion -0.004 0.000 hold" in lines
    assert "asked: a | b" in lines


def test_decision_markdown_has_reason_metrics_and_rules() -> None:
    assert (
        decision_markdown(complete_decision())
        == """beats champion: may be worse

Difference: +0.005 roc_auc to the champion (95 %: -0.004 to +0.014, 1,022 rows)

|  | tree | champion, version 3 | dummy baseline |
| --- | --- | --- | --- |
| **roc_auc** | 0.905 (0.880 to 0.930) | 0.900 (0.870 to 0.920) | 0.500 |
| recall | - | 0.400 | 0.000 |

| rule | value | limit | verdict |
| --- | --- | --- | --- |
| guard model_bytes | 421,239 | 50,000,000 | pass |
| beats champion | -0.004 | 0.000 | **fail**: may be worse |
| asked | - | - | **fail**: a \\| b |"""
    )


def test_decision_markdown_of_a_first_model_has_no_champion_column() -> None:
    first = Decision(outcome="held", model="shop", reason="so", metric="f1", metrics={"f1": 0.5}, dummy_metrics={})
    assert "champion" not in decision_markdown(first)


HOSTILE = "[red]a[/] :tada: \x1b[31m \u202e | **b** <script> http://evil"


@pytest.mark.parametrize("outcome", ["held", "promoted", "stopped"])
def test_decision_card_lists_findings_with_remedies_the_most_severe_first(outcome: Any) -> None:
    findings = tuple(
        Finding(check=severity, column="x", severity=severity, detail=f"about {severity}", remedy=f"fix {severity}")
        for severity in ("warn", "hold", "error")
    )
    text = rendered(Decision(outcome=outcome, model="shop", reason="so", findings=findings), RunDetails())
    lines = [" ".join(line.strip("│ ").split()) for line in text.splitlines()]
    start = lines.index("stop x: error")
    assert lines[start : start + 9] == [
        "stop x: error",
        "about error",
        "Remedy: fix error",
        "hold x: hold",
        "about hold",
        "Remedy: fix hold",
        "warn x: warn",
        "about warn",
        "Remedy: fix warn",
    ]


def hostile_decision() -> Decision:
    """Return a decision with text of data in all fields."""
    verdict = RuleVerdict(rule=HOSTILE, passed=False, value=1, limit=1, detail=HOSTILE)
    finding = Finding(check="leakage", column=HOSTILE, severity="hold", detail=HOSTILE, remedy=HOSTILE)
    changes = {"reason": HOSTILE, "candidate": HOSTILE, "rules": (verdict, verdict), "findings": (finding,)}
    return complete_decision().model_copy(update=changes)


def test_decision_card_shows_text_of_data_as_it_is() -> None:
    rows = RowCounts(rows_in=1, kept=0, quarantined=1, quarantined_by_reason={HOSTILE: 1})
    details = RunDetails(pin=PIN.model_copy(update={"location": HOSTILE}), rows=rows, approver=HOSTILE)
    card = decision_card(hostile_decision(), details, evaluation=EVALUATION, steps=[(HOSTILE, True, 1.0)])
    console = Console(width=200, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(card)
    styled = captured.get()
    assert not set("\u202e\x07") & set(styled)
    plain = " ".join(Text.from_ansi(styled).plain.replace("│", " ").split())
    shown = "[red]a[/] :tada: \\x1b[31m \\u202e | **b** <script> http://evil"
    # Reason, name, detail and remedy of the finding, second failed rule with its detail, and both rules in the table.
    assert plain.count(shown) == 12
    assert "\x1b[31m \\u202e" not in styled


def test_decision_markdown_has_the_findings_and_no_markup_of_data() -> None:
    text = decision_markdown(hostile_decision())
    (listed,) = [line for line in text.splitlines() if line.startswith("- ")]
    assert listed.startswith("- **hold** ")
    assert "Remedy: " in listed
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    kinds = {child.type for child in inline}
    assert kinds <= {"text", "strong_open", "strong_close", "softbreak"}
    assert "x1b[31m" in "".join(child.content for child in inline)
    assert not set("\x1b\u202e") & set(text)


def test_findings_beyond_a_limit_are_counted() -> None:
    findings = tuple(Finding(check="c", severity="warn", detail=f"d{number}") for number in range(50))
    decision = Decision(outcome="held", model="shop", reason="so", findings=findings)
    assert "and 20 more findings" in rendered(decision, RunDetails())
    assert "and 20 more findings" in decision_markdown(decision)


def test_a_candidate_that_failed_has_a_row_and_is_part_of_the_approval_question() -> None:
    failure = CandidateFailure(candidate="forest", task="train_model", error="no trees")
    finding = failure_finding(failure)
    decision = Decision(
        outcome="held", model="shop", reason="so", candidate="tree", failures=(failure,), findings=(finding,)
    )
    text = rendered(decision, RunDetails(), evaluation=EVALUATION)
    lines = [" ".join(line.strip("│ ").split()) for line in text.splitlines()]
    assert "forest failed - -" in lines
    assert "the candidate forest failed in its training: no trees" in text
    assert "the candidate forest failed in its training: no trees" in decision_markdown(decision)


def test_the_card_and_the_approval_show_tuned_thresholds() -> None:
    decision = Decision(outcome="held", model="shop", reason="so", threshold=0.14078, champion_metrics={"f1": 0.5})
    assert "0.141 of the probability; champion 0.5" in rendered(decision, RunDetails())
    assert "Threshold: " in decision_markdown(decision)
    usual = Decision(outcome="held", model="shop", reason="so")
    assert "hreshold" not in rendered(usual, RunDetails()) + decision_markdown(usual)


def test_metrics_of_the_report_are_columns_with_their_intervals() -> None:
    gain = "shop:gain higher labels"
    test = {"roc_auc": 0.905, "a": 0.1, "b": 0.2, "c": 0.3, gain: -1.25}
    tree = {"candidate": "tree", "validation": {"roc_auc": 0.91}, "test": test}
    evaluation = EVALUATION | {"candidates": [tree], "dummy": {"test": dict.fromkeys(test, 0.5)}}
    intervals = {name: Interval(low=-2.0, high=0.5, confidence=0.95) for name in ("roc_auc", "a", gain)}
    decision = Decision(
        outcome="held",
        model="shop",
        reason="so",
        candidate="tree",
        metric="roc_auc",
        metrics=test,
        intervals=intervals,
        report=(gain,),
    )
    lines = [
        " ".join(line.strip("│ ").split())
        for line in rendered(decision, RunDetails(), evaluation=evaluation).splitlines()
    ]
    assert "ROC-AUC ROC-AUC gain a b" in lines
    assert "tree * 0.910 0.905 -1.250 0.100 0.200" in lines
    assert "95 % interval -2.000 to 0.500 -2.000 to 0.500" in lines


def test_numbers_of_many_metrics_with_intervals_are_complete_in_80_columns() -> None:
    names = ["average_precision", "brier", "log_loss", "f1", "recall"]
    test = dict.fromkeys(names, 0.5)
    intervals = {name: Interval(low=0.1234, high=0.8764, confidence=0.95) for name in names}
    candidate = {"candidate": "boosted_trees", "validation": test, "test": test}
    evaluation = EVALUATION | {"candidates": [candidate], "winner": "boosted_trees", "metric": "average_precision"}
    decision = Decision(
        outcome="held",
        model="shop",
        reason="so",
        candidate="boosted_trees",
        metric="average_precision",
        metrics=test,
        intervals=intervals,
        report=tuple(names[1:]),
    )
    text = rendered(decision, RunDetails(), width=80, evaluation=evaluation | {"dummy": {"test": test}})
    lines = [" ".join(line.strip("│ ").split()) for line in text.splitlines()]
    assert "95 % from 0.123 0.123 0.123 0.123 0.123" in lines
    assert "95 % to 0.876 0.876 0.876 0.876 0.876" in lines
    assert "…" not in text
