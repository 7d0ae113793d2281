"""The step tables of batch scoring and drift measurement.

They are separate from :mod:`ml_pipelines.pipeline.training`, because the fingerprint of a training covers the code of
all training steps and of no other step.
"""

from __future__ import annotations

from ml_pipelines.pipeline.step import Step

__all__ = ["BATCH_STEPS", "DRIFT_STEPS", "SCORING_STEPS"]

SCORING_STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step(
            name="ingest_batch",
            parameters="ml_pipelines.pipeline.batch_parameters:IngestBatchParameters",
            resolve="ml_pipelines.steps.batch.ingest_batch:resolve",
            compute="ml_pipelines.steps.batch.ingest_batch:ingest_batch",
            outputs={"table": "table"},
        ),
        Step(
            name="plan_shards",
            parameters="ml_pipelines.pipeline.batch_parameters:PlanShardsParameters",
            compute="ml_pipelines.steps.batch.plan_shards:plan_shards",
            inputs={"table": "ingest_batch.table"},
            outputs={"shard_*": "table"},
        ),
        Step(
            name="score_shard",
            parameters="ml_pipelines.pipeline.batch_parameters:ScoreShardParameters",
            resolve="ml_pipelines.steps.batch.score_shard:resolve",
            compute="ml_pipelines.steps.batch.score_shard:score_shard",
            outputs={"scores": "table", "quarantine": "table"},
        ),
        Step(
            name="collect_scores",
            parameters="ml_pipelines.pipeline.batch_parameters:CollectScoresParameters",
            resolve="ml_pipelines.steps.batch.collect_scores:resolve",
            compute="ml_pipelines.steps.batch.collect_scores:collect_scores",
            outputs={"scores": "table", "quarantine": "table"},
        ),
    )
}

DRIFT_STEPS: dict[str, Step] = {
    "measure_drift": Step(
        name="measure_drift",
        parameters="ml_pipelines.pipeline.batch_parameters:MeasureDriftParameters",
        resolve="ml_pipelines.steps.batch.measure_drift:resolve",
        compute="ml_pipelines.steps.batch.measure_drift:measure_drift",
        outputs={"report": "html", "drift": "json"},
    )
}

BATCH_STEPS = SCORING_STEPS | DRIFT_STEPS
"""The steps of batch scoring and of drift measurement."""
