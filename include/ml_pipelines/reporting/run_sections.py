"""The sections of a report on the run: data, rows, quality, drift, feature importance, environment, steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.drift import LARGE_DRIFT, MODERATE_DRIFT, FeatureDrift, compare_profiles
from ml_pipelines.data.feature_profile import CategoryProfile, FeatureProfile, parse_profiles
from ml_pipelines.ports import TaskRecord
from ml_pipelines.reporting.components import (
    Annotated,
    Badge,
    Cell,
    Code,
    Details,
    Facts,
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
    format_digest,
    format_duration,
    format_number,
    format_percent,
    format_size,
)
from ml_pipelines.reporting.plots import importance_plot
from ml_pipelines.reporting.report_data import ReportData

__all__ = [
    "DRIFT_HEAD",
    "PSI_NOTE",
    "data_section",
    "drift_blocks",
    "drift_row",
    "drift_section",
    "environment_section",
    "importance_section",
    "quality_section",
    "rows_section",
    "steps_section",
]

DRIFT_HEAD = ("Feature", "Stability index", "Verdict", "Reference", "Current")
PSI_NOTE = (
    f"Population stability index: below {MODERATE_DRIFT} is stable, from {LARGE_DRIFT} on is large drift. Missing "
    "values count as a separate group."
)

_SOURCES = {"dvc": "DVC", "file": "file", "sql": "SQL"}
_PARTS = {"train": "Used for training", "validation": "Used for the selection", "test": "Used for the evaluation"}
_MAX_CHECKS = 200
_MAX_FEATURES = 100
_MAX_REASONS = 50
_MAX_TASKS = 100
_MAX_LEVELS = 3


def data_section(data: ReportData) -> Section | None:
    """Return the section on the version of the data."""
    pin = data.details.pin
    if pin is None:
        return None
    facts: list[tuple[str, Cell | None]] = [
        ("Source", _SOURCES.get(pin.source, pin.source)),
        ("Location", clip(pin.location, 300)),
        ("Revision", Code(clip(pin.revision)) if pin.revision else None),
        ("Digest", Code(clip(pin.digest)) if pin.digest else None),
        ("Size", None if pin.bytes is None else format_size(pin.bytes)),
        ("Fingerprint", _fingerprint(data.details.fingerprint or {})),
    ]
    return section("data", "Data", Facts(facts, listed=True))


def _fingerprint(fingerprint: Mapping[str, str]) -> Code | None:
    text = ", ".join(f"{name} {format_digest(value)}" for name, value in fingerprint.items())
    return Code(clip(text, 300)) if text else None


def rows_section(data: ReportData) -> Section | None:
    """Return the section on the number of rows in each part of the data."""
    rows, parts = data.details.rows, data.details.parts or {}
    if not rows:
        return None
    counts = {"Rows in": rows.rows_in, "Quarantined": rows.quarantined, "Kept": rows.kept}
    counts |= {_PARTS.get(name, name): count for name, count in parts.items()}
    total = rows.rows_in or 1
    flow = [[label, format_count(count), format_percent(count / total)] for label, count in counts.items()]
    reasons = sorted(rows.quarantined_by_reason.items(), key=lambda item: (-item[1], item[0]))
    shown = [[clip(reason, 300), format_count(count)] for reason, count in reasons[:_MAX_REASONS]]
    return section(
        "rows",
        "Rows",
        Table(head=("", "Rows", "Share"), rows=flow, numeric=(1, 2)),
        Table(head=("Quarantine reason", "Rows"), rows=shown, numeric=(1,)) if shown else None,
        remaining(len(shown), len(reasons), "reasons"),
    )


def quality_section(data: ReportData) -> Section | None:
    """Return the section on the data quality: failed checks and warnings, and the passed checks as details."""
    if not data.quality:
        return None
    checks = data.quality.checks
    failed = sorted((check for check in checks if not check.passed), key=lambda check: check.severity != "error")
    passed = [check for check in checks if check.passed]
    return section(
        "quality",
        "Data quality",
        Text(f"{format_count(len(passed))} of {format_count(len(checks))} checks passed."),
        *_check_blocks(failed, "failed checks"),
        Details("Passed checks", _check_blocks(passed, "checks")) if passed else None,
    )


def _check_blocks(checks: Sequence[CheckResult], noun: str) -> list[Table | Text]:
    shown = checks[:_MAX_CHECKS]
    head = ("Check", "Column", "Verdict", "Result")
    table = Table(head=head, rows=[_check_row(check) for check in shown])
    blocks = [table, remaining(len(shown), len(checks), noun)] if shown else []
    return [block for block in blocks if block is not None]


def _check_row(check: CheckResult) -> list[Cell]:
    return [
        check.check.replace("_", " "),
        clip(check.column or NO_VALUE),
        verdict_badge(check.passed, warning=check.severity != "error"),
        Annotated(clip(check.detail, 600), [clip(check.remedy, 600)], "range")
        if check.remedy
        else clip(check.detail, 600),
    ]


def drift_section(data: ReportData) -> Section | None:
    """Return the section on the drift of the features since the training of the champion."""
    training = data.training
    if training is None:
        return None
    if data.champion_training is None:
        reason = data.champion_missing or "there is no champion to compare with"
        return section("drift", "Feature drift", Text(f"Not measured: {clip(reason, 500)}."))
    drifts = compare_profiles(parse_profiles(data.champion_training["profile"]), parse_profiles(training["profile"]))
    drifted = sum(drift.index is not None and drift.index >= MODERATE_DRIFT for drift in drifts)
    return section(
        "drift",
        "Feature drift",
        Text(
            f"{format_count(drifted)} of {format_count(len(drifts))} features have drifted since the training of "
            f"version {data.champion_version}, the reference."
        ),
        *drift_blocks(drifts),
    )


def drift_blocks(drifts: Sequence[FeatureDrift]) -> list[Table | Text]:
    """Return the table of the drift of each feature, with an explanation of the index."""
    shown = drifts[:_MAX_FEATURES]
    table = Table(head=DRIFT_HEAD, rows=[drift_row(drift) for drift in shown], numeric=(1,))
    hidden = remaining(len(shown), len(drifts), "features")
    return [table, *([hidden] if hidden else []), note(PSI_NOTE)]


def drift_row(drift: FeatureDrift) -> list[Cell]:
    """Return the name, the index, the verdict, and both profiles of a feature."""
    index = NO_VALUE if drift.index is None else f"{drift.index:.3f}"
    return [clip(drift.feature), index, _drift_badge(drift), _profile(drift.reference), _profile(drift.current)]


def _drift_badge(drift: FeatureDrift) -> Badge:
    if drift.index is None:
        return Badge(
            "new" if drift.reference is None else "removed" if drift.current is None else "type changed", "wait"
        )
    if drift.index >= LARGE_DRIFT:
        return Badge("large drift", "bad")
    return Badge("moderate drift", "wait") if drift.index >= MODERATE_DRIFT else Badge("stable", "good")


def _profile(profile: FeatureProfile | None) -> str:
    """Return mean and standard deviation of a feature, or its most frequent values."""
    if profile is None:
        return NO_VALUE
    missing = f"; {format_percent(profile.missing)} missing" if profile.missing else ""
    if isinstance(profile, CategoryProfile):
        return (_levels(profile.levels) or "no values") + missing
    if profile.mean is None or profile.std is None:
        return "no values"
    return f"{format_number(profile.mean)} ± {format_number(profile.std)}{missing}"


def _levels(levels: Mapping[str, float]) -> str:
    largest = sorted(levels.items(), key=lambda item: (-item[1], item[0]))[:_MAX_LEVELS]
    return ", ".join(f"{clip(level, 24)} {format_percent(share, 0)}" for level, share in largest)


def importance_section(data: ReportData) -> Section | None:
    """Return the section on the permutation importance of the features."""
    importances = (data.training or {}).get("importances")
    if not importances:
        return None
    explanation = note(
        "Increase of the loss (log loss or mean squared error) after the values of one feature are shuffled in a "
        "sample of the training rows."
    )
    return section("importances", "Feature importance", importance_plot(importances), explanation)


def environment_section(data: ReportData) -> Section | None:
    """Return the section on the packages of the selected candidate's training."""
    requirements = (data.training or {}).get("requirements")
    if not requirements:
        return None
    packages = [(name, version) for name, _, version in (entry.partition("==") for entry in requirements)]
    rows: list[list[Cell]] = [[clip(name), Code(clip(version))] for name, version in packages]
    return section("environment", "Environment", Table(head=("Package", "Version"), rows=rows))


def steps_section(data: ReportData) -> Section | None:
    """Return the section on the duration of each step, and on the results from the store."""
    tasks = [task for task in data.tasks if task.result.step != "record_decision"]
    if not tasks:
        return None
    shown = tasks[:_MAX_TASKS]
    reused = sum(task.result.status == "cached" for task in tasks)
    total = format_duration(sum(task.result.seconds for task in tasks))
    return section(
        "timings",
        "Steps",
        Text(f"{format_count(len(tasks))} steps took {total}; {format_count(reused)} reused a result of the store."),
        Table(head=("Step", "Result", "Time", "Reason"), rows=[_step_row(task) for task in shown], numeric=(2,)),
        remaining(len(shown), len(tasks), "steps"),
    )


def _step_row(task: TaskRecord) -> list[Cell]:
    result = task.result
    candidate = result.values.get("candidate") if result.step == "train" else None
    label = f"{result.step} · {candidate}" if candidate else result.step
    return [clip(label), result.status, format_duration(result.seconds), clip(result.reason, 300)]
