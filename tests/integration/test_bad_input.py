"""Invalid input is reported in a few lines and leaves no partial results; the corrected input runs in seconds.

All tests share one trained store and start from a copy of it, so that corrected input hits the cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

COMMAND = Path(sys.executable).parent / "ml-pipelines"
NOBODY = 65534

Row = dict[str, Any]


@pytest.fixture(scope="module")
def trained() -> Iterator[dict[str, Path]]:
    """The store of a run that promoted its model, once a test has made it."""
    with tempfile.TemporaryDirectory() as folder:
        yield {"folder": Path(folder)}


@pytest.fixture
def shop(shop: Any, trained: dict[str, Path]) -> Any:
    """A shop that has run once, as run `first`."""
    if "store" not in trained:
        finished = shop.run("first")
        assert (finished.code, shop.outcome("first")) == (0, "promoted"), finished
        trained["store"] = shutil.copytree(shop.folder / "store", trained["folder"] / "store")
    else:
        shutil.copytree(trained["store"], shop.folder / "store")
    return shop


# Makes a run go on although nothing else has changed since the champion; nothing is trained for it.
OTHER_GATE = {"metric": "roc_auc", "lift_over_dummy": 0.02}


def rows_of(shop: Any) -> list[Row]:
    header, *lines = (line.split(",") for line in shop.csv.read_text().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def files_of(shop: Any) -> set[str]:
    return {path.relative_to(shop.folder / "store").as_posix() for path in (shop.folder / "store").rglob("*.*")}


def assert_error(finished: Any, error: str, **facts: str) -> None:
    """Assert that a command ended with this error and these facts, without a traceback."""
    assert finished.code == 1, finished
    assert "Traceback" not in finished.err
    lines = finished.err.splitlines()
    assert lines[0] == f"{error}: {facts.pop('what')}"
    for name, fact in facts.items():
        assert any(line.startswith(f"  {name}: ") and fact in line for line in lines[1:]), finished.err


def assert_unchanged(shop: Any, before: set[str], *done: str) -> None:
    """Assert that the failed run stored only the results of its finished steps, and no decision."""
    new = files_of(shop) - before
    created = {name.split("/")[1] for name in new if name.startswith("manifests/")}
    assert created <= set(done)
    assert set(shop.records("bad")) == set(done)
    assert not [name for name in new if name.startswith(("tmp/", "leases/"))]
    assert shop.ledger.entry("shop", "bad") is None
    if not done:
        assert not new


def assert_works(shop: Any) -> None:
    """Assert that a run with the corrected input ends as no_change."""
    finished = shop.run("corrected")
    assert finished.code == 0, finished
    assert shop.outcome("corrected") == "no_change"
    assert "train" not in shop.records("corrected")


def spoiled(text: str, how: str) -> bytes:
    lines = text.splitlines()
    changes: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "header only": lambda: lines[0].encode() + b"\n",
        "latin-1": lambda: text.replace("basic", "b\xe4sic").encode("latin-1"),
        "ragged": lambda: "\n".join([*lines[:4], lines[4] + ",more", *lines[5:]]).encode(),
        "too short": lambda: "\n".join([*lines[:4], lines[4].rpartition(",")[0], *lines[5:]]).encode(),
        "duplicate": lambda: text.replace("amount", "visits", 1).encode(),
        "no target": lambda: text.replace("label", "lable", 1).encode(),
    }
    return changes[how]()


UNREADABLE = {
    "empty": {"what": "the file is empty", "fix": "deliver a file with a header and rows"},
    "header only": {"what": "the file has a header and no rows", "fix": "deliver the rows as well"},
    "latin-1": {"what": "line 2 is not UTF-8 text", "where": "shop.csv:2", "fix": "UTF-8"},
    "ragged": {
        "what": "line 5 has 7 cells and the header 6",
        "where": "shop.csv:5",
        "expected": "6 cells",
        "got": ",more",
        "fix": "correct the line; quote a cell that holds a comma",
    },
    "too short": {"what": "line 5 has 5 cells and the header 6", "where": "shop.csv:5", "expected": "6 cells"},
    "duplicate": {"what": "several columns are called 'visits'", "fix": "give each column its own name"},
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_unreadable_file_is_reported(shop: Any, how: str) -> None:
    before, good = files_of(shop), shop.csv.read_bytes()
    shop.csv.write_bytes(spoiled(good.decode(), how))
    assert_error(shop.run("bad"), "NoRows" if how == "header only" else "SourceUnreadable", **UNREADABLE[how])
    assert_unchanged(shop, before)
    shop.csv.write_bytes(good)
    assert_works(shop)


def test_missing_column_is_reported(shop: Any) -> None:
    before, good = files_of(shop), shop.csv.read_bytes()
    shop.csv.write_bytes(spoiled(good.decode(), "no target"))
    finished = shop.run("bad")
    what = "the target 'label' is not in the data"
    facts = {"expected": "a column called 'label'", "got": "id, day, amount, visits, plan, lable"}
    assert_error(finished, "DataError", what=what, fix="did you mean 'lable'?", **facts)
    assert_unchanged(shop, before)
    shop.csv.write_bytes(good)
    assert_works(shop)


def test_missing_data_file_is_reported(shop: Any) -> None:
    before = files_of(shop)
    moved = shop.csv.rename(shop.folder / "shops.csv")
    finished = shop.run("bad")
    assert_error(
        finished, "SourceNotFound", what="there is no such file", where=str(shop.csv), fix="did you mean 'shops.csv'?"
    )
    assert_unchanged(shop, before)
    moved.rename(shop.csv)
    assert_works(shop)


def test_missing_environment_variable_is_reported(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(shop)
    shop.declare(data={"file": {"path": "${ML_DATA_SHOP}/shop.csv"}})
    monkeypatch.delenv("ML_DATA_SHOP", raising=False)
    what = "the environment variable ML_DATA_SHOP is not set"
    facts = {"where": "data.file.path", "expected": "a value for ${ML_DATA_SHOP}", "fix": "set ML_DATA_SHOP where"}
    assert_error(shop.run("bad"), "SourceNotFound", what=what, **facts)
    assert_unchanged(shop, before)
    monkeypatch.setenv("ML_DATA_SHOP", str(shop.folder))
    assert_works(shop)


def test_missing_dvc_revision_or_object_is_reported(shop: Any, dvc_repo: Callable[..., Any]) -> None:
    before = files_of(shop)
    repo = dvc_repo({"data/shop.csv": shop.csv.read_bytes()}, tag="v1", push=False)
    shutil.rmtree(repo.folder / ".dvc" / "cache")
    (repo.folder / "data" / "shop.csv").unlink()
    shop.declare(data={"file": None, "dvc": {"repo": str(repo.folder), "path": "data/shop.csv", "rev": "v2"}})
    assert_error(
        shop.run("bad"), "SourceNotFound", what="there is no revision 'v2'", got="main, v1", fix="correct `rev`"
    )
    assert_error(
        shop.run("bad", "--data-revision", "v1"),
        "SourceNotFound",
        what="the DVC remote does not have the file",
        fix="dvc push",
    )
    assert_unchanged(shop, before)
    repo.commit({"data/shop.csv": shop.csv.read_bytes()})
    finished = shop.run("corrected", "--data-revision", "v1")
    assert (finished.code, shop.outcome("corrected")) == (0, "no_change"), finished


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("label", "1", "only the class 1"),
        ("amount", "", "amount is missing in 400 of 400 rows"),
    ],
)
def test_unusable_table_stops_the_run(shop: Any, column: str, value: str, reason: str) -> None:
    good = shop.csv.read_bytes()
    shop.write([{**row, column: value} for row in rows_of(shop)])
    finished = shop.run("bad", "--require-promotion")
    assert (finished.code, shop.outcome("bad")) == (3, "stopped"), finished
    assert set(shop.records("bad")) == {"ingest", "compare_with_champion", "check_quality", "record_decision"}
    assert reason in " ".join(finished.out.replace("│", " ").split())
    shop.csv.write_bytes(good)
    assert_works(shop)


def test_invalid_rows_are_quarantined_and_counted(shop: Any) -> None:
    rows = rows_of(shop)
    for row in rows[:4]:
        row["label"] = ""
    for row in rows[10:13]:
        row["amount"] = "inf"
    rows[20]["label"] = "NaN"
    shop.write(rows)
    finished = shop.run("odd", "--promote", "never")
    assert finished.code == 0, finished
    values = shop.records("odd")["preprocess"].result.values
    assert (values["rows_in"], values["kept"], values["quarantined"]) == (400, 392, 8)
    assert values["quarantined_by_reason"] == {"target is missing": 5, "amount is infinite": 3}
    assert "400 = 392 kept + 8 quarantined" in finished.out


def test_target_leakage_holds_the_model(shop: Any) -> None:
    shop.write([{**row, "refund": int(row["label"]) * 2 + 1} for row in rows_of(shop)])
    finished = shop.run("leaky")
    assert finished.code == 0, finished
    assert shop.records("leaky")["record_decision"].result.values["outcome"] == "held"
    checked = shop.records("leaky")["check_quality"].result
    assert checked.values["verdict"] == "passed"
    assert checked.values["held"] == ["refund: leakage"]
    report = json.loads(shop.store.read(checked.outputs["report"]))
    (leak,) = [check for check in report["checks"] if check["check"] == "leakage" and check["column"]]
    assert (leak["column"], leak["severity"], leak["passed"]) == ("refund", "hold", False)
    assert "data: {ignore: [refund]}" in leak["remedy"]


def test_unseen_category_and_missing_value_are_evaluated(shop: Any) -> None:
    rows = rows_of(shop)
    for row in rows[300:]:  # the time split tests on the last 80 rows
        row["plan"], row["visits"] = "brand new", ""
    shop.write(rows)
    shop.declare(split={"method": "time", "column": "day"})
    finished = shop.run("later", "--promote", "never")
    assert finished.code == 0, finished
    evaluation = json.loads(shop.store.read(shop.records("later")["evaluate"].result.outputs["evaluation"]))
    assert evaluation["rows"]["test"] == 80
    assert 0 <= evaluation["candidates"][0]["test"]["roc_auc"] <= 1


def test_altered_artifact_is_refused_and_force_replaces_it(shop: Any) -> None:
    clean = shop.records("first")["preprocess"].result.outputs["clean"]
    path = Path(clean.uri.removeprefix("file://"))
    path = shop.folder / "store" / path.relative_to(path.parents[2])
    data = path.read_bytes()
    shutil.rmtree(shop.folder / "store" / "manifests" / "split")
    before = files_of(shop)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    facts = {"where": path.name, "expected": f"sha256 {clean.sha256}", "got": "sha256", "fix": "with `force`"}
    shop.declare(gate=OTHER_GATE)
    assert_error(shop.run("bad"), "ArtifactCorrupt", what="an artifact was changed after it was stored", **facts)
    assert_unchanged(shop, before, "ingest", "compare_with_champion", "check_quality", "preprocess")
    assert shop.run("forced", "--force", "--promote", "never").code == 0
    assert path.read_bytes() == data
    shop.declare()
    assert_works(shop)


def test_truncated_artifact_is_computed_again(shop: Any) -> None:
    for path in (shop.folder / "store" / "objects").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-10])
    shop.declare(gate=OTHER_GATE)
    assert shop.run("again", "--promote", "never").code == 0
    steps = shop.records("again")
    assert {name: steps[name].result.status for name in ("ingest", "split", "train")} == {
        "ingest": "computed",
        "split": "computed",
        "train": "computed",
    }
    assert "bytes instead of" in steps["ingest"].result.reason


def test_read_only_store_is_reported(shop: Any) -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        elsewhere = type(shop)(Path(folder), shop.command)
        shutil.copy(shop.csv, elsewhere.csv)
        elsewhere.declare()
        (elsewhere.folder / "store").mkdir(mode=0o555)
        if user == 0:  # who may write everywhere
            os.seteuid(NOBODY)
        try:
            finished = elsewhere.run("bad")
        finally:
            os.seteuid(user)
        facts = {"where": f"file://{folder}/store", "got": "Permission denied", "fix": "give its user permission to"}
        assert_error(finished, "StoreUnavailable", what="this process has no access to the store", **facts)
        assert not files_of(elsewhere)
        (elsewhere.folder / "store").chmod(0o755)
        shutil.copytree(shop.folder / "store", elsewhere.folder / "store", dirs_exist_ok=True)
        assert_works(elsewhere)


ESTIMATORS = {
    "unknown": (
        {"estimator": "sklearn.linear_model.LogisticRegresion"},
        "there is no estimator sklearn.linear_model.LogisticRegresion",
        "did you mean sklearn.linear_model.LogisticRegression?",
    ),
    "parameter": (
        {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"max_itr": 5}},
        "LogisticRegression has no parameter 'max_itr'",
        "did you mean max_iter?",
    ),
    "value": (
        {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": -1}},
        "LogisticRegression does not take these parameters",
        "correct params in the declaration",
    ),
}


@pytest.mark.parametrize("how", ESTIMATORS)
def test_invalid_estimator_is_reported_before_any_step(shop: Any, how: str) -> None:
    before = files_of(shop)
    wrong, what, fix = ESTIMATORS[how]
    shop.declare(candidates=[{"name": "linear", **wrong}, {"name": "other", "estimator": "sklearn.svm.Nothing"}])
    for finished in (shop.command("validate", shop.yaml), shop.run("bad")):
        assert finished.code == 1
        assert finished.err.startswith(f"SpecError: 2 issues in {shop.yaml}, which is read as a training\n")
        first, second = finished.err.split("\n\n")[1:]
        assert first.startswith(f"{shop.yaml}:")
        assert what in first
        assert fix in first
        assert ": candidates[1].estimator\n" in second
        assert "there is no estimator sklearn.svm.Nothing" in second
        assert not finished.out
    assert_unchanged(shop, before)
    shop.declare()
    assert_works(shop)


def test_all_issues_are_reported_at_once(shop: Any) -> None:
    before = files_of(shop)
    text = shop.yaml.read_text()
    wrong = {'"target"': '"traget"', "LogisticRegression": "LogisticRegresion", '"roc_auc"': '"roc_acu"'}
    for right, issue in wrong.items():
        text = text.replace(right, issue)
    shop.yaml.write_text(text)
    for finished in (shop.command("validate", shop.yaml), shop.run("bad")):
        assert finished.code == 1
        assert finished.err.startswith(f"SpecError: 3 issues in {shop.yaml}, which is read as a training\n")
        assert "did you mean target?" in finished.err.replace('"', "")
        assert "did you mean roc_auc?" in finished.err.replace('"', "")
        assert "did you mean sklearn.linear_model.LogisticRegression?" in finished.err
        assert "^^^^" in finished.err
    assert_unchanged(shop, before)
    shop.declare()
    assert_works(shop)


def test_unknown_options_of_a_run_are_refused(shop: Any) -> None:
    before = files_of(shop)
    finished = shop.run("bad", "--candidate", "forest")
    facts = {"where": "pipeline shop", "expected": "some of linear", "got": "forest", "fix": "name candidates of the"}
    assert_error(finished, "RequestError", what="there is no candidate 'forest'", **facts)
    finished = shop.run("bad", "--data-revision", "v1")
    facts = {
        "where": "data.file",
        "expected": "a source with revisions, such as data.dvc",
        "got": "data revision 'v1'",
        "fix": "leave the data",
    }
    assert_error(finished, "RequestError", what="a source of kind file has no revisions", **facts)
    assert_unchanged(shop, before)
    finished = shop.command("show", "bad", "--pipeline", "shop", "--store", shop.folder / "store")
    facts = {"where": str(shop.folder / "store"), "expected": "one of first", "got": "bad", "fix": "name a run that"}
    assert_error(finished, "RequestError", what="run 'bad' of pipeline 'shop' has no decision", **facts)
    assert_works(shop)


def test_command_in_a_process_reports_the_same(shop: Any) -> None:
    before, good = files_of(shop), shop.csv.read_bytes()
    shop.csv.write_bytes(spoiled(good.decode(), "ragged"))
    run = [COMMAND, "run", shop.yaml, "--store", shop.folder / "store", "--run-id", "bad"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("SourceUnreadable: line 5 has 7 cells and the header 6\n  where: ")
    assert "Traceback" not in done.stderr
    assert_unchanged(shop, before)
    shop.csv.write_bytes(good)
    assert subprocess.run(run, capture_output=True, text=True, check=False).returncode == 0
    assert shop.outcome("bad") == "no_change"
