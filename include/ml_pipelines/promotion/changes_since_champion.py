"""Findings about what changed between the champion's training and this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_pipelines._utils.yaml_quoting import quote_yaml
from ml_pipelines.contracts import Finding

__all__ = ["SPLIT_RULE", "champion_changes", "compared_rows"]

SPLIT_RULE = "split_rule"
"""The check of a finding about a changed split: the metrics of such a run are those of other test rows."""

_RULE = ("method", "test", "validation", "column", "key", "group", "seed")
_NUMBERS = ("integer", "float", "boolean")
_MIN_LEVEL_SHARE = 0.01
_MAX_NAMES = 5
_FEW_ROWS = 0.05  # of the test rows: a stratified split moves some rows while the table grows
_ALL_LEVELS = 20  # a profile with fewer levels has all of them

Training = Mapping[str, Any]


def champion_changes(before: Training, now: Training) -> Iterator[Finding]:
    """Return the changes between two training records that concern the meaning of the data.

    Args:
        before: record of the champion.
        now: record of the candidate.
    """
    yield from _split(before["split"], now["split"])
    yield from _key(before["split"], now["split"])
    yield from _labels(before, now)
    yield from _columns(before, now)


def compared_rows(rows: int | None, test: int, error: str | None) -> Iterator[Finding]:
    """Return the finding about the test rows that the champion has learned from.

    Args:
        rows: test rows that the champion has not learned from; None if it was not compared on its own.
        test: all test rows.
        error: why they can't be recognised, which holds the model.
    """
    if error is not None:
        detail = f"the champion can't be compared on rows that it has not learned from: {error}"
        remedy = "Approve the model if you know that it is better, or restore the split of the champion."
        yield Finding(check="champion_rows", severity="hold", detail=detail, remedy=remedy)
    elif rows is not None and test - rows > _FEW_ROWS * test:
        detail = (
            f"the champion has learned from {test - rows} of {test} test rows, so the comparison uses the other {rows}"
        )
        remedy = "None is needed: the next champion has this split."
        yield Finding(check="champion_rows", severity="warn", detail=detail, remedy=remedy)


def _split(before: Training, now: Training) -> Iterator[Finding]:
    changed = [name for name in _RULE if before[name] != now[name]]
    if not changed:
        return
    texts = ", ".join(f"{name} {_text(before[name])} -> {_text(now[name])}" for name in changed)
    detail = f"the split has changed since the champion: {texts}; metrics of earlier runs are those of other test rows"
    remedy = "None is needed if you meant it; otherwise restore the earlier values."
    yield Finding(check=SPLIT_RULE, severity="warn", detail=detail, remedy=remedy)


def _key(before: Training, now: Training) -> Iterator[Finding]:
    types = before["key_type"], now["key_type"]
    if now["key"] is None or before["key"] != now["key"] or types[0] == types[1]:
        return
    name = now["key"]
    detail = f"the key {name} was {types[0]} in the champion's training and is {types[1]}"
    kind = types[0] if types[0] != "float" else "integer"
    remedy = f"To fix its type: `data: {{columns: {{{quote_yaml(name)}: {{type: {kind}}}}}}}`."
    yield Finding(check="key_type", column=name, severity="warn", detail=detail, remedy=remedy)


def _labels(before: Training, now: Training) -> Iterator[Finding]:
    target = now["split"]["target"]
    old, new = before["classes"] or [], now["classes"] or []
    if old != new:
        detail = f"the labels were {_list(old)} in the champion's training and are {_list(new)}"
        remedy = "Check whether they mean the same: the champion can be compared only on its own labels."
        yield Finding(check="labels_changed", column=target, severity="warn", detail=detail, remedy=remedy)
    elif before["positive"] != now["positive"]:
        detail = f"the positive label was {_text(before['positive'])} in the champion's training and is "
        remedy = f"To restore it: `data: {{positive: {_yaml(before['positive'])}}}`."
        detail += _text(now["positive"])
        yield Finding(check="positive_changed", column=target, severity="warn", detail=detail, remedy=remedy)


def _columns(before: Training, now: Training) -> Iterator[Finding]:
    old, new = ({feature["name"]: feature["dtype"] for feature in record["features"]} for record in (before, now))
    for text, names in (("are new", [*new.keys() - old.keys()]), ("are gone", [*old.keys() - new.keys()])):
        if names:
            detail = f"{len(names)} features {text} since the champion: {_list(sorted(names))}"
            remedy = "Check the delivery, or declare them in `data.columns` or `data.ignore`."
            yield Finding(check="columns_changed", severity="warn", detail=detail, remedy=remedy)
    for name in (name for name in new if name in old):
        if old[name] != new[name] and not (old[name] in _NUMBERS and new[name] in _NUMBERS):
            detail = f"{name} was {old[name]} in the champion's training and is {new[name]}"
            remedy = f"To fix its type: `data: {{columns: {{{quote_yaml(name)}: {{type: {old[name]}}}}}}}`."
            yield Finding(check="column_type", column=name, severity="warn", detail=detail, remedy=remedy)
        elif new[name] == "string":
            yield from _levels(name, before["profile"].get(name, {}), now["profile"].get(name, {}))


def _levels(name: str, before: Training, now: Training) -> Iterator[Finding]:
    """Compare the levels of a text column that has few of them, in at least one percent of the rows."""
    old, new = before.get("levels") or {}, now.get("levels") or {}
    if not old or not new or max(len(old), len(new)) >= _ALL_LEVELS:
        return
    for text, levels, others in (("new", new, old), ("gone", old, new)):
        shares = {level: share for level, share in levels.items() if level not in others and share >= _MIN_LEVEL_SHARE}
        if shares:
            shown = ", ".join(f"{level!r} ({share:.1%})" for level, share in [*shares.items()][:_MAX_NAMES])
            detail = f"levels of {name} are {text} since the champion: {shown} of the training rows"
            remedy = "Check whether the source spells a level in another way."
            yield Finding(check="levels_changed", column=name, severity="warn", detail=detail, remedy=remedy)


def _list(names: list[Any]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return (", ".join(map(_text, names[:_MAX_NAMES])) or "none") + more


def _text(value: Any) -> str:
    return "none" if value is None else repr(value)


def _yaml(value: Any) -> str:
    return quote_yaml(value) if isinstance(value, str) else str(value).lower()
