"""Rules that concern several fields of a declaration, or need a look-up.

They read the plain data of the file, so that they report their issues even if other fields are invalid. A field that
is missing or has the wrong type is reported by pydantic, and the rules skip it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, get_args
from zoneinfo import ZoneInfo, available_timezones

from ml_pipelines.spec.batch import OUTPUT_COLUMNS, ROW_COLUMN
from ml_pipelines.spec.code_rules import code_rules
from ml_pipelines.spec.cron import find_cron_error
from ml_pipelines.spec.difference_limits import SHARE
from ml_pipelines.spec.environment_variables import VARIABLE, VARIABLES_VARIABLE, allowed_variables, is_allowed_variable
from ml_pipelines.spec.message_text import did_you_mean, format_value, one_of
from ml_pipelines.spec.metric_table import Metric, Task, find_metric, metrics_of
from ml_pipelines.spec.sources import DataSection, source_class
from ml_pipelines.spec.task_steps import DRIFT_TASKS, SCORING_TASKS, TRAINING_TASKS
from ml_pipelines.spec.threshold_rules import threshold_rules
from ml_pipelines.spec.value_lookup import items_at as _items
from ml_pipelines.spec.value_lookup import value_at as _at
from ml_pipelines.spec.yaml_source import Loc, YamlIssue

__all__ = ["check_drift", "check_scoring", "check_training"]


def check_training(data: Any) -> list[YamlIssue]:
    """Return the issues of the plain data of a training declaration."""
    return [issue for rule in _RULES for issue in rule(data)]


def check_scoring(data: Any) -> list[YamlIssue]:
    """Return the issues of the plain data of a scoring declaration."""
    return [issue for rule in _SCORING_RULES for issue in rule(data)]


def check_drift(data: Any) -> list[YamlIssue]:
    """Return the issues of the plain data of a drift declaration."""
    return [*_schedule_rules(data), *_runtime_rules(data, DRIFT_TASKS)]


def _metric_rules(data: Any) -> Iterator[YamlIssue]:
    task = _at(data, "model", "task")
    if isinstance(primary := _at(data, "gate", "metric"), str):
        yield from _metric(primary, task, ("gate", "metric"), at_key=False)
    for loc, name in _items(data, "gate", "report"):
        if isinstance(name, str):
            yield from _metric(name, task, loc, at_key=False)
    limits = [*_items(data, "gate", "thresholds"), *_items(data, "gate", "slices", "floors")]
    for loc, limit in limits:
        name = str(loc[-1])
        yield from _metric(name, task, loc, at_key=True)
        if (metric := find_metric(name)) is not None and _is_number(limit):
            yield from _threshold(metric, limit, loc)
    for loc, _ in _items(data, "gate", "slices", "max_drop"):
        yield from _metric(str(loc[-1]), task, loc, at_key=True)


def _gate_rules(data: Any) -> Iterator[YamlIssue]:
    """Check the margins of promotion and rejection, and that limits of slices have slices."""
    improvement, margin = _at(data, "gate", "improvement"), _at(data, "gate", "non_inferiority")
    (worse, unit), (least, other_unit) = _lift(improvement), _lift(margin)
    if worse is not None and least is not None and unit == other_unit and -least > worse:
        message = f"a loss of {-worse:g}{unit} is promoted (improvement), but a loss of {least:g}{unit} is rejected"
        hint = f"set non_inferiority to at least {-worse:g}{unit}"
        yield YamlIssue(loc=("gate", "non_inferiority"), message=message, hint=hint)
    for name in ("floors", "max_drop"):
        if _at(data, "gate", "slices", name) and not _at(data, "gate", "slices", "columns"):
            message = f"{name} needs groups of rows: expected gate.slices.columns, got nothing"
            yield YamlIssue(
                loc=("gate", "slices", name),
                message=message,
                hint="declare the columns that define the groups",
                at_key=True,
            )


def _lift(value: Any) -> tuple[float | None, str]:
    """Return the number and the unit of a limit such as 0.01 or `1%`; None if it is neither."""
    if _is_number(value):
        return value, ""
    if not isinstance(value, str) or not re.match(SHARE, value):
        return None, ""
    return float(value.removesuffix("%")), "%"


def _metric(name: str, task: Any, loc: Loc, *, at_key: bool) -> Iterator[YamlIssue]:
    tasks = [task] if task in get_args(Task) else list(get_args(Task))
    valid = [metric.name for name_of_task in tasks for metric in metrics_of(name_of_task)]
    if (metric := find_metric(name)) is None:
        message = f"expected a metric, {one_of(valid)}, got {format_value(name)}"
        yield YamlIssue(loc=loc, message=message, hint=did_you_mean(name, valid), at_key=at_key)
    elif metric.task not in tasks:
        message = f"{name} is not a metric of {task}: expected {one_of(valid)}"
        yield YamlIssue(loc=loc, message=message, at_key=at_key)


def _threshold(metric: Metric, limit: float, loc: Loc) -> Iterator[YamlIssue]:
    best = metric.best_value
    if best is None:
        return
    if metric.greater_is_better and limit > best:
        message = f"no model reaches it: {metric.name} is at most {best:g}, and the threshold is a minimum of {limit}"
        yield YamlIssue(loc=loc, message=message, hint="write 85 % as 0.85" if best == 1 else "")
    elif not metric.greater_is_better and limit < best:
        message = f"no model reaches it: {metric.name} is at least {best:g}, and the threshold is a maximum of {limit}"
        yield YamlIssue(loc=loc, message=message)


def _schedule_rules(data: Any) -> Iterator[YamlIssue]:
    cron, zone = _at(data, "schedule", "cron"), _at(data, "schedule", "timezone")
    if isinstance(cron, str) and (error := find_cron_error(cron)):
        message = f"expected five cron fields: minute, hour, day of month, month, day of week; {error}"
        yield YamlIssue(loc=("schedule", "cron"), message=message, hint='an example: "0 2 * * 0", Sundays at 02:00')
    if isinstance(zone, str) and not _is_timezone(zone):
        message = f"expected a time zone such as UTC or Europe/Berlin, got {format_value(zone)}"
        hint = did_you_mean(zone, sorted(available_timezones()))
        yield YamlIssue(loc=("schedule", "timezone"), message=message, hint=hint)
    if _at(data, "schedule", "on_new_data") is not None and _at(data, "data", "dvc") is None:
        message = "expected data.dvc: new data is detected by its revision in DVC"
        hint = "declare data.dvc, or use schedule.cron: a run on unchanged data ends as no_change"
        yield YamlIssue(loc=("schedule", "on_new_data"), message=message, hint=hint)


def _is_timezone(name: str) -> bool:
    try:
        return name == "UTC" or bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):  # unknown; not a name at all; a folder of the database
        return False


def _role_rules(data: Any) -> Iterator[YamlIssue]:
    """Check that no column has two roles."""
    key, target = _at(data, "data", "key"), _at(data, "data", "target")
    if key is not None and key == target:
        message = f"{format_value(key)} is also the target: expected a column that identifies rows"
        yield YamlIssue(loc=("data", "key"), message=message, hint="name another column, or remove key")
    for loc, column in _items(data, "data", "ignore"):
        if column is not None and column in (key, target):
            role = "target" if column == target else "key"
            yield YamlIssue(
                loc=loc, message=f"{format_value(column)} is the {role}: expected another column", hint="remove it"
            )
    used = [*_items(data, "features", "outliers", "columns"), *_items(data, "gate", "slices", "columns")]
    of_split: list[tuple[Loc, Any]] = [(("split", name), _at(data, "split", name)) for name in ("column", "group")]
    for loc, column in [*used, *of_split]:
        yield from _use(data, loc, column)


def _use(data: Any, loc: Loc, column: Any) -> Iterator[YamlIssue]:
    if not isinstance(column, str):
        return
    ignored = [name for _, name in _items(data, "data", "ignore")]
    kind = _at(data, "data", "columns", column, "type")
    if column == _at(data, "data", "target"):
        yield YamlIssue(loc=loc, message=f'"{column}" is the target: expected another column')
    elif column in ignored:
        yield YamlIssue(
            loc=loc, message=f'"{column}" is ignored: expected a column that is kept', hint="see data.ignore"
        )
    elif loc[0] == "features" and column in (_at(data, "data", "key"), _at(data, "split", "group")):
        role = "key" if column == _at(data, "data", "key") else "group"
        yield YamlIssue(loc=loc, message=f'"{column}" is the {role}: expected a feature')
    elif loc[0] == "features" and kind in ("string", "boolean", "date", "datetime"):
        yield YamlIssue(loc=loc, message=f'"{column}" is declared {kind}: expected a column of numbers')


def _split_rules(data: Any) -> Iterator[YamlIssue]:
    if _at(data, "split", "method") == "stratified" and _at(data, "model", "task") == "regression":
        message = "stratified needs classes, and a regression has none: expected hash or time"
        yield YamlIssue(loc=("split", "method"), message=message)


def _label_rules(data: Any) -> Iterator[YamlIssue]:
    """Check that the positive class is a label of the target."""
    positive, target = _at(data, "data", "positive"), _at(data, "data", "target")
    if positive is None or isinstance(positive, dict | list):
        return
    allowed = [value for _, value in _items(data, "data", "columns", str(target), "allowed")]
    if _at(data, "model", "task") == "regression":
        message = "positive is only for classification: a regression has no classes"
        yield YamlIssue(loc=("data", "positive"), message=message, hint="remove it", at_key=True)
    elif allowed and positive not in allowed:
        words = [str(value) for value in allowed]
        message = f"expected a value that data.columns.{target} allows, {one_of(words)}, got {format_value(positive)}"
        yield YamlIssue(loc=("data", "positive"), message=message, hint=did_you_mean(str(positive), words))


def _variable_rules(data: Any) -> Iterator[YamlIssue]:
    """Check that a declaration names only environment variables that the deployment allows."""
    for kind in DataSection.model_fields:
        field = source_class(kind).address_field
        address = _at(data, "data", kind, field or "")
        names = [match[1] for match in VARIABLE.finditer(address)] if isinstance(address, str) else []
        for name in names:
            if not is_allowed_variable(name):
                message = f"expected an environment variable, {one_of(list(allowed_variables()))}, got ${{{name}}}"
                hint = f"rename it to ML_DATA_..., or allow it in the deployment by {VARIABLES_VARIABLE}"
                yield YamlIssue(loc=("data", kind, str(field)), message=message, hint=hint)


def _column_rules(data: Any) -> Iterator[YamlIssue]:
    for loc, column in _items(data, "data", "columns"):
        if isinstance(column, dict):
            yield from _column(column, loc)
    least, most = _at(data, "checks", "rows", "min"), _at(data, "checks", "rows", "max")
    if _is_number(least) and _is_number(most) and least > most:
        yield YamlIssue(loc=("checks", "rows", "max"), message=f"max {most} is below min {least}")


def _column(column: dict[str, Any], loc: Loc) -> Iterator[YamlIssue]:
    kind = column.get("type")
    limits = {name: limit for name in ("min", "max", "above", "below") if (limit := column.get(name)) is not None}
    if kind in ("string", "boolean", "date", "datetime"):
        for name in limits:
            yield YamlIssue(loc=(*loc, name), message=f"{name} is only for numbers: the type is {kind}", at_key=True)
    if column.get("pattern") is not None and kind not in ("string", None):
        message = f"pattern is only for text: the type is {kind}"
        yield YamlIssue(loc=(*loc, "pattern"), message=message, at_key=True)
    if isinstance(form := column.get("format"), str) and (fault := _format_fault(form, kind)):
        message = f"expected a format of dates such as %d/%m/%Y, got {format_value(form)}: {fault}"
        yield YamlIssue(loc=(*loc, "format"), message=message)
    for place, value in _items(column, "allowed"):
        yield from _allowed(kind, value, (*loc, *place))
    yield from _bounds(limits, loc)


_DATE_PARTS = {"year": "YyF", "month": "mbBF", "day": "deF"}
_TIME_PARTS = "HIMSpTRzf"


def _format_fault(form: str, kind: Any) -> str:
    """Return why a format can't read the dates of a column; empty if it can."""
    directives = re.findall(r"%\.?(.?)", form)
    valid = {*"".join(_DATE_PARTS.values()), *_TIME_PARTS, "%"}
    if kind not in ("date", "datetime", None):
        return f"the type is {kind}"
    if unknown := [directive for directive in directives if directive not in valid]:
        return f"%{unknown[0]} is unknown"
    if missing := [part for part, letters in _DATE_PARTS.items() if not set(letters) & set(directives)]:
        return f"it has no {missing[0]}"
    return "it has a time, and the type is date" if kind == "date" and set(_TIME_PARTS) & set(directives) else ""


