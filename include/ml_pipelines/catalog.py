"""The one table of the steps: what each computes and publishes, from what, into what.

A step has up to three phases, run in this order by :func:`ml_pipelines.run.run_step`:

* `resolve`: facts of the outside world that the result depends on (which data, which champion) become inputs.
* `compute`: a pure function of inputs, parameters and seed. Its result is stored under its recipe's key.
* `publish`: effects through ports, safe to repeat; done on a hit as on a miss.

The table is read without importing what it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ml_pipelines.contracts import ArtifactKind

__all__ = ["CATALOG", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row.

    Attributes:
        name: of the step.
        parameters: pydantic model whose fields are sections of the declaration, as `module:class`.
        resolve: `module:function`, or None.
        compute: `module:function`, or None.
        publish: `module:function`, or None.
        inputs: argument of `compute` -> `step.output` that it comes from. Those of a mapped step are a list.
        context: the same for arguments that only `publish` takes.
        facts: steps whose values `publish` reads.
        outputs: name -> kind. `shard_*` stands for as many as there are, `shard_0` and so on.
        modules: own modules whose source is part of the key, beside that of `compute`.
        packages: distributions whose versions are part of the key.
    """

    name: str
    parameters: str
    resolve: str | None = None
    compute: str | None = None
    publish: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    outputs: dict[str, ArtifactKind] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


_TABLES = ("polars",)
_MODELS = ("scikit-learn", "numpy", "scipy", "pandas", "polars", "skops")

CATALOG: dict[str, Step] = {
    step.name: step
    for step in (
        Step(
            name="ingest",
            parameters="ml_pipelines.parameters:IngestParameters",
            resolve="ml_pipelines.steps.ingest_outside:resolve",
            compute="ml_pipelines.steps.ingest:ingest",
            outputs={"table": "table"},
            modules=("ml_pipelines.cells", "ml_pipelines.tables"),
            packages=_TABLES,
        ),
        Step(
            name="compare_with_champion",
            parameters="ml_pipelines.parameters:CompareWithChampionParameters",
            publish="ml_pipelines.steps.compare_with_champion:publish",
            facts=("ingest",),
            context={"table": "ingest.table"},
        ),
        Step(
            name="check_quality",
            parameters="ml_pipelines.parameters:CheckQualityParameters",
            compute="ml_pipelines.steps.check_quality:check_quality",
            inputs={"table": "ingest.table"},
            outputs={"report": "json", "flagged": "table"},
            modules=(
                "ml_pipelines.findings",
                "ml_pipelines.keys",
                "ml_pipelines.leakage",
                "ml_pipelines.rules",
                "ml_pipelines.tables",
            ),
            packages=(*_TABLES, "pandera"),
        ),
        Step(
            name="preprocess",
            parameters="ml_pipelines.parameters:PreprocessParameters",
            compute="ml_pipelines.steps.preprocess:preprocess",
            inputs={"table": "ingest.table", "flagged": "check_quality.flagged"},
            outputs={"clean": "table", "quarantine": "table"},
            modules=("ml_pipelines.tables",),
            packages=_TABLES,
        ),
        Step(
            name="split",
            parameters="ml_pipelines.parameters:SplitParameters",
            compute="ml_pipelines.steps.split:split",
            inputs={"table": "preprocess.clean"},
            outputs={"train": "table", "validation": "table", "test": "table"},
            modules=("ml_pipelines.hashing", "ml_pipelines.tables"),
            packages=_TABLES,
        ),
        Step(
            name="train",
            parameters="ml_pipelines.parameters:TrainParameters",
            compute="ml_pipelines.steps.train:train",
            publish="ml_pipelines.steps.train:publish",
            inputs={"table": "split.train"},
            facts=("ingest",),
            outputs={"model": "model", "training": "json"},
            modules=(
                "ml_pipelines.allowlist",
                "ml_pipelines.estimators",
                "ml_pipelines.transformers",
                "ml_pipelines.frames",
                "ml_pipelines.profiles",
                "ml_pipelines.targets",
                "ml_pipelines.codecs",
            ),
            packages=_MODELS,
        ),
        Step(
            name="evaluate",
            parameters="ml_pipelines.parameters:EvaluateParameters",
            resolve="ml_pipelines.steps.evaluate_outside:resolve",
            compute="ml_pipelines.steps.evaluate:evaluate",
            publish="ml_pipelines.steps.evaluate_outside:publish",
            facts=("train",),
            inputs={
                "models": "train.model",
                "trainings": "train.training",
                "validation": "split.validation",
                "test": "split.test",
            },
            outputs={"evaluation": "json"},
            modules=(
                "ml_pipelines.bootstrap",
                "ml_pipelines.comparing",
                "ml_pipelines.metrics",
                "ml_pipelines.scoring",
                "ml_pipelines.frames",
                "ml_pipelines.transformers",
                "ml_pipelines.codecs",
            ),
            packages=_MODELS,
        ),
        Step(
            name="decide",
            parameters="ml_pipelines.parameters:DecideParameters",
            resolve="ml_pipelines.steps.decide:resolve",
            compute="ml_pipelines.steps.decide:decide",
            inputs={
                "evaluation": "evaluate.evaluation",
                "models": "train.model",
                "trainings": "train.training",
            },
            outputs={"decision": "json"},
            modules=("ml_pipelines.gate", "ml_pipelines.history", "ml_pipelines.metrics"),
        ),
        Step(
            name="register",
            parameters="ml_pipelines.parameters:RegisterParameters",
            publish="ml_pipelines.steps.register:publish",
            facts=("ingest", "compare_with_champion", "train"),
            context={
                "decision": "decide.decision",
                "models": "train.model",
                "trainings": "train.training",
            },
        ),
        Step(
            name="deploy",
            parameters="ml_pipelines.parameters:DeployParameters",
            publish="ml_pipelines.steps.deploy:publish",
            facts=("decide", "register"),
            context={"decision": "decide.decision", "trainings": "train.training"},
        ),
        Step(
            name="record_decision",
            parameters="ml_pipelines.parameters:RecordParameters",
            publish="ml_pipelines.steps.record_decision:publish",
            facts=(
                "ingest",
                "compare_with_champion",
                "check_quality",
                "preprocess",
                "split",
                "train",
                "evaluate",
                "decide",
                "register",
                "deploy",
            ),
            context={
                "decision": "decide.decision",
                "report": "check_quality.report",
                "trainings": "train.training",
                "evaluation": "evaluate.evaluation",
            },
        ),
    )
}
