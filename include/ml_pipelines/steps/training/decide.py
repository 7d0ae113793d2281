"""Apply the rules of :mod:`ml_pipelines.promotion.gate` to the evaluation of the selected candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines.contracts import (
    Comparison,
    Decision,
    Finding,
    Identity,
    Interval,
    JsonValue,
    SliceMetrics,
)
from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.errors import RegistryError
from ml_pipelines.modeling.trusted_types import TYPES_VARIABLE
from ml_pipelines.pipeline.candidate_failures import failure_finding, parse_failures
from ml_pipelines.pipeline.step import References, Resolution, StepOutput, all_artifacts, one_artifact
from ml_pipelines.pipeline.step_parameters import DecideParameters
from ml_pipelines.ports import Services
from ml_pipelines.promotion.champion import champion_before_run, champion_record
from ml_pipelines.promotion.changes_since_champion import champion_changes, compared_rows
from ml_pipelines.promotion.gate import apply_gate
from ml_pipelines.promotion.history import hold_rolled_back, rolled_back_models
from ml_pipelines.spec.custom_metric import short_name

__all__ = ["decide", "resolve"]

Champion = dict[str, Any]

_TIMINGS = 5  # the minimum counts, since other processes only add time


def resolve(parameters: DecideParameters, inputs: References, services: Services, identity: Identity) -> Resolution:
    """Look up the champion, and measure the prediction time of the winner if the gate limits it.

    Both belong to the cache key. A measured time never repeats, so a time within the limit counts as the limit itself.

    Returns:
        Value `seconds_per_row` as it was measured, if it is limited.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    version = champion_before_run(services.registry, parameters.model, identity)
    champion: dict[str, JsonValue] | None = None
    if version is not None:
        champion = {"version": version.version, "sha256": version.artifact.sha256 if version.artifact else None}
    models = all_artifacts(inputs, "models")
    guards: dict[str, float] = {}
    values: dict[str, JsonValue] = {}
    limit = parameters.gate.guards.max_seconds_per_row
    if limit is not None:
        seconds = _seconds_per_row(inputs, services)
        values["seconds_per_row"] = seconds
        guards["seconds_per_row"] = limit if seconds <= limit else seconds
    withdrawn = rolled_back_models(services.ledger, parameters.model)
    before = champion_record(services, version)
    facts: dict[str, JsonValue] = {"champion": champion}
    facts |= {"champion_training": json_digest(before)} if before else {}
    facts |= {"guards": {**guards}} if guards else {}
    facts |= {"withdrawn": {**withdrawn}} if withdrawn else {}
    arguments = {"champion": champion, "guards": guards, "model_bytes": [ref.bytes for ref in models]}
    arguments |= {"withdrawn": withdrawn} if withdrawn else {}
    arguments |= {"champion_training": before} if before else {}
    return Resolution(key_facts=facts, values=values, prepare=lambda _: arguments)


