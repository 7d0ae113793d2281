from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import pytest
from tests.html_document import Element, parse_html
from tests.step_values import step_values

from ml_pipelines.contracts import (
    CandidateFailure,
    Comparison,
    Decision,
    Finding,
    Identity,
    Interval,
    Outcome,
    RuleVerdict,
    SliceMetrics,
    StepResult,
)
from ml_pipelines.data.check_results import CheckResult, QualityReport
from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.ports import TaskRecord
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.reporting.rendering import content_security_policy, stylesheet
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.training_report import render_training_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\ud800"
SELECTION: dict[str, Any] = {"winner": "a", "best": "a", "scores": [], "reason": "a is the only candidate"}
INTERVAL = Interval(low=0.8, high=0.95, confidence=0.95)
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


def quality(*checks: CheckResult) -> QualityReport:
    return QualityReport(verdict="passed", rows=10, quarantined=2, checks=checks)


def report_data(name: str = "linear", outcome: Outcome = "promoted", **changes: Any) -> ReportData:
    """Return the data of a complete run, in which every text of users and tables is `name`."""
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
    fields: dict[str, Any] = {
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
            intervals={"roc_auc": INTERVAL},
            champion_intervals={"roc_auc": INTERVAL},
            comparison=Comparison(metric="roc_auc", difference=0.01, interval=INTERVAL, draws=2000, rows=120),
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
        "quality": quality(
            CheckResult(check=name, column=name, severity="warn", passed=False, detail=name),
            CheckResult(check=name, column=None, severity="error", passed=True, detail=name),
        ),
        "evaluation": {"metric": "roc_auc", "candidates": [best], "selection": SELECTION},
        "trainings": [training(name)],
        "champion_version": "3",
        "champion_training": training(name, {name: {"levels": {"a": 0.1, name: 0.9}, "missing": 0.0}, "gone": PROFILE}),
        "tasks": [TaskRecord(identity, result, datetime(2026, 11, 26, 20, 1, tzinfo=UTC))],
    }
    return ReportData(**{**fields, **changes})


def report(data: ReportData) -> Element:
    return parse_html(render_training_report(data))


def test_render_training_report_starts_with_the_decision_and_has_all_sections() -> None:
    document = report(report_data())
    assert document.one("h1").text == "Promoted"
    assert document.texts("h2") == [
        "Rules",
        "Data",
        "Rows",
        "Data quality",
        "Feature drift",
        "Candidates",
        "Metrics on the test set",
        "Plots of linear on the test set",
        "Metrics by group",
        "Feature importance",
        "Environment",
        "Steps",
    ]


@pytest.mark.parametrize(
    ("section", "facts"),
    [
        ("data", ["md5:linear", "1.2 kB"]),
        ("rows", ["80.0%"]),
        ("quality", ["1 of 2 checks passed", "warn"]),
        ("drift", ["1 of 2 features have drifted since the training of version 3", "large drift", "removed"]),
        ("candidates", ["linear did not converge", "C=1.0"]),
        ("metrics", ["0.8000 to 0.9500", "+0.0100", "2,000 draws"]),
        ("timings", ["1 min 01 s", "1 reused a result of the store"]),
    ],
)
def test_render_training_report_shows_the_results_of_a_section(section: str, facts: list[str]) -> None:
    text = report(report_data()).one("section", id=section).text
    assert [fact for fact in facts if fact not in text] == []


def test_render_training_report_shows_the_facts_of_the_run_in_its_header() -> None:
    text = report(report_data()).one("header").text
    assert [fact for fact in ("version 4", "version 3", "2026-11-26 20:01 UTC") if fact not in text] == []


def test_render_training_report_loads_nothing_and_runs_nothing() -> None:
    document = report(report_data())
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert forbidden.isdisjoint({element.tag for element in document.all()})
    for element in document.all():
        assert not [name for name in element.attributes if name.startswith("on") or name in ("style", "src")]
    assert [(link.tag, link.attributes["href"]) for link in document.all() if "href" in link.attributes] == [
        ("a", "https://airflow.example/dags/a/runs/b")
    ]
    assert "url(" not in stylesheet()
    assert "@import" not in stylesheet()


