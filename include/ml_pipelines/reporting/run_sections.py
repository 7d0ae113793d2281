"""The report's sections on what the run was given and how it went: data, rows, quality, drift, environment, time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines.data.drift import LARGE_DRIFT, MODERATE_DRIFT, FeatureDrift, compare_profiles
from ml_pipelines.pipeline.facts import TrainFacts
from ml_pipelines.reporting import plots
from ml_pipelines.reporting.components import facts, mark, more, note, section, table
from ml_pipelines.reporting.formatting import NOTHING, digest, duration, number, percent, size
from ml_pipelines.reporting.html import Child, Html, clipped, element
from ml_pipelines.reporting.report_data import ReportData

__all__ = [
    "data_section",
    "drift_section",
    "environment_section",
    "importances_section",
    "moved_row",
    "quality_section",
    "rows_section",
    "timings_section",
]

_SHOWN_CHECKS = 200
_SHOWN_FEATURES = 100
_SHOWN_REASONS = 50
_SHOWN_TASKS = 100


def data_section(evidence: ReportData) -> Html | None:
    """The version of the data."""
    pin = evidence.details.pin
    if not pin:
        return None
    revision, told = pin.revision, pin.digest
    return section(
        "data",
        "Data",
        facts(
            [
                ("Source", {"dvc": "DVC", "file": "file", "sql": "SQL"}.get(pin.source, pin.source)),
                ("Location", clipped(pin.location, 300)),
                ("Revision", element("code", clipped(revision)) if revision else None),
                ("Digest", element("code", clipped(told)) if told else None),
                ("Size", size(pin.bytes) if pin.bytes is not None else None),
                *_fingerprint(evidence.details.fingerprint),
            ],
            listed=True,
        ),
    )


def _fingerprint(fingerprint: dict[str, str] | None) -> list[tuple[str, Child]]:
    told = ", ".join(f"{name} {digest(value)}" for name, value in (fingerprint or {}).items())
    return [("Fingerprint", element("code", clipped(told, 300)))] if told else []


def rows_section(evidence: ReportData) -> Html | None:
    """Where every row went."""
    rows, parts = evidence.details.rows, evidence.details.parts or {}
    if not rows:
        return None
    total = rows.rows_in or 1
    flow: list[tuple[Child, ...]] = [("Rows in", f"{rows.rows_in:,}", percent(rows.rows_in / total))]
    flow.append(("Set aside", f"{rows.quarantined:,}", percent(rows.quarantined / total)))
    flow.append(("Kept", f"{rows.kept:,}", percent(rows.kept / total)))
    uses = {"train": "of which to learn from", "validation": "of which to choose by", "test": "of which to judge on"}
    flow += [(uses.get(name, name), f"{count:,}", percent(count / total)) for name, count in parts.items()]
    reasons = sorted(rows.quarantined_by_reason.items(), key=lambda each: (-each[1], each[0]))
    aside = [(clipped(reason, 300), f"{count:,}") for reason, count in reasons[:_SHOWN_REASONS]]
    return section(
        "rows",
        "Rows",
        table(("", "Rows", "Share"), flow, numbers=(1, 2)),
        table(("Why a row was set aside", "Rows"), aside, numbers=(1,)) if aside else None,
        more(len(aside), len(reasons), "reasons"),
    )


def quality_section(evidence: ReportData) -> Html | None:
    """What failed or warned, and in a fold what passed."""
    if not evidence.quality:
        return None
    checks = evidence.quality["checks"]
    failed = sorted((check for check in checks if not check["passed"]), key=lambda check: check["severity"] != "error")
    passed = [check for check in checks if check["passed"]]
    told = f"{len(passed):,} of {len(checks):,} checks passed"
    shown, held = failed[:_SHOWN_CHECKS], passed[:_SHOWN_CHECKS]
    return section(
        "quality",
        "Quality of the data",
        element("p", f"{told}."),
        _checks(shown) if shown else None,
        more(len(shown), len(failed), "checks that failed"),
        element("details", element("summary", "What passed"), _checks(held), more(len(held), len(passed), "checks"))
        if held
        else None,
    )


def _checks(checks: list[dict[str, Any]]) -> Html:
    rows = [
        (
            check["check"].replace("_", " "),
            clipped(check["column"] or NOTHING),
            mark(check["passed"], warning=check["severity"] != "error"),
            clipped(check["detail"], 600),
        )
        for check in checks
    ]
    return table(("Check", "Column", "Verdict", "What was found"), rows)


def drift_section(evidence: ReportData) -> Html | None:
    """How far the features have moved since the champion was trained."""
    training = evidence.training
    if training is None:
        return None
    if evidence.champion_training is None:
        why = evidence.champion_missing or "there is no champion to compare with"
        return section("drift", "Drift of the features", element("p", f"Not measured: {clipped(why, 500)}."))
    found = compare_profiles(evidence.champion_training["profile"], training["profile"])
    shown = found[:_SHOWN_FEATURES]
    moved = sum(each.index is not None and each.index >= MODERATE_DRIFT for each in found)
    return section(
        "drift",
        "Drift of the features",
        element(
            "p",
            f"{moved:,} of {len(found):,} features have moved since version {evidence.champion_version} was trained.",
        ),
        table(("Feature", "Stability index", "Verdict", "Then", "Now"), map(moved_row, shown), numbers=(1,)),
        note(
            f"Population stability index of the training rows: below {MODERATE_DRIFT} is stable, "
            f"from {LARGE_DRIFT} on it has shifted. Missing cells count as a value of their own."
        ),
        more(len(shown), len(found), "features"),
    )


def moved_row(each: FeatureDrift) -> tuple[Child, ...]:
    """A row of a table of drift: name, index, verdict, then and now."""
    if each.index is None:
        word = "new" if each.reference is None else "gone" if each.current is None else "another kind"
        verdict = element("span", word, class_="mark wait")
        return clipped(each.feature), NOTHING, verdict, _profile(each.reference), _profile(each.current)
    kind, word = (
        ("bad", "shifted")
        if each.index >= LARGE_DRIFT
        else ("wait", "moved")
        if each.index >= MODERATE_DRIFT
        else ("good", "stable")
    )
    verdict = element("span", word, class_=f"mark {kind}")
    return clipped(each.feature), f"{each.index:.3f}", verdict, _profile(each.reference), _profile(each.current)


def _profile(profile: Mapping[str, Any] | None) -> str:
    """A feature in a few words: its middle and spread, or its commonest values."""
    if profile is None:
        return NOTHING
    missing = f"; {percent(profile['missing'])} missing" if profile["missing"] else ""
    if "levels" in profile:
        top = sorted(profile["levels"].items(), key=lambda each: (-each[1], each[0]))[:3]
        return (
            f"{', '.join(f'{clipped(level, 24)} {percent(share, 0)}' for level, share in top) or 'no values'}{missing}"
        )
    if profile["mean"] is None:
        return "no values"
    return f"{number(profile['mean'])} ± {number(profile['std'])}{missing}"


def importances_section(evidence: ReportData) -> Html | None:
    """Which features the winner needs."""
    found = (evidence.training or {}).get("importances")
    if not found:
        return None
    told = (
        "A feature's values are shuffled among some of the training rows, and the loss (log loss, or mean squared "
        "error) rises by so much."
    )
    return section("importances", "Features that matter", plots.importances(found), note(told))


def environment_section(evidence: ReportData) -> Html | None:
    """The packages that the winner was trained with."""
    requirements = (evidence.training or {}).get("requirements")
    if not requirements:
        return None
    packages = [(name, version) for name, _, version in (each.partition("==") for each in requirements)]
    rows = [(clipped(name), element("code", clipped(version))) for name, version in packages]
    return section("environment", "Environment", table(("Package", "Version"), rows))


def timings_section(evidence: ReportData) -> Html | None:
    """How long each task took, and what was there already."""
    tasks = [task for task in evidence.tasks if task.result.step != "record_decision"]
    if not tasks:
        return None
    shown = tasks[:_SHOWN_TASKS]
    rows = [
        (_label(task), task.result.status, duration(task.result.seconds), clipped(task.result.reason, 300))
        for task in shown
    ]
    reused = sum(task.result.status == "cached" for task in tasks)
    total = duration(sum(task.result.seconds for task in tasks))
    return section(
        "timings",
        "Steps",
        element("p", f"{len(tasks):,} tasks took {total}; {reused:,} found their result in the store."),
        table(("Task", "How", "Time", "Why"), rows, numbers=(2,)),
        more(len(shown), len(tasks), "tasks"),
    )


def _label(task: Any) -> str:
    candidate = TrainFacts.of(task.result).candidate if task.result.step == "train" else None
    return clipped(f"{task.identity.task_id} · {candidate}" if candidate else task.identity.task_id)
