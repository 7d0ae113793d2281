"""Write the measurements as a table and a plot."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PLAIN = "plain script"
ROWS = {"5k": "5 thousand rows", "1m": "1 million rows", "10m": "10 million rows, from the CSV file to the split"}


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        who: the contestant's title.
        size: how many rows, as in `ROWS`.
        again: the second run, on nothing new.
        seconds: None if it failed.
        megabytes: of its largest process; None where others did the work.
    """

    who: str
    size: str
    again: bool
    seconds: float | None
    megabytes: float | None


@dataclass(frozen=True)
class Line:
    """One contestant's medians; None where nothing was measured, or a run failed."""

    who: str
    first: float | None
    ratio: float | None
    again: float | None
    megabytes: float | None


def lines(measured: Sequence[Measured], size: str) -> list[Line]:
    """Medians of a size, in the order in which contestants first ran; ratios to the plain script's first run."""
    own = [item for item in measured if item.size == size]
    firsts = {who: _median(own, who, again=False) for who in dict.fromkeys(item.who for item in own)}
    plain = firsts.get(PLAIN)
    return [
        Line(
            who,
            first,
            first / plain if first and plain else None,
            _median(own, who, again=True),
            _largest(own, who),
        )
        for who, first in firsts.items()
    ]


def table(rows: Sequence[Line]) -> str:
    """Markdown."""
    head = ["| | first run, s | beside the plain script | unchanged second run, s | largest process, MB |"]
    head.append("|---|---|---|---|---|")
    return "\n".join(
        [
            *head,
            *(
                f"| {row.who} | {_format(row.first)} | {_format(row.ratio, unit=' x')} | {_format(row.again)} "
                f"| {_format(row.megabytes, digits=0)} |"
                for row in rows
            ),
        ]
    )


def write(path: Path, measured: Sequence[Measured], absent: Mapping[str, str]) -> None:
    """The page, and its plot beside it."""
    sizes = list(dict.fromkeys(item.size for item in measured))
    rounds = max(Counter((item.who, item.size, item.again) for item in measured).values(), default=0)
    head = _HEAD.format(date=datetime.now(UTC), cores=os.cpu_count(), rounds=rounds, python=platform.python_version())
    parts = [head, *(f"## {ROWS[size]}\n\n{table(lines(measured, size))}\n" for size in sizes)]
    if absent:
        reasons = "\n".join(f"* {who}: {reason}" for who, reason in absent.items())
        parts.append(f"## Could not take part\n\n{reasons}\n")
    parts.append(f"![Seconds of the first and of the second run]({path.stem}.svg)\n")
    path.write_text("\n".join(parts))
    _plot(path.with_suffix(".svg"), {size: lines(measured, size) for size in sizes})


def _median(measured: Sequence[Measured], who: str, *, again: bool) -> float | None:
    actual = [item.seconds for item in measured if (item.who, item.again) == (who, again)]
    whole = [seconds for seconds in actual if seconds is not None]
    return statistics.median(whole) if whole and len(whole) == len(actual) else None


def _largest(measured: Sequence[Measured], who: str) -> float | None:
    return max((item.megabytes for item in measured if item.who == who and item.megabytes is not None), default=None)


def _format(value: float | None, *, digits: int = 2, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def _plot(path: Path, by_size: Mapping[str, Sequence[Line]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "race", "font.size": 9}
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(by_size), figsize=(5.5 * len(by_size), 3.6), squeeze=False, layout="constrained")
    for axis, (size, rows) in zip(axes[0], by_size.items(), strict=True):
        names = [row.who for row in rows][::-1]
        for values, offset, colour, label in (
            ([row.first for row in rows], 0.2, "#3b6ea8", "first run"),
            ([row.again for row in rows], -0.2, "#d98c3f", "again, unchanged"),
        ):
            places = [index + offset for index in range(len(rows))]
            axis.barh(places, [value or 0 for value in values[::-1]], height=0.38, color=colour, label=label)
        axis.set_yticks(range(len(rows)), names)
        axis.set_xlabel("seconds")
        axis.set_title(ROWS[size])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][-1].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


_HEAD = """# Comparison with other tools

The same pipeline on the same rows: read a CSV file, check it, preprocess it, split it, train a forest, evaluate it,
register it in MLflow and deploy it. `make bench` builds an environment for each tool, runs all of them in turn and
writes this page. Each round uses new folders.

The other tools run the same eight functions (`tests/benchmarks/peers/work.py`). This project runs its own steps with
the same forest. It also compares with a champion, computes intervals and importances, stores the model without pickle,
verifies the deployment in a separate process, and writes a ledger entry and a report.

{date:%Y-%m-%d}, {cores} cores, Python {python}, medians of {rounds} rounds.
The figures are seconds of one command from start to end. On Celery they are seconds from the trigger to the end of
the run, on warm workers after one run that does not count. Read the ratios, and measure on your own machine.

* `airflow dags test` starts with a migrated database.
* On the second run, Kedro checks that the files exist. DVC, Prefect and this project check whether they changed.
* The largest table runs only up to the split, each step in its own process, without the time of its imports.
"""
