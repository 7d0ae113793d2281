"""Rules that concern several fields of a declaration, or need a look-up.

They read the plain data of the file, so that they report their issues even if other fields are invalid. A field that
is missing or has the wrong type is reported by pydantic, and the rules skip it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from functools import partial
from typing import Any, get_args
from zoneinfo import ZoneInfo, available_timezones

from ml_pipelines.spec.batch import OUTPUT_COLUMNS
from ml_pipelines.spec.cron import find_cron_error
from ml_pipelines.spec.estimator_packages import PACKAGES_VARIABLE, allowed_packages, is_allowed_package
from ml_pipelines.spec.metrics import Metric, Task, find_metric, metrics_of
from ml_pipelines.spec.tasks import DRIFT_TASKS, SCORING_TASKS, TRAINING_TASKS
from ml_pipelines.spec.yaml_source import Loc, YamlIssue

__all__ = ["check_drift", "check_scoring", "check_training", "closest_match", "did_you_mean", "format_value", "one_of"]


def check_training(data: Any) -> list[YamlIssue]:
    """Return the issues of the plain data of a training declaration."""
    return [issue for rule in _RULES for issue in rule(data)]


def check_scoring(data: Any) -> list[YamlIssue]:
    """Return the issues of the plain data of a scoring declaration."""
    return [issue for rule in _SCORING_RULES for issue in rule(data)]


def check_drift(data: Any) -> list[YamlIssue]:
    """Return the issues of the plain data of a drift declaration."""
    return [*_schedule_rules(data), *_runtime_rules(data, DRIFT_TASKS)]


def closest_match(name: str, valid: list[str]) -> str:
    """Return the valid name that is most similar, or an empty text."""
    by_lower = {word.lower(): word for word in valid}
    matches = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else ""


def did_you_mean(name: str, valid: list[str]) -> str:
    """Return a hint with the closest valid name, or an empty text."""
    word = closest_match(name, valid)
    return f'did you mean "{word}"?' if word else ""


def one_of(words: list[str]) -> str:
    """Return valid words as text: `one of a, b`."""
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)


def format_value(value: Any) -> str:
    """Return a value in the notation of YAML, shortened to one line."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _at(data: Any, *loc: str | int) -> Any:
    """Return the value at a location, or None if it does not exist."""
    for part in loc:
        if isinstance(part, int) or not isinstance(data, dict):
            return None
        data = data.get(part)
    return data


def _items(data: Any, *loc: str) -> list[tuple[Loc, Any]]:
    """Return the items of a mapping or list with their locations."""
    value = _at(data, *loc)
    if isinstance(value, dict):
        return [((*loc, key), item) for key, item in value.items()]
    return [((*loc, index), item) for index, item in enumerate(value)] if isinstance(value, list) else []


def _metric_rules(data: Any) -> Iterator[YamlIssue]:
    task = _at(data, "model", "task")
    if isinstance(primary := _at(data, "gate", "metric"), str):
        yield from _metric(primary, task, ("gate", "metric"), at_key=False)
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
    if _is_number(improvement) and _is_number(margin) and -margin > improvement:
        message = f"a loss of {-improvement:g} is promoted (improvement), but a loss of {margin:g} is rejected"
        hint = f"set non_inferiority to at least {-improvement:g}"
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
    for loc, column in [*used, (("split", "column"), _at(data, "split", "column"))]:
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
    elif loc[0] == "features" and column == _at(data, "data", "key"):
        yield YamlIssue(loc=loc, message=f'"{column}" is the key: expected a feature')
    elif loc[0] == "features" and kind in ("string", "boolean", "date", "datetime"):
        yield YamlIssue(loc=loc, message=f'"{column}" is declared {kind}: expected a column of numbers')


def _split_rules(data: Any) -> Iterator[YamlIssue]:
    if isinstance(data, dict) and isinstance(data.get("split", {}), dict) and isinstance(data.get("data"), dict):
        method = data.get("split", {}).get("method", "hash")
        if method == "hash" and data["data"].get("key") is None:
            message = "split.method hash needs a key: expected data.key, got nothing"
            other = "time" if _at(data, "model", "task") == "regression" else "stratified"
            hint = f"declare the column that identifies rows, or set split.method to {other}"
            loc = ("split", "method") if _at(data, "split", "method") else ("data", "key")
            yield YamlIssue(loc=loc, message=message, hint=hint)
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


def _candidate_rules(data: Any) -> Iterator[YamlIssue]:
    names: list[str] = []
    for loc, candidate in _items(data, "candidates"):
        name, path = _at(candidate, "name"), _at(candidate, "estimator")
        if isinstance(name, str) and name in names:
            message = f'expected distinct names, got "{name}", the name of candidates[{names.index(name)}]'
            yield YamlIssue(loc=(*loc, "name"), message=message, hint="rename one of the candidates")
        names.append(str(name))
        if isinstance(path, str):
            yield from _estimator(path, (*loc, "estimator"))


def _estimator(path: str, loc: Loc) -> Iterator[YamlIssue]:
    package, _, rest = path.partition(".")
    if not is_allowed_package(package):
        allowed = allowed_packages()
        message = f"expected an estimator from {' or '.join(allowed)}, got {format_value(path)}"
        match = closest_match(package, list(allowed))
        other = f"a deployment allows other packages by the variable {PACKAGES_VARIABLE}"
        yield YamlIssue(loc=loc, message=message, hint=f'did you mean "{match}.{rest}"?' if match else other)
    elif not rest or not all(part.isidentifier() for part in rest.split(".")):
        message = f"expected an import path such as sklearn.linear_model.LogisticRegression, got {format_value(path)}"
        yield YamlIssue(loc=loc, message=message)


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
    for place, value in _items(column, "allowed"):
        yield from _allowed(kind, value, (*loc, *place))
    yield from _bounds(limits, loc)


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
    for loc, column in [(("data", "key"), _at(data, "data", "key")), *_items(data, "output", "keep")]:
        if column in OUTPUT_COLUMNS:
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
    _candidate_rules,
    _column_rules,
    _runtime_rules,
)
_SCORING_RULES: tuple[Callable[[Any], Iterator[YamlIssue]], ...] = (
    _schedule_rules,
    partial(_runtime_rules, tasks=SCORING_TASKS),
    _output_rules,
)
