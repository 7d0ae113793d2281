"""The checks of the data quality, and the constraints of columns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ml_pipelines.spec.code_packages import CodePath
from ml_pipelines.spec.sources import Count, Number, Section, Share

__all__ = [
    "Checks",
    "Column",
    "ColumnType",
    "CustomCheck",
    "InfiniteCheck",
    "KeysCheck",
    "LabelsCheck",
    "LeakageCheck",
    "MissingCheck",
    "RowsCheck",
    "Severity",
    "TableSeverity",
]

ColumnType = Literal["string", "integer", "float", "boolean", "date", "datetime"]
Severity = Literal["error", "hold", "warn", "quarantine"]
TableSeverity = Literal["error", "hold", "warn"]  # of a check that is not about single rows


class Column(Section):
    """The constraints of a column. A cell that can't be read as `type` violates them like a value out of bounds.

    Attributes:
        type: type of the cells.
        format: format of dates in text, such as `%d/%m/%Y`. The default is ISO 8601.
        min: smallest value.
        max: largest value.
        above: value below all values.
        below: value above all values.
        allowed: the only values.
        pattern: regular expression that each text matches.
        max_missing: largest share of missing cells.
        on_fail: what a violation leads to.
    """

    type: ColumnType
    format: str | None = None
    min: Number | None = None
    max: Number | None = None
    above: Number | None = None
    below: Number | None = None
    allowed: tuple[str | int | float | bool, ...] | None = None
    pattern: str | None = None
    max_missing: Share | None = None
    on_fail: Severity = "error"


class RowsCheck(Section):
    """The number of rows.

    Attributes:
        min: smallest number.
        max: largest number.
        on_fail: what a failure leads to.
    """

    min: Annotated[Count, Field(ge=1)] = 1
    max: Annotated[Count, Field(ge=1)] | None = None
    on_fail: TableSeverity = "error"


class MissingCheck(Section):
    """The share of missing cells in a column that declares no `max_missing`.

    Attributes:
        max_share: largest share.
        on_fail: what a failure leads to.
    """

    max_share: Share = 0.5
    on_fail: TableSeverity = "error"


class KeysCheck(Section):
    """Rows with a duplicate key.

    Attributes:
        on_fail: what a failure leads to. `quarantine` keeps the first row of each key.
    """

    on_fail: Severity = "error"


class LabelsCheck(Section):
    """The shares of the classes.

    Attributes:
        min_share: smallest share of the rarest class.
        on_fail: what a failure leads to.
    """

    min_share: Share = 0.01
    on_fail: TableSeverity = "error"


class LeakageCheck(Section):
    """Target leakage: a column that predicts the target alone.

    Attributes:
        max_auc: ROC-AUC from which a column is a leak; in a regression the rank correlation.
        on_fail: what a leak leads to.
    """

    max_auc: Annotated[Number, Field(gt=0.5, le=1)] = 0.99
    on_fail: TableSeverity = "hold"


class InfiniteCheck(Section):
    """Infinite numbers.

    Attributes:
        on_fail: what an infinite number leads to.
    """

    on_fail: Severity = "quarantine"


class CustomCheck(Section):
    """A function that checks the table.

    Attributes:
        function: import path of the function. It receives a frame with all columns. It returns a boolean for each row
            that is wrong, or a list of texts and findings.
        on_fail: what a failure leads to. `quarantine` removes the wrong rows.
    """

    function: CodePath
    on_fail: Severity = "error"


class Checks(Section):
    """The data quality checks.

    A failed `error` stops the run, `hold` holds the model for approval, `warn` is reported, `quarantine` removes the
    rows.

    Attributes:
        rows: the number of rows.
        missing: the share of missing cells.
        duplicate_keys: rows with a duplicate key.
        labels: the shares of the classes.
        leakage: columns that predict the target alone.
        infinite: infinite numbers.
        custom: functions that check the table.
        max_quarantined: largest share of rows in quarantine. A larger one stops the run.
    """

    rows: RowsCheck = RowsCheck()
    missing: MissingCheck = MissingCheck()
    duplicate_keys: KeysCheck = KeysCheck()
    labels: LabelsCheck = LabelsCheck()
    leakage: LeakageCheck = LeakageCheck()
    infinite: InfiniteCheck = InfiniteCheck()
    custom: tuple[CustomCheck, ...] = ()
    max_quarantined: Share = 0.05