def test_render_training_report_allows_only_its_own_style_sheet() -> None:
    document = report(report_data())
    policy = document.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy == content_security_policy()
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_render_training_report_escapes_all_texts_from_outside() -> None:
    page = render_training_report(report_data(HOSTILE))
    document = parse_html(page)
    assert {"script", "img"}.isdisjoint({element.tag for element in document.all()})
    assert "alert(1)" in document.text
    assert "\x00" not in page
    page.encode()  # fails for a lone surrogate


def test_render_training_report_shows_invisible_characters() -> None:
    page = render_training_report(report_data("\u202e \x1b[31m \u200b"))
    assert not set("\u202e\x1b\u200b") & set(page)
    assert "\\u202e \\x1b[31m \\u200b" in parse_html(page).text


def test_render_training_report_lists_the_findings_at_its_top() -> None:
    findings = tuple(
        Finding(check="leakage", column=HOSTILE, severity=severity, detail=f"about {HOSTILE}", remedy=f"fix {HOSTILE}")
        for severity in ("warn", "hold")
    )
    data = report_data()
    document = report(report_data(decision=data.decision.model_copy(update={"findings": findings[::-1]})))
    (listed,) = [element for element in document.one("header").all("ul") if "findings" in element.classes]
    assert [item.text.split()[0] for item in listed.all("li")] == ["hold", "warn"]
    assert all("Remedy: fix" in item.text for item in listed.all("li"))
    assert report(data).one("header").all("ul") == []


def test_render_training_report_folds_many_warnings_and_no_severe_finding() -> None:
    findings = tuple(
        Finding(check=str(number), severity=severity, detail="d")
        for severity, count in (("hold", 7), ("warn", 5))
        for number in range(count)
    )
    document = report(report_data(decision=report_data().decision.model_copy(update={"findings": findings})))
    shown, folded = (element.texts("li") for element in document.one("header").all("ul"))
    assert [len(shown), len(folded)] == [7, 5]
    assert document.one("header").texts("summary") == ["5 more warnings"]


def test_render_training_report_shows_the_remedy_of_a_failed_check() -> None:
    check = CheckResult(check="missing", column="x", severity="warn", passed=False, detail="d", remedy="do this")
    assert "do this" in report(report_data(quality=quality(check))).one("section", id="quality").text


def test_render_training_report_does_not_link_to_a_script() -> None:
    identity = Identity(pipeline="p", run_id="r", task_id="t", run_url="javascript:alert(1)")
    assert not report(report_data(identity=identity)).one("header").all("a")


def test_render_training_report_is_deterministic() -> None:
    assert render_training_report(report_data()) == render_training_report(report_data())
    assert render_training_report(report_data()) != render_training_report(report_data("tree"))


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_render_training_report_covers_every_outcome_with_and_without_results(outcome: Outcome) -> None:
    assert report(report_data(outcome=outcome)).all("h2")
    decision = Decision(outcome=outcome, model="churn", reason="so")
    short = report(ReportData(identity=Identity(pipeline="p", run_id="r", task_id="t"), decision=decision))
    assert "no model" in short.one("header").text
    assert not short.all("h2")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"champion_version": None}, "there is no champion to compare with"),
        ({"champion_missing": "the record is gone"}, "the record is gone"),
    ],
    ids=["no champion", "no record"],
)
def test_render_training_report_gives_the_reason_for_missing_drift(changes: dict[str, Any], reason: str) -> None:
    text = report(report_data(champion_training=None, **changes)).one("section", id="drift").text
    assert f"Not measured: {reason}." in text


def test_render_training_report_shows_the_error_of_the_champions_evaluation() -> None:
    changes = {"champion_metrics": {}, "champion_error": "it lacks a column"}
    decision = report_data().decision.model_copy(update=changes)
    assert "it lacks a column" in report(report_data(decision=decision)).one("section", id="metrics").text


