"""Generate the reference pages of the docs site from the source: declarations, command line, settings and API."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from griffe import Docstring, DocstringSectionKind
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import ml_pipelines
import ml_pipelines_airflow
from ml_pipelines.spec.metric_table import METRICS
from ml_pipelines.spec.task_steps import DRIFT_TASKS, SCORING_TASKS, TRAINING_TASKS
from ml_pipelines_airflow.config import CONFIG
from ml_pipelines_airflow.hooks.connection_forms import CONNECTION_TYPES

GENERATED = "<!-- Generated from the source by docs/_site/reference.py. -->\n\n"
SIMPLE = {str: "text", int: "integer", float: "number", bool: "true or false", timedelta: "duration"}
VARIABLES = {
    "ML_PIPELINES_STORE": "URI of the artifact store; default: the folder `.ml-pipelines/store`",
    "MLFLOW_TRACKING_URI": "MLflow server or database; default: SQLite in `.ml-pipelines`",
    "ML_PIPELINES_LEDGER": "SQLAlchemy URL of the ledger; default: SQLite in `.ml-pipelines`",
    "ML_PIPELINES_TRACKING_UI": "address of MLflow for browsers, if it differs from the tracking URI",
    "ML_PIPELINES_CELLS_PER_GROUP": "cells of a row group; bounds the memory of the steps from ingest to split",
    "ML_PIPELINES_SIGNING_KEY": "64 hex digits; signs results, see the page on security",
    "ML_PIPELINES_VERIFICATION_KEY": "64 hex digits; verifies signed results in a process without the signing key",
    "ML_PIPELINES_CODE_PACKAGES": "packages and modules whose code a declaration may name, beside the default ones",
    "ML_PIPELINES_CODE_PICKLE": "`allow` or `forbid` pickles of estimators of these packages; default: allow",
    "ML_PIPELINES_CODE_FOLDER": "folder of the allowed modules beside a declaration; set by the command line and DAGs",
    "ML_PIPELINES_TRUSTED_TYPES": "import paths of types that a model file may contain, beside the reviewed ones",
    "ML_PIPELINES_CONNECTION_<NAME>": "an SQLAlchemy URL, a git repository, or a JSON object for DVC",
}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def training() -> str:
    """Return the page about the declaration of a training pipeline."""
    intro = "A training declaration trains, evaluates and deploys a model. Its DAG file calls `training_dag(__file__)`."
    return _declaration("Training declaration", intro, ml_pipelines.PipelineSpec, TRAINING_TASKS)


def scoring() -> str:
    """Return the page about the declaration of batch scoring."""
    intro = "A scoring declaration scores a table with a registered model. Its DAG file calls `scoring_dag(__file__)`."
    return _declaration("Scoring declaration", intro, ml_pipelines.ScoringSpec, SCORING_TASKS)


def drift() -> str:
    """Return the page about the declaration of drift monitoring."""
    intro = "A drift declaration compares scored batches with a training. Its DAG file calls `drift_dag(__file__)`."
    return _declaration("Drift declaration", intro, ml_pipelines.DriftSpec, DRIFT_TASKS)


def cli() -> str:
    """Return the page about the command `ml-pipelines`."""
    import typer

    from ml_pipelines.cli.app import app

    command = typer.main.get_command(app)
    lines = ["# Command line", "", _text(command.help), ""]
    for path, sub in _commands(command, ("ml-pipelines",)):
        lines += [f"## {' '.join(path)}", "", _text(sub.help), "", *_parameters(path, sub)]
    return GENERATED + "\n".join(lines)


def settings() -> str:
    """Return the page about options, environment variables and connection types."""
    lines = ["# Settings", "", "Set these options in the section `[ml_pipelines]` of Airflow's configuration.", ""]
    lines += _table(
        ("Option", "Type", "Default", "Since", "Description"),
        [
            (f"`{name}`", o["type"], f"`{o['default']}`" if o["default"] else "", o["version_added"], o["description"])
            for name, o in sorted(CONFIG["ml_pipelines"]["options"].items())
        ],
    )
    lines += ["", "## Environment variables", "", "The command line and containers read these variables.", ""]
    lines += _table(("Variable", "Meaning"), [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()])
    lines += ["", "## Connection types", ""]
    for connection in CONNECTION_TYPES:
        lines += [f"### {connection['hook-name']}", "", f"Connection type `{connection['connection-type']}`.", ""]
        labels = connection["ui-field-behaviour"]["relabeling"]
        rows = [(f"`{name}`", label, "") for name, label in labels.items()]
        rows += [(f"`{name}`", f["label"], f["description"]) for name, f in connection["conn-fields"].items()]
        lines += [*_table(("Field", "Label", "Description"), rows), ""]
    return GENERATED + "\n".join(lines)


def metrics() -> str:
    """Return the page about metrics of models and URIs of assets."""
    rows = [
        (f"`{m.name}`", m.task, "higher" if m.greater_is_better else "lower", "two classes" if m.binary_only else "")
        for m in METRICS.values()
    ]
    lines = ["# Metrics and assets", "", "## Metrics of models", ""]
    lines += ["A gate can name these metrics. Installed packages can add metrics.", ""]
    lines += _table(("Metric", "Task", "Better", "Requires"), rows)
    assets = [
        ("`mlflow://<model>`", "a version becomes champion or is rolled back", "version, metrics, data pin"),
        ("`ml-pipelines://<pipeline>/scores`", "a batch is scored", "scores, counts, model, version, data pin"),
        ("`ml-pipelines://<model>/drift`", "drift exceeds the limits of a drift declaration", "measured indices"),
    ]
    lines += ["", "## Assets", "", *_table(("Asset URI", "Event when", "Content of `extra`"), assets), ""]
    return GENERATED + "\n".join(lines)


def core_api() -> str:
    """Return the page about the public names of `ml_pipelines`."""
    return _api("Python API", ml_pipelines, "Import these names from `ml_pipelines`. All other modules are internal.")


def airflow_api() -> str:
    """Return the page about the public names of `ml_pipelines_airflow`."""
    text = "Import these names from `ml_pipelines_airflow`. All other modules are internal."
    return _api("Airflow API", ml_pipelines_airflow, text)


def expand_api(markdown: str) -> str:
    """Replace each `::: name` by the signature and docstring, for readers without a rendered page."""
    return re.sub(r"^::: (\S+)$", lambda match: _plain_entry(match[1]), markdown, flags=re.MULTILINE)


def _declaration(title: str, intro: str, spec: type[BaseModel], tasks: dict[str, tuple[str, ...]]) -> str:
    lines = [
        f"# {title}",
        "",
        intro,
        "",
        "Durations are written `90s`, `5m`, `4h` or `1d`. Unknown keys are errors.",
        "",
    ]
    for path, section in _sections(spec, ""):
        lines += [f"## {path or 'Top level'}", "", _text(section.__doc__), ""]
        lines += _table(
            ("Key", "Type", "Default", "Description"),
            [_row(n, f, attributes(section)) for n, f in section.model_fields.items()],
        )
        lines.append("")
    lines += ["## Task ids", "", "`runtime` refers to these tasks. Steps are the unit of caching.", ""]
    lines += _table(("Task", "Steps"), [(f"`{t}`", ", ".join(f"`{s}`" for s in steps)) for t, steps in tasks.items()])
    return GENERATED + "\n".join([*lines, ""])


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section with its dotted path, parents first."""
    yield path, model
    for name, field in model.model_fields.items():
        for section in _models(field.annotation):
            many = {dict: ".<name>", tuple: "[]", list: "[]"}.get(get_origin(field.annotation) or object, "")
            yield from _sections(section, f"{path}.{name}{many}".lstrip("."))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def attributes(section: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of a section's keys, from the docstrings of its class and base classes."""
    descriptions: dict[str, str] = {}
    for base in reversed([base for base in section.__mro__ if issubclass(base, BaseModel)]):
        docstring = Docstring(inspect.cleandoc(base.__doc__ or ""), parser="google")
        for part in docstring.parse(warnings=False):
            if part.kind is DocstringSectionKind.attributes:
                descriptions.update({attribute.name: attribute.description for attribute in part.value})
    return descriptions


def _row(name: str, field: Any, descriptions: dict[str, str]) -> tuple[str, str, str, str]:
    bounds = [f"{BOUNDS[k]} {v}" for m in field.metadata for k in BOUNDS if (v := getattr(m, k, None)) is not None]
    kind = ", ".join([_type(field.annotation), *bounds])
    return f"`{name}`", kind, _default(field), _text(descriptions.get(name))


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(argument) for argument in arguments if argument is not type(None)))
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of name to {_type(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return SIMPLE.get(annotation, "value")


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, BaseModel):
        return "see section"
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    unit, size = next((u, s) for u, s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if seconds % s == 0)
    return f"{seconds // size}{unit}"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, sub in sorted(command.commands.items()):
        if hasattr(sub, "commands"):
            yield from _commands(sub, (*path, name))
        else:
            yield (*path, name), sub


def _parameters(path: tuple[str, ...], command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([*path, "[OPTIONS]", *(p.name.upper() for p in arguments)])
    rows = [
        (
            f"`{', '.join(p.opts) if p.param_type_name == 'option' else p.name.upper()}`",
            _type(p.type_descriptor.annotation),
            _text(p.help),
        )
        for p in command.params
        if p.name != "help"
    ]
    return ["```", usage, "```", "", *_table(("Parameter", "Type", "Description"), rows), ""]


def _api(title: str, package: Any, intro: str) -> str:
    names = [name for name in getattr(package, "__all__", []) if name != "__version__"]
    lines = [f"# {title}", "", intro, ""]
    for heading, wanted in (("Functions", inspect.isfunction), ("Classes", inspect.isclass)):
        members = [name for name in names if wanted(getattr(package, name))]
        lines += [f"## {heading}", ""] if members else []
        lines += [line for name in members for line in (f"::: {package.__name__}.{name}", "")]
    return GENERATED + "\n".join(lines)


def _plain_entry(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    try:
        signature = str(inspect.signature(value)).replace("'", "")
    except (TypeError, ValueError):
        signature = ""
    return f"### {attribute}\n\n```python\n{attribute}{signature}\n```\n\n{inspect.getdoc(value) or ''}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]


def _text(text: str | None) -> str:
    """Return a docstring as Markdown: one line a paragraph, roles as code."""
    plain = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", inspect.cleandoc(text or ""))
    plain = re.sub(r"\n(Attributes|Args|Raises|Returns):\n.*", "", plain, flags=re.DOTALL)
    return re.sub(r"(?<!\n)\n(?!\n)", " ", plain).strip()
