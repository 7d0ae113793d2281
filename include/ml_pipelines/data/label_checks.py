"""The checks of the target: the labels of a classification with their shares and the positive one, or numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from ml_pipelines._utils.yaml_quoting import quote_yaml
from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.class_labels import (
    Label,
    LabelCounts,
    default_positive,
    is_ordinary,
    match_label,
    similar_labels,
)
from ml_pipelines.data.column_expressions import column, missing_cell
from ml_pipelines.data.rule_violations import format_value
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.spec.checks import LabelsCheck, Severity

__all__ = ["check_labels", "check_numbers", "label_list"]

_MAX_LISTED = 12
_LABELS_FIX = "Check the query or filter that produced the data: a model can't learn from it."
_NUMBERS_FIX = (
    "Set `model: {{task: classification}}`, or declare `data: {{columns: {{{target}: {{type: float}}}}}}`, "
    "which reports the cells that are not numbers."
)


def check_labels(
    counts: LabelCounts | None, target: str, positive: Label | None, check: LabelsCheck
) -> Iterator[CheckResult]:
    """Check the labels of the rows that are not in quarantine.

    Args:
        counts: rows by label, the rarest first; None if the target does not hold labels.
        target: name of the target column.
        positive: the declared positive label.
        check: the smallest share of the rarest label.
    """
    if counts is None:
        detail = f"the target {target} holds no labels, which are texts, booleans or whole numbers"
        remedy = "Set `model: {task: regression}`, or name another target."
        yield _failed("labels", target, "error", detail, remedy)
        return
    if len(counts) < 2:
        classes = f"only the class {format_value(next(iter(counts)))}" if counts else "no class"
        result = _failed("labels", target, "error", f"the target {target} has {classes}", _LABELS_FIX)
        yield result.model_copy(update={"value": len(counts), "limit": 2})
        return
    yield _shares(counts, target, check)
    yield from _positive(counts, target, positive)
    yield from _similar(counts, target)


def check_numbers(table: pl.LazyFrame, target: str) -> CheckResult:
    """Check that the target of a regression holds different numbers in the rows that are not in quarantine."""
    dtype = table.collect_schema()[target]
    present = table.filter(~missing_cell(target, dtype)).select(column(target).alias("target"))
    varies = bool(aggregate(present.select(pl.col("target").min() < pl.col("target").max())).item())
    number = dtype.is_numeric() or dtype == pl.Boolean
    if varies and not number:
        text, remedy = f"is of type {dtype}, and a regression needs numbers", _NUMBERS_FIX
    else:
        text, remedy = ("varies", "") if varies else ("has fewer than two values", _LABELS_FIX)
    return CheckResult(
        check="labels",
        column=target,
        severity="error",
        passed=varies and number,
        detail=f"the target {target} {text}",
        remedy=remedy.format(target=quote_yaml(target)),
    )


def label_list(counts: LabelCounts) -> str:
    """Return the labels with their rows, the most frequent first."""
    ordered = [*counts.items()][::-1]
    texts = [f"{format_value(label)} ({rows} rows)" for label, rows in ordered[:_MAX_LISTED]]
    more = len(ordered) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")


def _shares(counts: LabelCounts, target: str, check: LabelsCheck) -> CheckResult:
    rarest, rows = next(iter(counts.items()))
    share = rows / sum(counts.values())
    passed = share >= check.min_share
    remedy = "Collect more rows of it, merge it into another class, or lower `checks.labels.min_share`."
    return CheckResult(
        check="labels",
        column=target,
        severity=check.on_fail,
        passed=passed,
        detail=(
            f"the rarest of {len(counts)} classes is {format_value(rarest)} with {rows} rows "
            f"({share:.2%}); expected are at least {check.min_share:.2%}"
        ),
        remedy="" if passed else remedy,
        value=share,
        limit=check.min_share,
    )


def _positive(counts: LabelCounts, target: str, declared: Label | None) -> Iterator[CheckResult]:
    if declared is None:
        if (label := default_positive(counts)) is not None and not is_ordinary(counts):
            detail = (
                f"no positive label is declared, so the rarer label {format_value(label)} is it: {label_list(counts)}"
            )
            yield _failed("positive", target, "warn", detail, f"Declare it: `data: {{positive: {_yaml(label)}}}`.")
        return
    match = match_label(declared, counts)
    if match is not None and len(counts) == 2:
        return
    if match is None:
        detail = f"the positive label {format_value(declared)} is no label of {target}: {label_list(counts)}"
        remedy = f"Set `data: {{positive: {_yaml(_nearest(declared, counts))}}}`, or another label of the list."
    else:
        detail = f"a positive label needs two labels, and {target} has {len(counts)}: {label_list(counts)}"
        remedy = _two_labels(counts, target, match)
    yield _failed("positive", target, "error", detail, remedy)


def _nearest(declared: Label, counts: LabelCounts) -> Label:
    """Return the label with a similar spelling, or else the one that would be the default."""
    groups = similar_labels([str(declared), *counts])
    similar = [label for group in groups if str(declared) in group for label in group if label in counts]
    return next(iter(similar), default_positive(counts) or next(iter(counts)))


def _two_labels(counts: LabelCounts, target: str, positive: Label) -> str:
    similar = [label for group in similar_labels(counts) for label in group]
    others = [label for label in [*counts][::-1] if label != positive and label not in similar]
    others = others or [label for label in [*counts][::-1] if label != positive]
    allowed = ", ".join(map(_yaml, (others[0], positive)))
    kind = "string" if isinstance(positive, str) else "integer"
    hint = f"{_differences(similar_labels(counts))}: correct them at the source. " if similar else ""
    column = f"{quote_yaml(target)}: {{type: {kind}, allowed: [{allowed}], on_fail: quarantine}}"
    return (
        f"{hint}To send the rows of other labels to quarantine: `data: {{columns: {{{column}}}}}`. "
        "For several classes, remove `data.positive`."
    )


def _similar(counts: LabelCounts, target: str) -> Iterator[CheckResult]:
    """Report labels that are probably the same; hold the model if there are two labels without them."""
    groups = similar_labels(counts)
    if not groups:
        return
    labels = len(counts) - sum(len(group) - 1 for group in groups)
    severity: Severity = "hold" if labels <= 2 else "warn"
    detail = f"{_differences(groups)} in {target}: {label_list(counts)}"
    remedy = "Correct them at the source, so that each class has one label."
    yield _failed("similar_labels", target, severity, detail, remedy)


def _differences(groups: Sequence[Sequence[Label]]) -> str:
    pairs = "; ".join(" and ".join(map(format_value, group)) for group in groups[:3])
    return f"Labels differ only in case, blanks or dots ({pairs})"


def _yaml(label: Label) -> str:
    return quote_yaml(label) if isinstance(label, str) else str(label).lower()


def _failed(check: str, column: str, severity: Severity, detail: str, remedy: str) -> CheckResult:
    return CheckResult(check=check, column=column, severity=severity, passed=False, detail=detail, remedy=remedy)