def test_render_training_report_shows_a_dash_for_a_metric_without_value() -> None:
    one_class = candidate("linear", truth=np.zeros(120, dtype=int))
    decision = report_data().decision.model_copy(update={"metrics": one_class["test"], "intervals": {}})
    document = report(
        report_data(
            decision=decision, evaluation={"metric": "roc_auc", "candidates": [one_class], "selection": SELECTION}
        )
    )
    assert document.one("section", id="plots").texts("figcaption") == ["Confusion matrix"]
    assert "\N{EN DASH}" in document.one("section", id="metrics").texts("td")


@pytest.mark.parametrize(
    ("target", "truth", "score", "titles"),
    [
        (TargetSchema("regression"), np.arange(50.0), np.arange(50.0) + 1, ["Residuals"]),
        (TargetSchema("regression"), np.ones(50), np.ones(50), ["Residuals"]),
        (TargetSchema("classification", tuple("abcdefghijklmnop")), np.arange(16), np.eye(16), ["Confusion matrix"]),
    ],
    ids=["regression", "constant", "many classes"],
)
def test_render_training_report_draws_the_plots_of_the_task(
    target: TargetSchema, truth: Any, score: Any, titles: list[str]
) -> None:
    best = candidate("linear", target, truth, score)
    document = report(report_data(evaluation={"metric": "rmse", "candidates": [best], "selection": SELECTION}))
    assert document.one("section", id="plots").texts("figcaption") == titles


def test_render_training_report_gives_every_plot_a_title_axes_and_a_text_alternative() -> None:
    document = report(report_data())
    drawings = document.all("svg")
    assert len(drawings) == 6
    ids = [element.attributes["id"] for element in document.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        named = (drawing.attributes["aria-labelledby"] or "").split()
        assert [drawing.one("title").attributes["id"], drawing.one("desc").attributes["id"]] == named
        assert drawing.one("title").text
        assert drawing.one("desc").text
        assert all(drawing.texts("text", **{"class": "label"}))


def test_render_training_report_of_a_thousand_columns_stays_below_two_megabytes() -> None:
    names = [f"a column with a rather long name, number {number}" * 3 for number in range(1000)]
    profile = {name: {"levels": {f"{name} {level}": 0.05 for level in range(20)}, "missing": 0.0} for name in names}
    checks = [
        CheckResult(check="missing", column=name, severity="error", passed=index % 2 == 0, detail=name * 20)
        for index, name in enumerate(names)
    ]
    wide = training("linear", profile) | {"importances": dict.fromkeys(names, 0.1)}
    slices = [{"column": name, "level": name, "rows": 60, "metrics": {"roc_auc": 0.9}} for name in names]
    best = candidate("linear") | {"slices": slices}
    page = render_training_report(
        report_data(
            decision=report_data().decision.model_copy(update={"slices": ()}),
            quality=quality(*checks),
            trainings=[wide],
            champion_training=wide,
            evaluation={"metric": "roc_auc", "candidates": [best], "selection": SELECTION},
        )
    )
    assert len(page.encode()) < 2_000_000
    text = parse_html(page).text
    hidden = ("300 more failed checks", "900 more features", "800 more groups")
    assert [note for note in hidden if note not in text] == []


def test_a_candidate_that_failed_is_a_row_of_the_candidates_with_its_error() -> None:
    failure = CandidateFailure(candidate=HOSTILE, task="train_model", error=HOSTILE)
    data = report_data()
    page = render_training_report(replace(data, decision=data.decision.model_copy(update={"failures": (failure,)})))
    assert "failed" in page
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 2


def test_the_report_shows_the_threshold_with_its_scores() -> None:
    data = report_data()
    tuned = {"value": 0.31, "objective": "f1", "rows": 90, "score": 0.61, "default_score": 0.52, "problem": None}
    changed = replace(
        data,
        decision=data.decision.model_copy(update={"threshold": 0.31}),
        trainings=[{**training("linear"), "threshold": tuned}],
    )
    text = render_training_report(changed)
    assert "0.31 of the probability" in text
    assert "threshold 0.31; f1: 0.6100 on the validation rows, 0.5200 at 0.5" in text
    assert "of the probability" not in render_training_report(data)
