"""What the race with the peers makes of what it has measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.benchmarks import large_tables
from tests.benchmarks.peers import race
from tests.benchmarks.peers.contestants import CONTESTANTS, HERE, declare
from tests.benchmarks.peers.race import SIZES, main
from tests.benchmarks.peers.report import PLAIN, ROWS, Line, Measured, lines, table, write

from ml_pipelines.spec.loader import load_spec

MEASURED = [
    Measured(PLAIN, "5k", False, 4.0, 300.0),
    Measured(PLAIN, "5k", True, 3.0, 310.0),
    Measured("Ours", "5k", False, 9.0, None),
    Measured(PLAIN, "5k", False, 6.0, 305.0),
    Measured("Ours", "5k", False, 3.0, None),
    Measured("Ours", "5k", True, 0.5, None),
    Measured("Other", "5k", False, 8.0, 100.0),
    Measured("Other", "5k", False, None, None),
    Measured("Ours", "1m", False, 1.0, None),
]


def test_medians_and_ratios_to_the_plain_script() -> None:
    assert lines(MEASURED, "5k") == [
        Line(PLAIN, first=5.0, ratio=1.0, again=3.0, megabytes=310.0),
        Line("Ours", first=6.0, ratio=1.2, again=0.5, megabytes=None),
        # One of its runs has failed, so that it has no median.
        Line("Other", first=None, ratio=None, again=None, megabytes=100.0),
    ]
    assert lines(MEASURED, "1m") == [Line("Ours", first=1.0, ratio=None, again=None, megabytes=None)]


def test_the_table_leaves_out_what_is_not_known() -> None:
    assert table(lines(MEASURED, "5k")).splitlines()[2:] == [
        "| plain script | 5.00 | 1.00 x | 3.00 | 310 |",
        "| Ours | 6.00 | 1.20 x | 0.50 | - |",
        "| Other | - | - | - | 100 |",
    ]


def test_the_page_names_who_could_not_take_part(tmp_path: Path) -> None:
    write(tmp_path / "page.md", MEASURED, {"Kedro": "no such version"})
    page = (tmp_path / "page.md").read_text()
    assert "medians of 2 rounds" in page
    assert page.index("## 5 thousand rows") < page.index("## 1 million rows") < page.index("* Kedro: no such version")
    assert "![Seconds of the first and of the second run](page.svg)" in page
    assert "<svg" in (tmp_path / "page.svg").read_text()


def test_every_contestant_has_what_it_is_made_of() -> None:
    for contestant in CONTESTANTS.values():
        assert contestant.environment is None or (HERE / "requirements" / f"{contestant.environment}.txt").is_file()
        assert contestant.command or contestant.server
    assert set(SIZES) == set(ROWS)


def test_the_versions_are_those_of_this_projects_lock() -> None:
    lock = (HERE.parents[2] / "requirements.txt").read_text().split()
    pinned = [line for line in (HERE / "requirements" / "common.txt").read_text().split() if "==" in line]
    assert pinned
    assert [pin for pin in pinned if pin not in lock] == []


def test_the_declaration_is_a_valid_one(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(json.dumps({"source": "rows.csv", "trees": 7}))
    declare(tmp_path)
    spec = load_spec(str(tmp_path / "dags" / "race.yaml"))
    assert spec.effective_candidates[0].params["n_estimators"] == 7
    assert yaml.safe_load((tmp_path / "dags" / "race.yaml").read_text())["model"]["name"] == "race"


def test_an_unknown_peer_or_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--peers", "plain,airflow"])
    with pytest.raises(SystemExit, match="unknown: airflow; expected some of plain, ours-cli"):
        main()


def test_the_largest_table_is_raced_up_to_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(task: str, csv: str, folder: str, rows: str) -> tuple[float, float, int]:
        if task == "generate":
            assert rows == "10000000"
        return (4.0, 8.0, 900 if task == "pandas:split" else 100) if "pandas" in task else (1.0, 2.0, 50)

    monkeypatch.setattr(race, "PLACE", tmp_path)
    monkeypatch.setattr(large_tables, "measure", measured)
    page = tmp_path / "page.md"
    monkeypatch.setattr(
        "sys.argv", ["bench", "--sizes", "10m", "--peers", "ours-celery,plain,ours-cli", "--report", str(page)]
    )
    monkeypatch.setattr(race, "_install", lambda environment: None)
    main()
    assert "| plain script | 16.00 | 1.00 x | - | 900 |" in page.read_text()
    assert "| ml-pipelines run | 4.00 | 0.25 x | - | 50 |" in page.read_text()
    assert f"| {CONTESTANTS['ours-celery'].title} |" not in page.read_text()
