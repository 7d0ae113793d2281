"""The step table of the training: the functions, inputs and outputs of each step.

A step has up to three phases. :func:`ml_pipelines.runner.step.run_step` runs them in this order:

* `resolve` looks up external facts that the result depends on, such as the version of the data.
* `compute` is a pure function of inputs, parameters and seed. Its result is stored under its cache key.
* `publish` has effects through the ports. It is idempotent, and runs on a hit and on a miss.

The table is read without an import of these functions.
"""

from __future__ import annotations

from ml_pipelines.pipeline import facts
from ml_pipelines.pipeline.step import Step

__all__ = ["TRAINING_STEPS"]


TRAINING_STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step(
            name="ingest",
            parameters="ml_pipelines.pipeline.step_parameters:IngestParameters",
            resolve="ml_pipelines.steps.training.ingest_io:resolve",
            compute="ml_pipelines.steps.training.ingest:ingest",
            facts=facts.IngestFacts,
            outputs={"table": "table", "columns": "json"},
        ),
        Step(
            name="compare_with_champion",
            parameters="ml_pipelines.pipeline.step_parameters:CompareWithChampionParameters",
            publish="ml_pipelines.steps.training.compare_with_champion:publish",
            facts=facts.CompareFacts,
            reads=facts.FactsForComparison,
            context={"table": "ingest.table"},
        ),
        Step(
            name="check_quality",
            parameters="ml_pipelines.pipeline.step_parameters:CheckQualityParameters",
            compute="ml_pipelines.steps.training.check_quality:check_quality",
            facts=facts.QualityFacts,
            inputs={"table": "ingest.table"},
            outputs={"report": "json", "flagged": "table"},
        ),
        Step(
            name="preprocess",
            parameters="ml_pipelines.pipeline.step_parameters:PreprocessParameters",
            compute="ml_pipelines.steps.training.preprocess:preprocess",
            facts=facts.PreprocessFacts,
            inputs={"table": "ingest.table", "flagged": "check_quality.flagged"},
            outputs={"clean": "table", "quarantine": "table"},
        ),
        Step(
            name="split",
            parameters="ml_pipelines.pipeline.step_parameters:SplitParameters",
            compute="ml_pipelines.steps.training.split:split",
            facts=facts.SplitFacts,
            inputs={"table": "preprocess.clean", "columns": "ingest.columns"},
            outputs={"train": "table", "validation": "table", "test": "table", "rule": "json"},
        ),
        Step(
            name="train",
            parameters="ml_pipelines.pipeline.step_parameters:TrainParameters",
            compute="ml_pipelines.steps.training.train:train",
            publish="ml_pipelines.steps.training.train:publish",
            inputs={"table": "split.train", "validation": "split.validation", "split": "split.rule"},
            facts=facts.TrainFacts,
            reads=facts.FactsForTraining,
            outputs={"model": "model", "training": "json", "predictions": "table", "failure": "json"},
            failure="ml_pipelines.pipeline.candidate_failures:training_failure",
        ),
        Step(
            name="evaluate",
            parameters="ml_pipelines.pipeline.step_parameters:EvaluateParameters",
            resolve="ml_pipelines.steps.training.evaluate_io:resolve",
            compute="ml_pipelines.steps.training.evaluate:evaluate",
            publish="ml_pipelines.steps.training.evaluate_io:publish",
            facts=facts.EvaluateFacts,
            reads=facts.FactsForEvaluation,
            inputs={
                "models": "train.model",
                "trainings": "train.training",
                "predictions": "train.predictions",
                "failures": "train.failure",
                "train": "split.train",
                "validation": "split.validation",
                "test": "split.test",
            },
            outputs={"evaluation": "json"},
        ),
        Step(
            name="decide",
            parameters="ml_pipelines.pipeline.step_parameters:DecideParameters",
            resolve="ml_pipelines.steps.training.decide:resolve",
            compute="ml_pipelines.steps.training.decide:decide",
            facts=facts.DecideFacts,
            inputs={
                "evaluation": "evaluate.evaluation",
                "report": "check_quality.report",
                "models": "train.model",
                "trainings": "train.training",
            },
            outputs={"decision": "json"},
        ),
        Step(
            name="register",
            parameters="ml_pipelines.pipeline.step_parameters:RegisterParameters",
            publish="ml_pipelines.steps.training.register:publish",
            facts=facts.RegisterFacts,
            reads=facts.FactsForRegistration,
            context={
                "models": "train.model",
                "trainings": "train.training",
            },
        ),
        Step(
            name="deploy",
            parameters="ml_pipelines.pipeline.step_parameters:DeployParameters",
            publish="ml_pipelines.steps.training.deploy:publish",
            facts=facts.DeployFacts,
            reads=facts.FactsForDeployment,
            context={"trainings": "train.training"},
        ),
        Step(
            name="record_decision",
            parameters="ml_pipelines.pipeline.step_parameters:RecordParameters",
            publish="ml_pipelines.steps.training.record_decision:publish",
            facts=facts.RecordFacts,
            reads=facts.FactsForRecord,
            context={
                "report": "check_quality.report",
                "trainings": "train.training",
                "evaluation": "evaluate.evaluation",
            },
        ),
    )
}
