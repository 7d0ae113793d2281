"""The test rows that the champion has not learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ml_pipelines.data.split_record import SplitRecord
from ml_pipelines.data.split_rule import UnknownRows, learned_rows
from ml_pipelines.evaluation.evaluation_rows import EvaluationRows

__all__ = ["unlearned_rows"]


def unlearned_rows(rows: EvaluationRows, split: Mapping[str, Any] | None, min_rows: int) -> EvaluationRows:
    """Return the rows without the test rows that are training rows of the champion.

    With groups, all rows of a group with a training row are left out.

    Args:
        rows: the rows of the evaluation.
        split: record of the champion's split; None if its training record can't be read.
        min_rows: smallest size of a group of rows.

    Raises:
        UnknownRows: they can't be recognised, or no row is left.
    """
    if split is None:
        raise UnknownRows("its training record can't be read")
    learned = learned_rows(rows.test.table, SplitRecord.model_validate(split)).to_numpy()
    if (clusters := rows.test.clusters) is not None:
        learned = (np.bincount(clusters, learned) > 0)[clusters]
    if learned.all():
        raise UnknownRows(f"it has learned from all {len(learned)} test rows")
    return rows.without(learned, min_rows) if learned.any() else rows