def decide(
    *,
    evaluation: dict[str, Any],
    report: dict[str, Any],
    parameters: DecideParameters,
    seed: int,
    models: list[Callable[[], Any]],
    trainings: list[dict[str, Any]],
    model_bytes: list[int],
    champion: Champion | None = None,
    champion_training: dict[str, Any] | None = None,
    guards: dict[str, float] | None = None,
    withdrawn: dict[str, str] | None = None,
) -> StepOutput:
    """Apply the gate to the winner of an evaluation.

    Args:
        evaluation: output of the step `evaluate`.
        report: quality report, whose failed checks are findings of the decision.
        parameters: the gate, and the option `promote` of the run.
        seed: not used; nothing here is random.
        models: not used; `resolve` measures the winner.
        trainings: the candidates' training records.
        model_bytes: sizes of the candidates' files.
        champion: `version` and `sha256` of the champion; None without one.
        champion_training: record of the champion's training, to find what has changed since.
        guards: further measurements of the winner, by name.
        withdrawn: reasons for rollbacks by the sha256 of their files; see :mod:`ml_pipelines.promotion.history`.

    Returns:
        Output `decision`, a :class:`Decision`; the value `decision` of
        :class:`ml_pipelines.pipeline.facts.DecideFacts`.

    Raises:
        RegistryError: the champion is not the one that was evaluated.
    """
    winner = next(row for row in evaluation["candidates"] if row["candidate"] == evaluation["winner"])
    index = [training["candidate"] for training in trainings].index(winner["candidate"])
    same = champion is not None and champion["sha256"] is not None and champion["sha256"] == winner["sha256"]
    opponent = _opponent(evaluation, champion)
    changes = champion_changes(champion_training, trainings[index]) if champion_training else ()
    evidence = _evidence(
        evaluation,
        winner,
        opponent,
        parameters,
        candidate_index=index,
        fitted_rows=trainings[index]["rows"],
        champion_version=champion["version"] if champion else None,
        findings=(
            *_findings(report, evaluation, winner, opponent),
            *_pickle_findings(trainings[index]),
            *(_threshold_findings(trainings[index]) if "threshold" in winner else ()),
            *changes,
        ),
        guards={"model_bytes": float(model_bytes[index]), **(guards or {})},
    )
    decision = apply_gate(evidence, parameters.gate, promote=parameters.promote, same_as_champion=same)
    decision = hold_rolled_back(decision, (withdrawn or {}).get(winner["sha256"]))
    document = decision.model_dump(mode="json")
    return StepOutput(outputs={"decision": document}, values={"decision": document})


def _findings(
    report: dict[str, Any], evaluation: dict[str, Any], winner: dict[str, Any], opponent: dict[str, Any] | None
) -> Iterator[Finding]:
    """Return the findings about the data, the labels, and the rows of the comparison."""
    yield from QualityReport.model_validate(report).findings
    yield from map(failure_finding, parse_failures(evaluation.get("failures", ())))
    yield from _report_findings(evaluation.get("report_errors", {}))
    yield from _label_findings(winner)
    if opponent is not None:
        yield from compared_rows(opponent.get("rows"), evaluation["rows"]["test"], opponent.get("unknown_rows"))


def _evidence(
    evaluation: dict[str, Any],
    winner: dict[str, Any],
    opponent: dict[str, Any] | None,
    parameters: DecideParameters,
    **fields: Any,
) -> Decision:
    """Return the decision before the gate: its evidence. `fields` are further fields of the decision."""
    return Decision(
        outcome="held",
        reason="not decided yet",
        model=parameters.model,
        candidate=winner["candidate"],
        metric=parameters.gate.metric,
        metrics=winner["test"],
        dummy_metrics=evaluation["dummy"]["test"],
        champion_metrics=opponent["test"] if opponent else {},
        champion_error=opponent["error"] if opponent else None,
        intervals=_intervals(evaluation["intervals"]),
        champion_intervals=_intervals(evaluation["champion_intervals"]),
        comparison=_comparison(evaluation["comparison"]),
        dummy_comparison=_comparison(evaluation["dummy"]["comparison"]),
        constant=winner["constant"],
        threshold=winner.get("threshold"),
        champion_threshold=opponent.get("threshold") if opponent else None,
        slices=_slices(winner["slices"], opponent["slices"] if opponent else []),
        failures=tuple(parse_failures(evaluation.get("failures", ()))),
        report=tuple(dict.fromkeys(name for name in parameters.gate.report if name in winner["test"])),
        **fields,
    )


def _report_findings(errors: dict[str, str]) -> Iterator[Finding]:
    """Warn about a metric that decides nothing and could not be computed."""
    for name, error in errors.items():
        yield Finding(
            check="report_metric",
            severity="warn",
            detail=f"the metric {short_name(name)} of gate.report could not be computed: {error}",
            remedy="Correct the function, or remove it from `gate.report`. The decision does not depend on it.",
        )


