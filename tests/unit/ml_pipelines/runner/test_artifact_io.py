from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.runner.artifact_io import check_rows, read_input, save_tables
from ml_pipelines.store.artifact_store import ArtifactStore


def ref(rows: int) -> ArtifactRef:
    return ArtifactRef(uri="file:///x", sha256="0" * 64, bytes=1, rows=rows, kind="table")


def test_check_rows_refuses_a_step_that_loses_or_adds_rows() -> None:
    output = StepOutput(rows={("clean",): 3, ("clean", "quarantine"): 5})
    check_rows(output, {"clean": ref(3), "quarantine": ref(2)})
    for quarantined in (1, 3):
        with pytest.raises(DataError) as caught:
            check_rows(output, {"clean": ref(3), "quarantine": ref(quarantined)})
        assert (caught.value.where, caught.value.expected) == ("clean, quarantine", "5 rows")


def test_read_input_compares_the_rows_of_a_table_with_its_reference(tmp_path) -> None:
    store = ArtifactStore(str(tmp_path))
    with store.scratch() as directory:
        tables = {"clean": pl.LazyFrame({"x": [1, 2, 3]})}
        saved = save_tables(tables, store, directory, source=None, max_rows=None, cells_per_group=10)["clean"]
        assert len(read_input(saved, store, directory).collect()) == saved.rows == 3
        with pytest.raises(DataError) as caught:
            read_input(saved.model_copy(update={"rows": 4}), store, directory)
    assert (caught.value.where, caught.value.expected, caught.value.got) == (saved.uri, "4 rows", "3 rows")
