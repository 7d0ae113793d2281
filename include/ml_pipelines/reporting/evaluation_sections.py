"""The report's sections on the verdict and the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines.contracts import Decision
from ml_pipelines.reporting import plots
from ml_pipelines.reporting.components import mark, more, note, section, table
from ml_pipelines.reporting.formatting import NOTHING, direction, interval, metric_name, number
from ml_pipelines.reporting.html import Child, Html, clipped, element, join
from ml_pipelines.reporting.report_data import ReportData

__all__ = ["candidates_section", "metrics_section", "plots_section", "slices_section", "verdict_section"]

_SHOWN_RULES = 200
_SHOWN_CANDIDATES = 50
_SHOWN_SLICES = 200


def verdict_section(evidence: ReportData) -> Html | None:
    """Each rule of the gate, with what it asked for and found."""
    decision = evidence.decision
    if not decision.rules:
        return None
    rules = decision.rules[:_SHOWN_RULES]
    rows = [(rule.rule, mark(rule.passed), number(rule.value), number(rule.limit), rule.detail) for rule in rules]
    head = ("Rule", "Verdict", "Value", "Limit", "In words")
    guards = [note(f"Guard {name}: {number(value)}") for name, value in sorted(decision.guards.items())]
    return section(
        "rules", "Rules", table(head, rows, numbers=(2, 3)), more(len(rules), len(decision.rules), "rules"), *guards
    )


def candidates_section(evidence: ReportData) -> Html | None:
    """What was trained, and which one was chosen on the validation rows."""
    if not evidence.evaluation:
        return None
    metric = evidence.evaluation["metric"]
    every = evidence.evaluation["candidates"]
    trainings = {training["candidate"]: training for training in evidence.trainings}
    rows = [_candidate(each, metric, trainings.get(each["candidate"], {})) for each in every[:_SHOWN_CANDIDATES]]
    strong = next((place for place, each in enumerate(every) if each is evidence.winner), -1)
    head = (
        "Candidate",
        f"{metric_name(metric)}, validation",
        f"{metric_name(metric)}, test",
        "Estimator",
        "Parameters",
    )
    return section(
        "candidates",
        "Candidates",
        table(head, rows, numbers=(1, 2), strong=strong),
        note(
            "The best one on the validation rows is chosen; the test rows judge it. ",
            direction(metric).capitalize(),
            ".",
        ),
        more(len(rows), len(every), "candidates"),
    )


def _candidate(each: Mapping[str, Any], metric: str, training: Mapping[str, Any]) -> tuple[Child, ...]:
    told = training.get("params") or {}
    params = ", ".join(f"{name}={value}" for name, value in told.items())
    warned = training.get("warnings") or []
    cautions = [element("span", clipped(warning, 300), class_="caution") for warning in warned[:3]]
    name = join([clipped(each["candidate"]), *cautions])
    scores = (number(each["validation"].get(metric)), number(each["test"].get(metric)))
    return name, *scores, clipped(training.get("estimator", NOTHING)), clipped(params or NOTHING, 200)


def metrics_section(evidence: ReportData) -> Html | None:
    """All metrics of the candidate beside the champion and a model that learned nothing."""
    decision = evidence.decision
    if not decision.metrics:
        return None
    known = decision.champion_metrics
    head = ["Metric", "Candidate", *(["Champion"] if known else []), "Learned nothing", "Better is"]
    rows = [_metric(name, decision) for name in _ordered(decision)]
    compared = None if known or evidence.champion_version is None else decision.champion_error
    return section(
        "metrics",
        "Metrics on the test rows",
        _intervals(decision),
        table(head, rows, numbers=range(1, len(head) - 1), strong=0),
        _compared(decision),
        note(f"The champion could not be scored: {clipped(compared, 500)}") if compared else None,
    )


def _ordered(decision: Decision) -> list[str]:
    first = [decision.metric] if decision.metric in decision.metrics else []
    return list(dict.fromkeys([*filter(None, first), *decision.metrics]))


def _metric(name: str, decision: Decision) -> list[Child]:
    ours = _with_interval(decision.metrics[name], decision.intervals.get(name))
    theirs = _with_interval(decision.champion_metrics.get(name), decision.champion_intervals.get(name))
    middle = [theirs] if decision.champion_metrics else []
    return [
        metric_name(name),
        ours,
        *middle,
        number(decision.dummy_metrics.get(name)),
        direction(name).partition(" ")[0],
    ]


def _with_interval(value: float | None, found: Any) -> Html:
    below = [element("span", interval(found.model_dump()), class_="range")] if found else []
    return join([number(value), *below])


def _intervals(decision: Decision) -> Html | None:
    """The primary metric as a picture, if there is an interval to show."""
    metric = decision.metric
    told = {"Candidate": ("candidate", decision.metrics, decision.intervals)}
    told["Champion"] = ("champion", decision.champion_metrics, decision.champion_intervals)
    told["Learned nothing"] = ("dummy", decision.dummy_metrics, {})
    rows = [
        (label, kind, value, of[metric].model_dump() if metric in of else None)
        for label, (kind, values, of) in told.items()
        if metric is not None and (value := values.get(metric)) is not None
    ]
    if metric is None or metric not in decision.intervals:
        return None
    return plots.intervals(metric, rows, decision.intervals[metric].confidence)


def _compared(decision: Decision) -> Html | None:
    compared = decision.comparison
    if compared is None:
        return None
    lies = (
        f", {compared.interval.confidence:.0%} interval {interval(compared.interval.model_dump())}"
        if compared.interval
        else ""
    )
    return note(
        f"Candidate minus champion, signed so that positive is better: {compared.difference:+.4f}{lies}. "
        f"Paired bootstrap of {compared.draws:,} draws over the {compared.rows:,} rows that both have scored."
    )


def plots_section(evidence: ReportData) -> Html | None:
    """The winner's curves and confusion, or its residuals."""
    winner = evidence.winner
    if winner is None:
        return None
    drawn = plots.evaluated(winner, evidence.decision.dummy_metrics)
    if not drawn:
        return None
    title = f"Plots of {clipped(winner['candidate'])} on the test rows"
    return section("plots", title, element("div", *drawn.values(), class_="plots"))


def slices_section(evidence: ReportData) -> Html | None:
    """The primary metric on groups of rows."""
    found = _slices(evidence)
    metric = evidence.decision.metric or (evidence.evaluation or {}).get("metric")
    if not found or metric is None:
        return None
    champion = any(each["champion"] for each in found)
    head = ["Group", "Rows", metric_name(metric), *(["Champion"] if champion else [])]
    rows = [
        [
            f"{clipped(each['column'])} = {clipped(each['value'])}",
            f"{each['rows']:,}",
            number(each["metrics"].get(metric)),
            *([number(each["champion"].get(metric))] if champion else []),
        ]
        for each in found[:_SHOWN_SLICES]
    ]
    return section(
        "slices",
        "Groups of rows",
        table(head, rows, numbers=range(1, len(head))),
        note("Only groups with enough rows are measured. ", direction(metric).capitalize(), "."),
        more(len(rows), len(found), "groups"),
    )


def _slices(evidence: ReportData) -> list[dict[str, Any]]:
    """Those of the decision, which has the champion's too; else those of the evaluation."""
    if evidence.decision.slices:
        decided = evidence.decision.slices
        return [
            {"column": each.column, "value": each.value, "rows": each.rows}
            | {"metrics": each.metrics, "champion": each.champion_metrics}
            for each in decided
        ]
    evaluated = (evidence.winner or {}).get("slices") or []
    return [{**each, "value": each["level"], "champion": {}} for each in evaluated]
