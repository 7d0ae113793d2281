from __future__ import annotations

import pytest

from ml_pipelines.pipeline.batch import DRIFT_STEPS, SCORING_STEPS
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.spec.task_steps import DRIFT_TASKS, SCORING_TASKS, TRAINING_TASKS, task_of


@pytest.mark.parametrize(
    ("tasks", "steps"), [(TRAINING_TASKS, TRAINING_STEPS), (SCORING_TASKS, SCORING_STEPS), (DRIFT_TASKS, DRIFT_STEPS)]
)
def test_tasks_run_every_step_once_and_in_order(tasks, steps):
    assert [step for row in tasks.values() for step in row] == list(steps)


def test_task_of_returns_the_task_that_runs_a_step():
    assert task_of("split") == "preprocess_data"
    assert task_of("score_shard", SCORING_TASKS) == "score_shard"
    with pytest.raises(KeyError):
        task_of("score_shard", TRAINING_TASKS)
