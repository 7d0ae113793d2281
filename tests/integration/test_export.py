"""Export a run in a process of its own: `ml-pipelines export`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ml_pipelines._utils.canonical_json import load_json

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

FILES = ["README.md", "model.skops", "predictions.parquet", "test.parquet", "train.parquet", "validation.parquet"]


def export(shop: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ml-pipelines")), "export", *arguments]
    command += ["--store", str(shop.folder / "store")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=shop.folder)


@pytest.fixture
def evaluated(shop: Any) -> Any:
    """A shop with a run `partial` that ended after the evaluation."""
    shop.declare(model={"name": "exported", "task": "classification"})
    done = shop.run("partial", "--until", "evaluate")
    assert done.code == 0, done
    return shop


def artifact(shop: Any, step: str, output: str) -> Path:
    return Path(shop.records("partial")[step].result.outputs[output].uri.removeprefix("file://"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_export_has_the_tables_and_predictions_of_the_run(evaluated: Any) -> None:
    shop = evaluated
    done = export(shop, "partial", "--to", "a/b")
    assert (done.returncode, done.stderr) == (0, "")
    folder = shop.folder / "a" / "b"
    assert names(folder) == FILES
    for part in ("train", "validation", "test"):
        assert (folder / f"{part}.parquet").read_bytes() == artifact(shop, "split", part).read_bytes()
    assert (folder / "model.skops").read_bytes() == artifact(shop, "train", "model").read_bytes()
    predictions = pl.read_parquet(folder / "predictions.parquet")
    assert predictions.columns == ["part", "id", "label", "prediction", "probability"]
    evaluation = load_json(artifact(shop, "evaluate", "evaluation").read_bytes())
    (candidate,) = evaluation["candidates"]
    for part in ("validation", "test"):
        rows = predictions.filter(pl.col("part") == part)
        assert rows["id"].to_list() == pl.read_parquet(folder / f"{part}.parquet")["id"].to_list()
        score = roc_auc_score(rows["label"].to_numpy(), rows["probability"].to_numpy())
        assert score == pytest.approx(candidate[part]["roc_auc"], abs=1e-12)
        assert ((rows["probability"] >= 0.5).cast(pl.Int64) == rows["prediction"]).all()
    readme = (folder / "README.md").read_text()
    assert (
        f"| predictions.parquet | predictions of the model for the validation and test rows | {len(predictions)} | 5 |"
        in readme
    )
    assert "The run has no report" in readme


def test_the_latest_complete_run_has_a_report(evaluated: Any) -> None:
    shop = evaluated
    assert shop.run("complete").code == 0
    done = export(shop, "latest")
    assert (done.returncode, done.stderr) == (0, "")
    folder = shop.folder / "shop-complete"
    assert names(folder) == sorted([*FILES, "report.html"])
    assert "<html" in (folder / "report.html").read_text()
    # The second run without a change has no split of its own.
    assert shop.run("unchanged").code == 0
    done = export(shop, "unchanged")
    assert done.returncode == 1
    assert done.stderr.startswith("RequestError: run 'unchanged' of pipeline 'shop' did not run the step split\n")
    assert "--until evaluate" in done.stderr


def test_an_export_overwrites_nothing(evaluated: Any) -> None:
    (evaluated.folder / "there").mkdir()
    done = export(evaluated, "partial", "--to", "there")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("RequestError: the folder of the export exists\n  where: there\n")
    assert names(evaluated.folder / "there") == []
    (evaluated.folder / "file").write_text("kept")
    done = export(evaluated, "partial", "--to", "file/folder")
    assert done.returncode == 1
    assert done.stderr.startswith("RequestError: the ")
    assert (evaluated.folder / "file").read_text() == "kept"


def test_a_damaged_store_is_an_error_before_a_file_is_written(evaluated: Any) -> None:
    model = artifact(evaluated, "train", "model")
    content = model.read_bytes()
    model.write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")  # a pickle that would run a command
    done = export(evaluated, "partial", "--to", "changed")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ArtifactCorrupt: an artifact was changed after it was stored\n")
    model.write_bytes(content)
    artifact(evaluated, "split", "test").unlink()
    done = export(evaluated, "partial", "--to", "missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ArtifactMissing: the test table of run 'partial' does not exist\n")
    assert "store prune" in done.stderr
    assert not {"changed", "missing", "run"} & {*names(evaluated.folder)}


def test_an_unknown_run_is_an_error(shop: Any) -> None:
    done = export(shop, "latest")
    assert (done.returncode, done.stderr.partition("\n")[0]) == (1, "RequestError: no run has an evaluation")
    done = export(shop, "monday")
    assert (done.returncode, done.stderr.partition("\n")[0]) == (1, "RequestError: no pipeline has a run 'monday'")
