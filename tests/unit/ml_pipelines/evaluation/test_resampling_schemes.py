from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml_pipelines.errors import ExtensionError
from ml_pipelines.evaluation.resampling_schemes import LINEAR_ROWS, Sample, scheme_of
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import METRICS

BINARY = TargetSchema("classification", (0, 1), 1)


def sample(rows: int, positives: int) -> Sample:
    truth = (np.arange(rows) < positives).astype(np.int64)
    return Sample.of(BINARY, truth, {"model": truth * 0.5})


def test_sample_is_sorted_by_class() -> None:
    small = sample(5, 2)
    assert small.truth.tolist() == [0, 0, 0, 1, 1]
    assert small.predictions["model"].tolist() == [0, 0, 0, 0.5, 0.5]
    assert small.bounds == [(0, 3), (3, 5)]
    assert small.smallest_class == 2


@pytest.mark.parametrize(("rows", "linear"), [(LINEAR_ROWS, False), (LINEAR_ROWS + 1, True)])
def test_metrics_are_linear_above_the_limit(rows: int, linear: bool) -> None:
    weighted, large = (scheme_of(METRICS["log_loss"], sample(item, 50)).stream for item in (100, rows))
    assert (weighted != large) is linear


def test_average_precision_needs_many_rows_of_each_class_to_be_linear() -> None:
    few, many = sample(LINEAR_ROWS + 1, 1000), sample(LINEAR_ROWS + 1, 1001)
    metric = METRICS["average_precision"]
    assert scheme_of(metric, few) != scheme_of(metric, many)
    assert scheme_of(METRICS["roc_auc"], few) == scheme_of(METRICS["roc_auc"], many)


def test_scheme_may_be_a_function_of_another_package() -> None:
    metric = replace(
        METRICS["f1"], name="other", resampling="tests.unit.ml_pipelines.evaluation.test_resampling_schemes:resample"
    )
    assert scheme_of(metric, sample(10, 3)).resample is not None


def resample(*arguments: object) -> dict[str, dict[str, np.ndarray]]:
    return {}


def test_unknown_scheme_is_an_error() -> None:
    with pytest.raises(ExtensionError) as caught:
        scheme_of(replace(METRICS["f1"], resampling="jackknife"), sample(10, 3))
    assert caught.value.got == "'jackknife'"
    assert "generic" in caught.value.expected
