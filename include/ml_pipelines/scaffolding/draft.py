"""Draft the declaration of a model from its data, and verify it by the first steps of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_pipelines.data.check_results import QualityReport
from ml_pipelines.errors import DataError
from ml_pipelines.ports import Services
from ml_pipelines.scaffolding.choices import Choice, Choices, Split, choose, choose_task, possible_splits
from ml_pipelines.scaffolding.declaration import write_yaml
from ml_pipelines.scaffolding.inspection import DataFile, inspect, open_data, run_first_steps
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.relative_paths import source_from
from ml_pipelines.spec.sources import SourceSection
from ml_pipelines.spec.training import PipelineSpec

__all__ = ["Draft", "DraftRequest", "draft_declaration"]

_HEADER = """\
A first declaration, written by `ml-pipelines init`. Each choice has its reason; correct it if you have better facts.
Check it: `ml-pipelines validate {file}`. Train the model: `ml-pipelines run {file}`."""
_SECTIONS: dict[tuple[str, ...], str] = {
    ("model",): "The name of the model in the registry, and its task.",
    ("data",): (
        "The source of the rows, and the rules of their columns. `on_fail: quarantine` removes the row of a cell that\n"
        "is not of the type; without it such a cell stops the run."
    ),
    ("checks",): "The rules of the whole table. A run that breaks one stops before the training.",
    ("split",): "The assignment of rows to training, validation and test.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """The facts that only a user can give.

    Attributes:
        section: the source; its relative path is relative to the working directory.
        target: column to predict.
        path: of the YAML file; its stem is the name of pipeline and model.
        task: of the model; None to choose it by the target.
    """

    section: SourceSection
    target: str
    path: Path
    task: Task | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A declaration that has passed the first steps of a run.

    Attributes:
        text: YAML with comments.
        spec: the declaration that the text declares.
        choices: with their reasons.
        report: quality report of the rows by the declaration.
    """

    text: str
    spec: PipelineSpec
    choices: tuple[Choice, ...]
    report: QualityReport


def draft_declaration(
    request: DraftRequest,
    services: Services,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Draft:
    """Read the data, choose a declaration, and run it up to the split.

    Args:
        request: source, target and name.
        services: connect the source.
        on_stage: called with a description of the work that starts.
        on_rows: called with the number of rows of each batch that is read.

    Raises:
        SourceError: the data can't be read.
        DataError: no model can predict the target with these rows.
    """
    on_stage("reading the data")
    with open_data(request.section, services, on_rows) as data:
        table = data.read(request.target)
        labels = table.labels()
        task, reason = choose_task(table, labels)
        if request.task is not None:
            task, reason = request.task, "as requested"
        on_stage(f"checking {len(table.types)} columns")
        inspection = inspect(table, labels, task)
        choices = choose(inspection, task)
        choices.log.insert(0, Choice("model.task", task, reason))
        on_stage("verifying the declaration")
        return _first_valid(request, data, choices, list(possible_splits(choices, inspection)))


def _first_valid(request: DraftRequest, data: DataFile, choices: Choices, splits: list[Split]) -> Draft:
    """Return the draft with the first split that leaves rows of each label in training.

    Raises:
        DataError: no split does, or a check stops the run.
    """
    refused: DataError | None = None
    for split in splits:
        text, spec, log = _draft(request, choices, split)
        try:
            report = run_first_steps(data, spec)
        except DataError as error:
            refused = refused or error
            continue
        _require_passed(report)
        return Draft(text=text, spec=spec, choices=log, report=report)
    assert refused is not None
    raise refused


def _require_passed(report: QualityReport) -> None:
    for failure in report.failures:
        raise DataError(failure.detail, where=failure.column or "", fix=failure.remedy)


def _draft(request: DraftRequest, choices: Choices, split: Split) -> tuple[str, PipelineSpec, tuple[Choice, ...]]:
    data = _plain_data(request, choices, split)
    log = (*choices.log, Choice("split", ", ".join(map(str, split.section.values())), split.reason))
    spec = PipelineSpec.model_validate({"name": request.path.stem, **data})
    candidates = ", ".join(candidate.name for candidate in spec.effective_candidates)
    log = (*log, Choice("candidates", candidates, f"the defaults of a {choices.task}"))
    comments = _comments(choices, log) | {
        ("gate",): f"The requirements for a promotion. Without `candidates`, these are trained: {candidates}."
    }
    text = write_yaml(data, comments, header=_HEADER.format(file=request.path))
    return text, parse_spec(text, path=request.path), log


def _plain_data(request: DraftRequest, choices: Choices, split: Split) -> dict[str, Any]:
    section = source_from(request.path.parent, request.section)
    chosen = {
        key: choices.data[key] for key in ("key", "target", "positive", "ignore", "columns") if key in choices.data
    }
    return {
        "model": {"name": request.path.stem, "task": choices.task},
        "data": {section.kind: section.model_dump(mode="json", exclude_defaults=True), **chosen},
        "checks": choices.checks,
        "split": split.section,
        "gate": {"metric": choices.metric},
    }


def _comments(choices: Choices, log: tuple[Choice, ...]) -> dict[tuple[str, ...], str]:
    """Return the reasons by the path of their key, and the texts above the sections."""
    comments = {tuple(choice.key.split(".", 2)): choice.reason for choice in log}
    comments |= {("data", "ignore", name): reason for name, reason in choices.ignored.items()}
    comments[("split", "method")] = comments.pop(("split",))
    return comments | _SECTIONS