_WANTED: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "text"),
    "integer": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "date": ((str,), "a date as text"),
    "datetime": ((str,), "a date and time as text"),
}


def _allowed(kind: Any, value: Any, loc: Loc) -> Iterator[YamlIssue]:
    if not isinstance(kind, str) or kind not in _WANTED or isinstance(value, dict | list | None):
        return
    types, wanted = _WANTED[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean"):
        hint = f'put it in quotes: "{format_value(value)}"' if str in types else ""
        yield YamlIssue(
            loc=loc, message=f"expected {wanted} (the type is {kind}), got {format_value(value)}", hint=hint
        )


def _bounds(limits: dict[str, Any], loc: Loc) -> Iterator[YamlIssue]:
    bounds = {name: limit for name, limit in limits.items() if _is_number(limit)}
    for low in ("min", "above"):
        for high in ("max", "below"):
            if low in bounds and high in bounds:
                touching = bounds[low] == bounds[high] and (low, high) != ("min", "max")
                if bounds[low] > bounds[high] or touching:
                    message = f"no number has {low} {bounds[low]} and {high} {bounds[high]}"
                    yield YamlIssue(loc=(*loc, high), message=message)


def _runtime_rules(data: Any, tasks: Collection[str] = TRAINING_TASKS) -> Iterator[YamlIssue]:
    for loc, placement in _items(data, "runtime"):
        task = str(loc[-1])
        if task not in tasks:
            message = f"expected a task, {one_of(list(tasks))}, got {format_value(task)}"
            yield YamlIssue(loc=loc, message=message, hint=_task_hint(task, tasks), at_key=True)
        if isinstance(placement, dict) and "docker" in placement and placement["docker"] is None:
            message = "expected a mapping (fields: image, memory, cpus), got nothing"
            yield YamlIssue(loc=(*loc, "docker"), message=message, hint="write docker: {} to keep the defaults")


def _task_hint(name: str, tasks: Collection[str]) -> str:
    """Return the task that runs the step of this name, or else the task with the nearest name."""
    table = TRAINING_TASKS | SCORING_TASKS | DRIFT_TASKS
    task = next((task for task in tasks if name in table[task]), "")
    return f'the task "{task}" runs the step "{name}"' if task else did_you_mean(name, list(tasks))


def _output_rules(data: Any) -> Iterator[YamlIssue]:
    """Check that no column of the batch has the name of a column of the scores."""
    key = _at(data, "data", "key")
    reserved = OUTPUT_COLUMNS if key is not None else OUTPUT_COLUMNS | {ROW_COLUMN}
    for loc, column in [(("data", "key"), key), *_items(data, "output", "keep")]:
        if column in reserved:
            message = f"{format_value(column)} is reserved for the scores: expected another name"
            yield YamlIssue(loc=loc, message=message, hint="rename the column in the data")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RULES: tuple[Callable[[Any], Iterator[YamlIssue]], ...] = (
    _metric_rules,
    _gate_rules,
    _schedule_rules,
    _role_rules,
    _split_rules,
    _label_rules,
    threshold_rules,
    code_rules,
    _variable_rules,
    _column_rules,
    _runtime_rules,
)
_SCORING_RULES: tuple[Callable[[Any], Iterator[YamlIssue]], ...] = (
    _schedule_rules,
    partial(_runtime_rules, tasks=SCORING_TASKS),
    _variable_rules,
    _output_rules,
)
