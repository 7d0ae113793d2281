from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.step_values import step_values

from ml_pipelines.contracts import (
    Comparison,
    Decision,
    Identity,
    Interval,
    Outcome,
    RuleVerdict,
    RunDetails,
    SliceMetrics,
    StepResult,
)
from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.ports import TaskRecord
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.training_report import policy, render, style

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\ud800"
NINETY_FIVE = Interval(low=0.8, high=0.95, confidence=0.95)
BINARY = TargetSchema("classification", ("good", "bad"), "bad")
TRUTH = np.array([0, 1] * 60)
SCORE = np.random.default_rng(0).random(120) * 0.5 + TRUTH * 0.4
PROFILE = {"levels": {"a": 0.7, "b": 0.3}, "missing": 0.0}


def candidate(name: str, target: TargetSchema = BINARY, truth: Any = TRUTH, score: Any = SCORE) -> dict[str, Any]:
    metrics = compute_metrics(target, truth, score)
    level = {"column": "plan", "level": "yes", "rows": 60, "metrics": metrics}
    described = curves_and_confusion(target, truth, score)
    return {"candidate": name, "validation": metrics, "test": metrics, "slices": [level], **described}


def training(name: str, profile: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "candidate": name,
        "estimator": "sklearn.linear_model.LogisticRegression",
        "params": {"C": 1.0},
        "profile": profile or {name: PROFILE},
        "importances": {name: 0.2, "other": -0.01},
        "requirements": [f"{name}==1.0"],
        "warnings": [f"{name} did not converge"],
    }


def evidence(name: str = "linear", outcome: Outcome = "promoted", **changes: Any) -> ReportData:
    """A whole run; everything that a person or a table may name is called `name`."""
    best = candidate(name)
    identity = Identity(pipeline=name, run_id=name, task_id=name, run_url="https://airflow.example/dags/a/runs/b")
    result = StepResult(
        step="train",
        key="0" * 64,
        status="cached",
        reason=name,
        values=step_values("train", candidate=name),
        seconds=61,
    )
    told: dict[str, Any] = {
        "identity": identity,
        "decision": Decision(
            outcome=outcome,
            model=name,
            candidate=name,
            candidate_index=0,
            reason=name,
            metric="roc_auc",
            metrics=best["test"],
            champion_metrics=best["test"],
            dummy_metrics={"roc_auc": 0.5, "average_precision": 0.2},
            rules=(RuleVerdict(rule=name, passed=True, value=0.9, limit=0.8, detail=name),),
            champion_version="3",
            intervals={"roc_auc": NINETY_FIVE},
            champion_intervals={"roc_auc": NINETY_FIVE},
            comparison=Comparison(metric="roc_auc", difference=0.01, interval=NINETY_FIVE, draws=2000, rows=120),
            slices=(SliceMetrics(column=name, value=name, rows=60, metrics={"roc_auc": 0.9}),),
            guards={name: 12.5},
        ),
        "details": RunDetails.model_validate(
            {
                "version": "4",
                "previous_version": "3",
                "approver": name,
                "pin": {"source": "dvc", "location": name, "revision": name, "digest": f"md5:{name}", "bytes": 1234},
                "fingerprint": {"data": name},
                "rows": {"rows_in": 10, "kept": 8, "quarantined": 2, "quarantined_by_reason": {name: 2}},
                "parts": {"train": 5, "validation": 1, "test": 2},
            }
        ),
        "quality": {
            "checks": [
                {"check": name, "column": name, "severity": "warn", "passed": False, "detail": name},
                {"check": name, "column": None, "severity": "error", "passed": True, "detail": name},
            ]
        },
        "evaluation": {"metric": "roc_auc", "candidates": [best]},
        "trainings": [training(name)],
        "champion_version": "3",
        "champion_training": training(name, {name: {"levels": {"a": 0.1, name: 0.9}, "missing": 0.0}, "gone": PROFILE}),
        "tasks": [TaskRecord(identity, result, datetime(2026, 11, 26, 20, 1, tzinfo=UTC))],
    }
    return ReportData(**{**told, **changes})


