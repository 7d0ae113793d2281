"""Validation of cron schedules: five fields as croniter reads them, or a preset such as `@daily`.

Airflow evaluates schedules by croniter too, so what is valid here is valid there. Two kinds of expressions are refused
although croniter accepts them: those of six or seven fields, which schedulers interpret differently, and those that
never come due.
"""

from __future__ import annotations

__all__ = ["MAX_LENGTH", "PRESETS", "find_cron_error"]

MAX_LENGTH = 64
"""Characters of a cron expression. Airflow stores its description, 14 times as long at most, in 1000 characters."""

PRESETS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"})
"""The names that Airflow accepts in place of an expression."""

_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day of week", "0-7 or sun-sat"),
)


def find_cron_error(expression: str) -> str | None:
    """Return what is wrong with a cron expression, such as `hour "25" is not within 0-23`; None if it is valid."""
    if expression in PRESETS:
        return None
    if len(expression) > MAX_LENGTH:
        return f"it has {len(expression)} characters, more than {MAX_LENGTH}"
    if not expression.replace("\t", " ").isprintable():
        return "it has a control character"
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        return f"it has {len(parts)} {'field' if len(parts) == 1 else 'fields'}"
    for position, (part, (name, valid)) in enumerate(zip(parts, _FIELDS, strict=True)):
        # One field among asterisks: croniter's own messages do not name the field.
        if not _is_valid(["*"] * position + [part] + ["*"] * (len(_FIELDS) - 1 - position)):
            return f'the {name} "{part}" is not within {valid}'
    return None if _comes_due(parts) else "no such date exists"


def _is_valid(parts: list[str]) -> bool:
    # Imported here, as most declarations have no cron expression.
    from croniter import croniter

    return bool(croniter.is_valid(" ".join(parts)))


def _comes_due(parts: list[str]) -> bool:
    from croniter import CroniterBadDateError, croniter

    try:
        croniter(" ".join(parts), 0.0).get_next()
    except CroniterBadDateError:
        return False
    return True
