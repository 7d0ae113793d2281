"""Choose the content of a first declaration from the quality report of its data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.class_labels import LabelCounts, default_positive
from ml_pipelines.data.column_findings import is_id_name
from ml_pipelines.data.rule_violations import format_value
from ml_pipelines.errors import DataError
from ml_pipelines.scaffolding.inspection import Inspection, Table
from ml_pipelines.spec.checks import Checks
from ml_pipelines.spec.metric_table import Task

__all__ = ["Choice", "Choices", "Split", "choose", "choose_task", "possible_splits"]

MAX_LISTED_COLUMNS = 200
"""A wider table keeps its inferred types, so that the declaration stays readable."""
LONGEST_NAME = 200
"""Longer names are no keys of YAML in one line, so their types are not listed."""

_MAX_NUMBER_LABELS = 20
_MIN_ROWS_PER_LABEL = 10
_MAX_ALLOWED = 20
_RARE = 0.2
_HASH_LABEL_ROWS = 100
_DEFAULTS = Checks()
_KEEP_LEAK = ". If it is known before the outcome, remove this line and set `checks: {leakage: {on_fail: warn}}`"
_NOT_AN_ORDER = re.compile(r"birth|born|geburt|naissance|expir|(?<![a-z])(dob|due|until)(?![a-z])", re.I)


class Choice(NamedTuple):
    """One choice: the key of the declaration, its value, and the reason."""

    key: str
    value: str
    reason: str


class Split(NamedTuple):
    """A possible section `split`, and the reason for it."""

    section: dict[str, JsonValue]
    reason: str


@dataclass(slots=True)
class Choices:
    """The choices for a declaration.

    Attributes:
        task: of the model.
        data: section `data` without the source.
        ignored: why a column is in `data.ignore`.
        metric: primary metric.
        checks: section `checks`.
        log: the choices with their reasons, in the order of the declaration.
    """

    task: Task
    data: dict[str, Any] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    metric: str = ""
    checks: dict[str, Any] = field(default_factory=dict)
    log: list[Choice] = field(default_factory=list)

    def add_check(self, name: str, key: str, value: JsonValue, reason: str) -> None:
        """Add a check with one key."""
        self.checks[name] = {key: value}
        self.log.append(Choice(f"checks.{name}", f"{key}: {value}", reason))


def choose_task(table: Table, labels: LabelCounts | None) -> tuple[Task, str]:
    """Return the task for a target, and the reason."""
    kind, number = table.types[table.target], len(labels or ())
    if labels is None and kind == "float":
        return "regression", f"{table.target} holds numbers with fractions"
    if kind == "string":
        if number > _MAX_NUMBER_LABELS and table.target_is_almost_numeric():
            return "regression", f"almost all cells of {table.target} are numbers"
        return "classification", f"{table.target} holds {number} labels"
    few = number <= _MAX_NUMBER_LABELS and sum((labels or {}).values()) >= _MIN_ROWS_PER_LABEL * number
    if kind == "boolean" or number <= 2 or few:
        amounts = "" if number <= 2 else "; pass `--task regression` if they are amounts"
        return "classification", f"{table.target} has {number} different values{amounts}"
    return "regression", f"{table.target} has {number} different numbers"


def choose(inspection: Inspection, task: Task) -> Choices:
    """Return the choices for a table.

    Raises:
        DataError: the target can't be predicted.
    """
    _require_target(inspection, task)
    target, choices = inspection.table.target, Choices(task)
    choices.data["target"] = target
    if share := inspection.missing_shares.get(target, 0):
        reason = f"{share:.1%} of the rows have no target; they go to quarantine"
        choices.log.append(Choice("data.target", target, reason))
    for step in (_choose_positive, _choose_key, _choose_ignored, _choose_columns, _choose_metric, _choose_checks):
        step(choices, inspection)
    return choices


def _require_target(inspection: Inspection, task: Task) -> None:
    target, labels = inspection.table.target, inspection.labels
    if task == "classification" or inspection.table.types[target] != "string":
        for result in inspection.failed:
            # The third result of this check is about the share of the rarest label.
            if result.check == "labels" and result.value in (None, 0, 1):
                raise DataError(result.detail, where=target, fix=result.remedy)
    if task == "classification" and labels and len(labels) > max(sum(labels.values()) // 2, 2):
        raise DataError(
            f"the target {target} has almost as many labels as rows",
            where=target,
            expected="several rows of each label",
            got=f"{len(labels)} labels in {sum(labels.values())} rows",
            fix="name another target, or pass --task regression if its values are numbers",
        )


def _choose_positive(choices: Choices, inspection: Inspection) -> None:
    labels = inspection.labels or {}
    if choices.task == "regression" or (label := default_positive(labels)) is None:
        return
    choices.data["positive"] = label
    reason = f"{labels[label]} of {sum(labels.values())} rows have it"
    choices.log.append(Choice("data.positive", format_value(label), reason))


def _choose_key(choices: Choices, inspection: Inspection) -> None:
    names = [
        result.column
        for result in inspection.failed
        if result.check in ("identifier", "index") and result.column and is_id_name(result.column)
    ]
    key = next((name for name in names if inspection.table.identifies_rows(name)), None)
    if key is None:
        reason = "no column of identifiers has one value per row, so the content of a row identifies it"
        choices.log.append(Choice("data.key", "none", reason))
        return
    choices.data["key"] = key
    choices.log.append(Choice("data.key", key, "each row has its own value; never a feature"))


def _choose_ignored(choices: Choices, inspection: Inspection) -> None:
    """Ignore the columns that findings advise to ignore, except if no feature would be left."""
    roles = (inspection.table.target, choices.data.get("key"))
    reasons = dict(inspection.table.unreadable)
    reasons |= {name: "has no value" for name, share in inspection.missing_shares.items() if share == 1}
    for result in inspection.failed:
        if result.fix is not None and "ignore" in result.fix and result.column is not None:
            reasons.setdefault(result.column, f"{result.detail}{_KEEP_LEAK if result.check == 'leakage' else ''}")
    reasons = {name: reason for name, reason in reasons.items() if name not in roles}
    features = [name for name in inspection.table.types if name not in roles]
    if all(name in reasons for name in features):
        reasons = {name: reason for name, reason in reasons.items() if name not in features}
    choices.ignored = reasons
    if reasons:
        choices.data["ignore"] = list(reasons)
        choices.log += [Choice("data.ignore", name, reason) for name, reason in reasons.items()]


def _choose_columns(choices: Choices, inspection: Inspection) -> None:
    types, target = inspection.table.types, inspection.table.target
    kept = [name for name in types if name not in choices.ignored and len(name) <= LONGEST_NAME]
    columns: dict[str, dict[str, JsonValue]] = {}
    choices.data["columns"] = columns
    if len(kept) > MAX_LISTED_COLUMNS:
        reason = f"more than {MAX_LISTED_COLUMNS} columns; each run infers the types"
        choices.log.append(Choice("data.columns", "not listed", reason))
        kept = [target] if target in kept else []
    else:
        kinds = [types[name] for name in kept]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        choices.log.append(Choice("data.columns", f"{len(kept)} types", f"as found: {counts}"))
    columns |= {name: _column_rule(name, choices, inspection) for name in kept}
    for name, rule, reason in _advised_rules(inspection):
        if name in columns:
            columns[name] |= rule
            text = ", ".join(f"{key}: {value}" for key, value in rule.items())
            choices.log.append(Choice(f"data.columns.{name}", text, reason))


def _advised_rules(inspection: Inspection) -> Iterator[tuple[str, dict[str, JsonValue], str]]:
    """Yield a column, its rule and the reason, for findings that advise a type and for columns with few values."""
    for result in inspection.failed:
        fixed = result.fix.get("columns") if result.fix is not None else None
        for name, rule in fixed.items() if isinstance(fixed, dict) else ():
            if isinstance(rule, dict):
                yield name, rule, result.detail
    for name, share in inspection.missing_shares.items():
        if share > _DEFAULTS.missing.max_share:
            yield name, {"max_missing": 1.0}, f"{share:.1%} of the cells are empty"


def _column_rule(name: str, choices: Choices, inspection: Inspection) -> dict[str, JsonValue]:
    kind, labels = inspection.table.types[name], inspection.labels
    if name != inspection.table.target:
        strict = kind == "string" or name == choices.data.get("key")
        return {"type": kind} if strict else {"type": kind, "on_fail": "quarantine"}
    if choices.task == "regression":
        return {"type": "float"} if kind != "string" else {"type": "float", "on_fail": "quarantine"}
    if labels and kind in ("string", "integer") and len(labels) <= _MAX_ALLOWED:
        return {"type": kind, "allowed": list[JsonValue]([*labels][::-1])}
    return {"type": kind}


def _choose_metric(choices: Choices, inspection: Inspection) -> None:
    if choices.task == "regression":
        choices.metric, reason = "r2", "the share of the target's variance that a model explains; it has no unit"
    else:
        counts = list((inspection.labels or {}).values())
        share, even = min(counts) / sum(counts), 1 / len(counts)
        choices.metric = "average_precision" if share < _RARE and share < even / 2 else "roc_auc"
        text = "a rare label needs precision" if choices.metric == "average_precision" else "it needs no threshold"
        reason = f"the rarest of {len(counts)} labels has {share:.1%} of the rows; {text}"
    choices.log.append(Choice("gate.metric", choices.metric, reason))


def _choose_checks(choices: Choices, inspection: Inspection) -> None:
    report = inspection.report
    least = max(report.rows // 2, 1)
    choices.add_check("rows", "min", least, f"half of the current {report.rows} rows")
    if "key" in choices.data:
        choices.add_check("duplicate_keys", "on_fail", "quarantine", "keeps the first row of a key")
    infinite = sum(result.rows or 0 for result in inspection.failed if result.check == "infinite")
    if infinite > _DEFAULTS.max_quarantined * report.rows:
        choices.add_check("infinite", "on_fail", "warn", f"{infinite} cells are infinite, and count as missing")
    counts = (inspection.labels or {}).values() if choices.task == "classification" else ()
    share = min(counts) / sum(counts) if counts else 1.0
    if share < 2 * _DEFAULTS.labels.min_share:
        choices.add_check("labels", "min_share", float(f"{share / 2:.1g}"), f"the rarest label has {share:.2%}")


def possible_splits(choices: Choices, inspection: Inspection) -> Iterator[Split]:
    """Yield the splits from the best one on. Only the split of the rows shows whether each part has rows."""
    rows = inspection.report.rows
    if (time := _time_column(choices, inspection)) is not None:
        yield Split({"method": "time", "column": time}, f"{time} orders the rows; the latest rows are the test set")
    if choices.task == "regression":
        yield Split({"method": "hash"}, "a hash assigns each row, so it keeps its part while the data grow")
    elif "key" in choices.data and min((inspection.labels or {}).values()) >= _HASH_LABEL_ROWS:
        yield Split({"method": "hash"}, "a hash of the key assigns each row, so it keeps its part while the data grow")
    method = "hash" if choices.task == "regression" else "stratified"
    if method == "stratified":
        yield Split({"method": method}, "each part has the same share of each label")
    reason = f"{rows} rows are few, so test and validation get larger shares"
    yield Split({"method": method, "test": 0.3, "validation": 0.3}, reason)


def _time_column(choices: Choices, inspection: Inspection) -> str | None:
    """Return the column whose time orders the rows: one that the rows are sorted by, or else the first."""
    declared, table = choices.data["columns"], inspection.table
    names = [
        name
        for name, kind in table.types.items()
        if declared.get(name, {}).get("type", kind) in ("date", "datetime")
        and name not in (table.target, *choices.ignored)
        and not inspection.missing_shares.get(name)
        and not _NOT_AN_ORDER.search(name)
    ]
    return next((name for name in names if table.is_sorted(name)), next(iter(names), None))
