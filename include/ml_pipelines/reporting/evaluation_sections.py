"""The sections of a report on the decision and on the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_pipelines.contracts import CandidateFailure, Decision, Interval
from ml_pipelines.reporting.components import (
    Annotated,
    Cell,
    Figures,
    Section,
    Table,
    Text,
    note,
    remaining,
    section,
    verdict_badge,
)
from ml_pipelines.reporting.formatting import (
    NO_VALUE,
    clip,
    format_count,
    format_interval,
    format_number,
    format_threshold,
    metric_direction,
    metric_name,
)
from ml_pipelines.reporting.plots import ModelInterval, evaluation_figures, interval_plot
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.svg import Figure

__all__ = ["candidates_section", "metrics_section", "plots_section", "rules_section", "slices_section"]

_MAX_RULES = 200
_MAX_CANDIDATES = 50
_MAX_SLICES = 200
_MAX_WARNINGS = 3
_REFIT = (
    "The validation values are those of models that were fitted on the training rows. All candidates were then fitted "
    "again on the training and validation rows, and the test values are those of these models. "
)
_CANDIDATE_HEAD = ("Candidate", "Validation", "Standard error", "Worse than the best", "Standard error", "Test")


def rules_section(data: ReportData) -> Section | None:
    """Return the section on the rules of the gate, with limits and measured values."""
    decision = data.decision
    if not decision.rules:
        return None
    rules = decision.rules[:_MAX_RULES]
    rows: list[list[Cell]] = [
        [rule.rule, verdict_badge(rule.passed), format_number(rule.value), format_number(rule.limit), rule.detail]
        for rule in rules
    ]
    head = ("Rule", "Verdict", "Value", "Limit", "Explanation")
    guards = [note(f"Guard {name}: {format_number(value)}") for name, value in sorted(decision.guards.items())]
    hidden = remaining(len(rules), len(decision.rules), "rules")
    return section("rules", "Rules", Table(head=head, rows=rows, numeric=(2, 3)), hidden, *guards)


def candidates_section(data: ReportData) -> Section | None:
    """Return the section on the trained candidates and the choice among them."""
    if not data.evaluation:
        return None
    metric, candidates = data.evaluation["metric"], data.evaluation["candidates"]
    trainings = {training["candidate"]: training for training in data.trainings}
    shown, failed = candidates[:_MAX_CANDIDATES], data.decision.failures[:_MAX_CANDIDATES]
    name, selection = metric_name(metric), data.evaluation["selection"]
    scores = {score["candidate"]: score for score in selection["scores"]}
    rows: list[list[Cell]] = [
        *(
            _candidate_row(entry, metric, trainings.get(entry["candidate"], {}), scores.get(entry["candidate"], {}))
            for entry in shown
        ),
        *(_failed_row(failure) for failure in failed),
    ]
    winner = next((position for position, entry in enumerate(candidates) if entry is data.winner), -1)
    table = Table(head=_CANDIDATE_HEAD, rows=rows, numeric=(1, 2, 3, 4, 5), highlighted=winner)
    names = [*(entry["candidate"] for entry in shown), *(failure.candidate for failure in failed)]
    declared = [[clip(candidate), *_declared(trainings.get(candidate, {}))] for candidate in names]
    estimators = Table(head=("Candidate", "Estimator", "Parameters"), rows=declared, highlighted=winner)
    explanation = note(
        f"{name} on the validation and test rows. {selection['reason']}. The simplest candidate within one standard "
        "error of the best on the validation rows is selected. Candidates are in the order of the declaration, the "
        "simplest first. "
        f"{_REFIT if _is_refit(data.training) else ''}"
        f"{metric_direction(metric).capitalize()}."
    )
    hidden = remaining(len(shown), len(candidates), "candidates")
    return section("candidates", "Candidates", table, explanation, estimators, hidden)


def _is_refit(training: Mapping[str, Any] | None) -> bool:
    return bool((training or {}).get("split", {}).get("refit"))


def _failed_row(failure: CandidateFailure) -> list[Cell]:
    return [Annotated(clip(failure.candidate), [clip(failure.error, 500)], "caution"), "failed", *[NO_VALUE] * 4]


def _candidate_row(
    entry: Mapping[str, Any], metric: str, training: Mapping[str, Any], score: Mapping[str, Any]
) -> list[Cell]:
    warnings = [clip(warning, 300) for warning in (training.get("warnings") or [])[:_MAX_WARNINGS]]
    return [
        Annotated(clip(entry["candidate"]), warnings, "caution"),
        format_number(entry["validation"].get(metric)),
        *(format_number(score.get(name)) for name in ("standard_error", "gap", "gap_error")),
        format_number(entry["test"].get(metric)),
    ]


def _declared(training: Mapping[str, Any]) -> list[Cell]:
    """Return the estimator and the parameters of a candidate."""
    parameters = ", ".join(f"{name}={value}" for name, value in (training.get("params") or {}).items())
    shown, tuned = clip(parameters or NO_VALUE, 200), _threshold(training.get("threshold"))
    return [clip(training.get("estimator", NO_VALUE)), Annotated(shown, [tuned], "range") if tuned else shown]


def _threshold(tuned: Mapping[str, Any] | None) -> str:
    """Return the tuned threshold of a candidate with its score on the validation rows; empty without one."""
    if not tuned:
        return ""
    scores = f"{format_number(tuned['score'])} on the validation rows, {format_number(tuned['default_score'])} at 0.5"
    return f"threshold {format_threshold(tuned['value'])}; {clip(tuned['objective'], 100)}: {scores}"


@dataclass(frozen=True, slots=True)
class _Model:
    """A model in the comparison. `series` is a class of the style sheet."""

    label: str
    series: str
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]

    def cell(self, metric: str) -> Cell:
        """Return a metric with its interval."""
        value = format_number(self.metrics.get(metric))
        interval = self.intervals.get(metric)
        return Annotated(value, [format_interval(interval)], "range") if interval else value


def _models(decision: Decision) -> list[_Model]:
    candidate = _Model("Candidate", "candidate", decision.metrics, decision.intervals)
    champion = _Model("Champion", "champion", decision.champion_metrics, decision.champion_intervals)
    dummy = _Model("Dummy baseline", "dummy", decision.dummy_metrics, {})
    return [candidate, *([champion] if decision.champion_metrics else []), dummy]


def metrics_section(data: ReportData) -> Section | None:
    """Return the section on all metrics of the candidate, the champion and the dummy baseline."""
    decision = data.decision
    if not decision.metrics:
        return None
    models = _models(decision)
    rows = [
        [metric_name(name), *(model.cell(name) for model in models), metric_direction(name).partition(" ")[0]]
        for name in _primary_first(decision)
    ]
    head = ["Metric", *(model.label for model in models), "Better is"]
    return section(
        "metrics",
        "Metrics on the test set",
        _interval_figure(decision, models),
        Table(head=head, rows=rows, numeric=range(1, len(head) - 1), highlighted=0),
        _comparison_note(decision),
        _champion_error(data),
    )


def _primary_first(decision: Decision) -> list[str]:
    primary = [decision.metric] if decision.metric and decision.metric in decision.metrics else []
    return list(dict.fromkeys([*primary, *decision.report, *decision.metrics]))


def _champion_error(data: ReportData) -> Text | None:
    decision = data.decision
    if decision.champion_metrics or data.champion_version is None or not decision.champion_error:
        return None
    return note(f"The champion could not be evaluated: {clip(decision.champion_error, 500)}")


def _interval_figure(decision: Decision, models: Sequence[_Model]) -> Figure | None:
    metric = decision.metric
    if metric is None or metric not in decision.intervals:
        return None
    rows = [
        ModelInterval(model.label, model.series, value, model.intervals.get(metric))
        for model in models
        if (value := model.metrics.get(metric)) is not None
    ]
    return interval_plot(metric, rows, decision.intervals[metric].confidence)


def _comparison_note(decision: Decision) -> Text | None:
    comparison = decision.comparison
    if comparison is None:
        return None
    interval = comparison.interval
    bounds = f" ({interval.confidence:.0%} interval {format_interval(interval)})" if interval else ""
    return note(
        f"Difference between candidate and champion, positive if the candidate is better: {comparison.difference:+.4f}"
        f"{bounds}. Paired bootstrap with {format_count(comparison.draws)} draws over "
        f"{format_count(comparison.rows)} rows."
    )


def plots_section(data: ReportData) -> Section | None:
    """Return the section with the curves and the confusion matrix, or the residuals, of the selected candidate."""
    winner = data.winner
    figures = evaluation_figures(winner, data.decision.dummy_metrics) if winner else {}
    if not winner or not figures:
        return None
    title = f"Plots of {clip(winner['candidate'])} on the test set"
    return section("plots", title, Figures(list(figures.values())))


@dataclass(frozen=True, slots=True)
class _Slice:
    label: str
    rows: int
    metrics: Mapping[str, float | None]
    champion_metrics: Mapping[str, float | None]


def slices_section(data: ReportData) -> Section | None:
    """Return the section on the primary metric in groups of rows."""
    slices = _slices(data)
    metric = data.decision.metric or (data.evaluation or {}).get("metric")
    if not slices or metric is None:
        return None
    with_champion = any(entry.champion_metrics for entry in slices)
    shown = slices[:_MAX_SLICES]
    head = ["Group", "Rows", metric_name(metric), *(["Champion"] if with_champion else [])]
    rows: list[list[Cell]] = [
        [
            entry.label,
            format_count(entry.rows),
            format_number(entry.metrics.get(metric)),
            *([format_number(entry.champion_metrics.get(metric))] if with_champion else []),
        ]
        for entry in shown
    ]
    return section(
        "slices",
        "Metrics by group",
        Table(head=head, rows=rows, numeric=range(1, len(head))),
        note(f"Groups with too few rows are not evaluated. {metric_direction(metric).capitalize()}."),
        remaining(len(shown), len(slices), "groups"),
    )


def _slices(data: ReportData) -> list[_Slice]:
    """Return the groups of the decision, which include the champion's metrics, or those of the evaluation."""
    if data.decision.slices:
        return [
            _Slice(f"{clip(entry.column)} = {clip(entry.value)}", entry.rows, entry.metrics, entry.champion_metrics)
            for entry in data.decision.slices
        ]
    return [
        _Slice(f"{clip(entry['column'])} = {clip(entry['level'])}", entry["rows"], entry["metrics"], {})
        for entry in (data.winner or {}).get("slices") or []
    ]
