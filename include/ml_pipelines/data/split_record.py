"""The rule that split the rows of a training, in a form that assigns the rows of any later table."""

from __future__ import annotations

from typing import Literal

from ml_pipelines.contracts import Contract, JsonValue

__all__ = ["SplitRecord"]


class SplitRecord(Contract):
    """The split of a training.

    Attributes:
        method: `hash`, `stratified` or `time`.
        test: share of the test set.
        validation: share of the validation rows.
        column: the time column; None unless the method is `time`.
        key: the column that identifies a row; None if its content does.
        group: the column whose equal values stay in one part; None without groups.
        seed: of the hash.
        target: name of the target column.
        columns: `text`, `number` or `time` by column of the table.
        key_type: type of the key column in the delivery.
        limits: bounds of test and validation: hashes below them, by label in a stratified split, or times from them on.
        refit: whether the model also learned from the validation rows.
        positive: the positive label of the rows if none is declared; None unless there are two labels.
    """

    method: Literal["hash", "stratified", "time"]
    test: float
    validation: float
    column: str | None
    key: str | None
    group: str | None = None
    seed: int
    target: str
    columns: dict[str, str]
    key_type: str | None = None
    limits: dict[str, tuple[int, int]]
    refit: bool = False
    positive: JsonValue = None
