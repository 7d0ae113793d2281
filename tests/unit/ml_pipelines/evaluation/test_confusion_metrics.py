from __future__ import annotations

import numpy as np

from ml_pipelines.evaluation.confusion_metrics import LabelCounts, accuracy, balanced_accuracy, f1, precision, recall


def test_metrics_of_counts_of_two_labels_are_those_of_the_positive_one() -> None:
    counts = LabelCounts(np.array([[6.0, 2.0]]), np.array([[8.0, 2.0]]), np.array([6, 4]), binary=True)
    values = [float(metric(counts)[0]) for metric in (accuracy, balanced_accuracy, precision, recall, f1)]
    np.testing.assert_allclose(values, [0.8, 0.75, 1.0, 0.5, 2 / 3])


def test_metrics_of_counts_average_over_the_labels_that_occur() -> None:
    counts = LabelCounts(np.array([[3.0, 1.0, 0.0]]), np.array([[4.0, 1.0, 0.0]]), np.array([3, 2, 0]), binary=False)
    np.testing.assert_allclose([recall(counts)[0], precision(counts)[0]], [0.75, 0.875])
    np.testing.assert_allclose(balanced_accuracy(counts), [0.75])
