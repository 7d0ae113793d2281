"""Read the data of a future declaration, and run the first steps of a pipeline on them.

The steps are those of a run, so each rule about data has one place: its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from ml_pipelines.data.check_results import CheckResult, QualityReport
from ml_pipelines.data.class_labels import LabelCounts, count_labels
from ml_pipelines.data.column_expressions import BAD_CELLS, ROW, column
from ml_pipelines.data.column_findings import find_column_findings
from ml_pipelines.data.column_types import plain_types, type_name
from ml_pipelines.data.duplicate_keys import find_duplicate_keys
from ml_pipelines.data.source_table import SourceTable, source_errors
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.data.table_writer import write_tables
from ml_pipelines.errors import SourceUnreadable
from ml_pipelines.pipeline.step_parameters import (
    CheckQualityParameters,
    IngestParameters,
    PreprocessParameters,
    SplitParameters,
)
from ml_pipelines.ports import CELLS_PER_GROUP, Services
from ml_pipelines.spec.checks import Checks, ColumnType
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.sources import SourceSection
from ml_pipelines.spec.training import PipelineSpec, Split
from ml_pipelines.steps.training.check_quality import check_quality
from ml_pipelines.steps.training.ingest import ingest
from ml_pipelines.steps.training.ingest_io import fetch
from ml_pipelines.steps.training.preprocess import preprocess
from ml_pipelines.steps.training.split import split

__all__ = ["DataFile", "Inspection", "Table", "inspect", "open_data", "run_first_steps"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """The rows of a source in a local file.

    Attributes:
        section: the source as a declaration names it.
        source: the checked file.
        directory: of the file and of the tables that are read from it.
        on_rows: called with the number of rows of each batch that is read.
    """

    section: SourceSection
    source: SourceTable
    directory: str
    on_rows: Callable[[int], None]

    def read(self, target: str) -> Table:
        """Read the columns, with inferred types.

        Raises:
            DataError: no column has the name of the target, or there are no rows.
            SourceUnreadable: the file is not a table, or the target has no type of a declaration.
        """
        unreadable = self._unreadable_columns()
        if target in unreadable:
            raise unreadable[target]
        parameters = IngestParameters(source=self.section, types={}, key=None, target=target, ignore=tuple(unreadable))
        reasons = {name: f"has a type that no feature can have: {error.what}" for name, error in unreadable.items()}
        return Table(self.ingest(parameters), target, reasons)

    def ingest(self, parameters: IngestParameters) -> pl.LazyFrame:
        """Read the columns by the rules of a declaration, into a Parquet file."""
        path = str(Path(self.directory, "table.parquet"))
        table = ingest(source=self.source, parameters=parameters, seed=0).outputs["table"]
        with source_errors(self.source):
            write_tables({"table": table}, {"table": path}, cells_per_group=CELLS_PER_GROUP, log=self.on_rows)
        return pl.scan_parquet(path, glob=False)

    def _unreadable_columns(self) -> dict[str, SourceUnreadable]:
        """Return the columns that ingest would refuse, such as lists in a Parquet file, with the error."""
        with source_errors(self.source):
            rows = self.source.scan()
            schema = rows.collect_schema()
        errors = {}
        for name, dtype in schema.items():
            try:
                plain_types(rows, {name: dtype}, {})
            except SourceUnreadable as error:
                errors[name] = error
        return errors


@dataclass(frozen=True, slots=True)
class Table:
    """The typed rows of a source.

    Attributes:
        frame: the rows.
        target: name of the target.
        unreadable: columns that the frame lacks, with the reason.
    """

    frame: pl.LazyFrame
    target: str
    unreadable: Mapping[str, str]

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The types by column."""
        return {name: dtype for name, dtype in self.frame.collect_schema().items() if name != BAD_CELLS}

    @property
    def types(self) -> dict[str, ColumnType]:
        """The names of the types by column."""
        return {name: type_name(dtype) for name, dtype in self.schema.items()}

    def labels(self) -> LabelCounts | None:
        """Return the rows by label of the target, None if it holds no labels."""
        return count_labels(self.frame, self.target)

    def target_is_almost_numeric(self) -> bool:
        """Return whether a target of text holds numbers and a few other cells."""
        findings = find_column_findings(
            self.frame, {self.target: self.schema[self.target]}, roles=(), declared=(), split=Split()
        )
        return any(finding.check == "almost_numeric" for finding in findings)

    def identifies_rows(self, name: str) -> bool:
        """Return whether each row has its own value of a column."""
        missing = aggregate(self.frame.select(column(name).null_count())).item()
        if missing:
            return False
        numbered = self.frame.with_row_index(ROW)
        rows = aggregate(self.frame.select(pl.len())).item()
        return all(part.is_empty() for part in find_duplicate_keys(numbered, name, rows))

    def is_sorted(self, name: str) -> bool:
        """Return whether the values of a column never decrease."""
        cells = column(name)
        return bool(aggregate(self.frame.select((cells >= cells.shift()).fill_null(True).all())).item())


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the checks find in a table without a declaration.

    Attributes:
        table: the typed rows.
        labels: rows by label of the target, the rarest first; None if it holds no labels.
        report: the quality report.
    """

    table: Table
    labels: LabelCounts | None
    report: QualityReport

    @property
    def failed(self) -> list[CheckResult]:
        """The failed checks."""
        return [result for result in self.report.checks if not result.passed]

    @property
    def missing_shares(self) -> dict[str, float]:
        """The share of missing cells by column."""
        values = {result.column: result.value for result in self.report.checks if result.check == "missing"}
        return {name: float(value) for name, value in values.items() if name and isinstance(value, int | float)}


@contextmanager
def open_data(section: SourceSection, services: Services, on_rows: Callable[[int], None]) -> Iterator[DataFile]:
    """Download the current rows of a source into a temporary folder.

    Args:
        section: the source as a declaration names it.
        services: connect the source.
        on_rows: called with the number of rows of each batch that is read.
    """
    with TemporaryDirectory(prefix="ml-pipelines-") as directory:
        source = services.source(section)
        yield DataFile(section, fetch(source, source.pin(), directory), directory, on_rows)


def inspect(table: Table, labels: LabelCounts | None, task: Task) -> Inspection:
    """Check a table without declared columns, key and limits.

    Args:
        table: the typed rows.
        labels: rows by label of the target.
        task: of the model.
    """
    parameters = CheckQualityParameters(task=task, key=None, target=table.target, columns={}, checks=Checks())
    output = check_quality(table=table.frame, parameters=parameters, seed=0)
    return Inspection(table, labels, QualityReport.model_validate(output.outputs["report"]))


def run_first_steps(data: DataFile, spec: PipelineSpec) -> QualityReport:
    """Run the steps of a declaration up to the split, and return the quality report.

    Raises:
        DataError: a step can't use the rows.
    """
    table = data.ingest(IngestParameters.of(spec))
    checked = check_quality(table=table, parameters=CheckQualityParameters.of(spec), seed=spec.seed)
    report = QualityReport.model_validate(checked.outputs["report"])
    if report.verdict == "passed":
        rows = preprocess(
            table=table, flagged=checked.outputs["flagged"], parameters=PreprocessParameters.of(spec), seed=spec.seed
        )
        split(table=rows.outputs["clean"], parameters=SplitParameters.of(spec), seed=spec.seed)
    return report