class Tags(HTMLParser):
    """Collects the tags, and checks that they are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_verdict_comes_first_then_what_it_rests_on() -> None:
    page = render(evidence())
    assert page.index("Promoted</span>") < page.index("<h2>Rules</h2>")
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Rules",
        "Data",
        "Rows",
        "Quality of the data",
        "Drift of the features",
        "Candidates",
        "Metrics on the test rows",
        "Plots of linear on the test rows",
        "Groups of rows",
        "Features that matter",
        "Environment",
        "Steps",
    ]


def test_what_is_known_is_on_the_page() -> None:
    page = render(evidence())
    for told in (
        "version 4",
        "95%: 0.8000 to 0.9500",
        "+0.0100",
        "2,000 draws",
        "1 of 2 checks passed",
        "md5:linear",
        "80.0%",
        "1 min 01 s",
        "1 found their result in the store",
        "1 of 2 features have moved since version 3",
        "shifted",
        "gone",
        "linear did not converge",
        "2026-11-26 20:01 UTC",
    ):
        assert told in page, told


def test_it_loads_nothing_and_runs_nothing() -> None:
    page = render(evidence())
    tags = Tags(page).found
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "base"})
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
        if "href" in attributes:
            assert (tag, attributes["href"]) == ("a", "https://airflow.example/dags/a/runs/b")
    assert "url(" not in style()
    assert "@import" not in style()
    policies = [told["content"] for tag, told in tags if told.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [policy()]
    assert policy().startswith("default-src 'none'; style-src 'sha256-")


def test_what_people_named_is_escaped_wherever_it_is_shown() -> None:
    page = render(evidence(EVIL))
    tags = Tags(page).found
    assert {tag for tag, _ in tags}.isdisjoint({"script", "img"})
    assert "alert(1)" in page
    assert "\x00" not in page
    page.encode()  # a lone surrogate could not be written


def test_a_run_url_that_is_a_script_is_no_link() -> None:
    identity = Identity(pipeline="p", run_id="r", task_id="t", run_url="javascript:alert(1)")
    assert "javascript:" not in render(evidence(identity=identity))


def test_the_same_evidence_gives_the_same_bytes() -> None:
    assert render(evidence()) == render(evidence())
    assert render(evidence()) != render(evidence("tree"))


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome_has_a_report_also_of_a_run_that_ended_early(outcome: Outcome) -> None:
    Tags(render(evidence(outcome=outcome)))
    decision = Decision(outcome=outcome, model="churn", reason="so")
    short = render(ReportData(identity=Identity(pipeline="p", run_id="r", task_id="t"), decision=decision))
    Tags(short)
    assert "no model" in short
    assert "<h2>" not in short


def test_why_drift_was_not_measured() -> None:
    first = render(evidence(champion_version=None, champion_training=None))
    assert "Not measured: there is no champion to compare with." in first
    missing = render(evidence(champion_training=None, champion_missing="the record is gone"))
    assert "Not measured: the record is gone." in missing


def test_a_champion_that_could_not_be_scored_is_told() -> None:
    decision = evidence().decision.model_copy(update={"champion_metrics": {}, "champion_error": "it lacks a column"})
    assert "The champion could not be scored: it lacks a column" in render(evidence(decision=decision))


def test_metrics_that_could_not_be_measured() -> None:
    one_class = candidate("linear", truth=np.zeros(120, dtype=int))
    decision = evidence().decision.model_copy(update={"metrics": one_class["test"], "intervals": {}})
    page = render(evidence(decision=decision, evaluation={"metric": "roc_auc", "candidates": [one_class]}))
    assert "ROC curve" not in page
    assert "Confusion" in page
    assert "\N{EN DASH}" in page


@pytest.mark.parametrize(
    ("target", "truth", "score", "shown"),
    [
        (TargetSchema("regression"), np.arange(50.0), np.arange(50.0) + 1, {"Residuals"}),
        (TargetSchema("regression"), np.ones(50), np.ones(50), {"Residuals"}),
        (TargetSchema("classification", tuple("abcdefghijklmnop")), np.arange(16), np.eye(16), {"Confusion"}),
    ],
    ids=["numbers", "constant", "many classes"],
)
def test_other_tasks_have_other_plots(target: TargetSchema, truth: Any, score: Any, shown: set[str]) -> None:
    best = candidate("linear", target, truth, score)
    page = render(evidence(evaluation={"metric": "rmse", "candidates": [best]}))
    plots = page[page.index("Plots of") : page.index("Features that matter")]
    assert set(re.findall("<figcaption>(.*?)</figcaption>", plots)) == shown
    Tags(page)


def test_every_plot_has_a_title_axes_and_a_text_alternative() -> None:
    page = render(evidence())
    drawings = re.findall("<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 6
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)  # noqa: S314  our own page
        named = root.attrib["aria-labelledby"].split()
        assert [child.attrib["id"] for child in root[:2]] == named
        assert all(child.text for child in root[:2])
        assert [label for label in root.iter("text") if label.attrib["class"] == "label" and label.text]


def test_a_table_of_a_thousand_columns_stays_below_two_megabytes() -> None:
    names = [f"a column with a rather long name, number {number}" * 3 for number in range(1000)]
    profile = {name: {"levels": {f"{name} {level}": 0.05 for level in range(20)}, "missing": 0.0} for name in names}
    checks = [
        {"check": "missing", "column": name, "severity": "error", "passed": index % 2 == 0, "detail": name * 20}
        for index, name in enumerate(names)
    ]
    wide = training("linear", profile) | {"importances": dict.fromkeys(names, 0.1)}
    slices = [{"column": name, "level": name, "rows": 60, "metrics": {"roc_auc": 0.9}} for name in names]
    best = candidate("linear") | {"slices": slices}
    decision = evidence().decision.model_copy(update={"slices": ()})
    page = render(
        evidence(
            decision=decision,
            quality={"checks": checks},
            trainings=[wide],
            champion_training=wide,
            evaluation={"metric": "roc_auc", "candidates": [best]},
        )
    )
    assert len(page.encode()) < 2_000_000
    for told in ("300 more checks that failed", "900 more features", "800 more groups"):
        assert told in page