def _label_findings(winner: dict[str, Any]) -> Iterator[Finding]:
    """Warn about a candidate whose labels are useless, although its probabilities may not be."""
    from ml_pipelines.evaluation.target_schema import THRESHOLD

    zero = [name for name in ("recall", "precision") if winner["test"].get(name) == 0]
    if not zero and winner["constant"] != "labels":
        return
    threshold = THRESHOLD if winner.get("threshold") is None else winner["threshold"]
    values = " and ".join(f"{name} 0" for name in zero) or "the same label for all test rows"
    yield Finding(
        check=zero[0] if zero else "labels",
        severity="warn",
        detail=f"{winner['candidate']} has {values} on the test set, at the threshold {threshold:.3g} of the "
        "probability",
        remedy="Use its probabilities only, or weight the classes, such as `params: {class_weight: balanced}`.",
    )


def _threshold_findings(training: Mapping[str, Any]) -> Iterator[Finding]:
    """Report a threshold that could not be tuned as declared."""
    tuned = training.get("threshold") or {}
    if problem := tuned.get("problem"):
        yield Finding(
            check="threshold",
            severity="warn",
            detail=f"The threshold of {training['candidate']} is the default {tuned['value']:g}: {problem}",
            remedy="Lower the minimum under `threshold.at_least`, or train with more rows.",
        )


def _pickle_findings(training: Mapping[str, Any]) -> Iterator[Finding]:
    """Warn about a model file that runs code when it is used."""
    if paths := training.get("pickled"):
        yield Finding(
            check="pickled_model",
            severity="warn",
            detail=f"the model file of {training['candidate']} contains a pickle of {', '.join(paths)}, which only a "
            "process without credentials loads",
            remedy="Nothing, if you trust the package. To store the model without a pickle, review the types and set "
            f"{TYPES_VARIABLE}.",
        )


def _intervals(documents: dict[str, Any]) -> dict[str, Interval]:
    return {name: Interval.model_validate(document) for name, document in documents.items()}


def _comparison(document: dict[str, Any] | None) -> Comparison | None:
    return None if document is None else Comparison.model_validate(document)


def _slices(candidate: list[dict[str, Any]], champion: list[dict[str, Any]]) -> tuple[SliceMetrics, ...]:
    of_champion = {(row["column"], row["level"]): row["metrics"] for row in champion}
    return tuple(
        SliceMetrics(
            column=row["column"],
            value="nothing" if row["level"] is None else str(row["level"]),
            rows=row["rows"],
            metrics=row["metrics"],
            champion_metrics=of_champion.get((row["column"], row["level"]), {}),
        )
        for row in candidate
    )


def _opponent(evaluation: dict[str, Any], champion: Champion | None) -> dict[str, Any] | None:
    """Return the evaluation of the champion: `test`, `slices` and `error`."""
    evaluated = evaluation["champion"]
    current = None if champion is None else champion["sha256"] or f"version {champion['version']}"
    expected = None if evaluated is None else evaluated["identity"]
    if current != expected:
        raise RegistryError(
            "the champion changed during the run",
            expected=f"the champion that was evaluated: {expected or 'none'}",
            got=current or "none",
            fix="start the run again, so that the candidates are compared with the current champion",
        )
    return dict(evaluated) if evaluated else None


def _seconds_per_row(inputs: References, services: Services) -> float:
    """Measure the prediction time of the winner for one row, on the smoke rows of its training."""
    from ml_pipelines._utils.canonical_json import load_json
    from ml_pipelines.modeling.estimators import estimator_errors
    from ml_pipelines.modeling.features import frame_from_records, predict
    from ml_pipelines.modeling.serialization import load_model

    evaluation = load_json(services.read(one_artifact(inputs, "evaluation")))
    trainings = [load_json(services.read(ref)) for ref in all_artifacts(inputs, "trainings")]
    index = [training["candidate"] for training in trainings].index(evaluation["winner"])
    training = trainings[index]
    model = load_model(services.read(all_artifacts(inputs, "models")[index]))
    frame = frame_from_records(training["smoke"]["rows"], training["features"])
    seconds = []
    for _ in range(_TIMINGS):
        started = time.perf_counter()
        with estimator_errors("the model fails to predict", where=training["candidate"], params=training["params"]):
            predict(model, frame, training)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(frame)
