from __future__ import annotations

import pytest
from pydantic import ValidationError

from ml_pipelines.errors import ExtensionError, SpecError
from ml_pipelines.pipeline.step_parameters import IngestParameters, revised
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.sources import DvcSource, FileSource, source_class, source_kinds
from ml_pipelines.spec.training import PipelineSpec

DECLARATION = """\
model: {{name: churn, task: classification}}
data: {{{source}, target: label, key: id}}
gate: {{metric: roc_auc}}
"""
MODULE = """\
from typing import ClassVar
from ml_pipelines.spec.sources import SourceSection, Text

class WarehouseSource(SourceSection):
    kind: ClassVar[str] = "warehouse"
    adapter: ClassVar[str] = "warehouse_source:adapter"
    revision_field: ClassVar[str | None] = "snapshot"

    table: Text
    snapshot: str = "latest"
"""


def parse(source: str) -> PipelineSpec:
    return parse_spec(DECLARATION.format(source=source), path="churn.yaml")


def issues(source: str) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse(source)
    return {issue.path: f"{issue.message} {issue.hint}".strip() for issue in caught.value.issues}


@pytest.fixture
def warehouse(install):
    install("warehouse_source", MODULE, sources={"warehouse": "warehouse_source:WarehouseSource"})


def test_built_in_kinds_name_their_class():
    assert source_kinds() == ("dvc", "file", "sql")
    assert [source_class(kind).kind for kind in source_kinds()] == ["dvc", "file", "sql"]


def test_a_declaration_needs_exactly_one_source():
    assert issues("ignore: []") == {"data": "expected exactly one source: dvc, file or sql; got none"}
    assert issues("file: {path: a.csv}, sql: {query: select 1, url: u}") == {
        "data": "expected exactly one source: dvc, file or sql; got 2"
    }


def test_source_of_an_installed_package_is_declared_and_survives_json(warehouse):
    spec = parse("warehouse: {table: customers}")
    source = spec.data.source
    assert (source.kind, source.model_dump()) == ("warehouse", {"table": "customers", "snapshot": "latest"})
    assert PipelineSpec.model_validate_json(spec.model_dump_json()) == spec
    parameters = IngestParameters.of(spec)
    assert parameters.model_dump(mode="json")["source"] == {"warehouse": {"table": "customers", "snapshot": "latest"}}
    assert IngestParameters.model_validate_json(parameters.model_dump_json()) == parameters
    assert revised(source, "monday").model_dump()["snapshot"] == "monday"


def test_source_of_an_installed_package_reports_issues_at_their_place(warehouse):
    assert issues("warehouse: {tabel: customers}") == {
        "data.warehouse.tabel": 'unknown field "tabel": expected one of table, snapshot did you mean "table"?'
    }
    assert issues("warehouse: {table: 5}") == {"data.warehouse.table": 'expected text, got 5 put it in quotes: "5"'}
    assert issues("warehouse: {table: a}, file: {path: a.csv}") == {
        "data": "expected exactly one source: dvc, file, sql or warehouse; got 2"
    }


def test_unknown_source_names_the_installed_kinds(warehouse):
    matches = issues("warehose: {table: customers}")
    assert "warehouse" in matches["data.warehose"]
    assert matches["data.warehose"].endswith('did you mean "warehouse"?')


@pytest.mark.parametrize(
    ("name", "value", "key_fact"),
    [
        ("other", "warehouse_source:WarehouseSource", "kind = 'other'"),
        ("warehouse", "warehouse_source:missing", "AttributeError"),
        ("warehouse", "warehouse_source:Text", "subclass of"),
    ],
)
def test_broken_source_extension_raises_extension_error(install, name, value, key_fact):
    install("warehouse_source", MODULE, sources={name: value})
    with pytest.raises(ExtensionError) as caught:
        parse(f"{name}: {{table: customers}}")
    assert key_fact in str(caught.value)


def test_sources_of_parameters_keep_their_kind():
    assert revised(DvcSource(repo="r", path="p"), "v1") == DvcSource(repo="r", path="p", rev="v1")
    assert revised(FileSource(path="p"), None) == FileSource(path="p")


# --- Texts that Airflow's database, a terminal or a page could not take ---

LIMITED = """\
model: {{name: churn, task: classification}}
data: {{file: {{path: a.csv}}, target: label, key: id}}
gate: {{metric: roc_auc}}
{section}
"""


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ('description: "a\\0b"', "description"),
        ('description: "a\\x1bb"', "description"),
        ('description: "a\\u202eb"', "description"),
        (f"description: {'x' * 2001}", "description"),
        ('tags: ["a\\nb"]', "tags[0]"),
        (f"tags: [{'x' * 101}]", "tags[0]"),
        ('default_args: {owner: "a\\0"}', "default_args.owner"),
        ("default_args: {owner: ''}", "default_args.owner"),
        (f"default_args: {{owner: {'x' * 501}}}", "default_args.owner"),
        ('default_args: {email: ["a\\r@b.c"]}', "default_args.email[0]"),
        ('alerts: {slack: {channel: "#a\\0"}}', "alerts.slack.channel"),
        (f"alerts: {{slack: {{channel: c, connection: {'x' * 251}}}}}", "alerts.slack.connection"),
        ('schedule: {cron: "0\\0 2 * * *"}', "schedule.cron"),
        ('runtime: {train_model: {pool: "a\\tb"}}', "runtime.train_model.pool"),
        (f"runtime: {{train_model: {{queue: {'x' * 251}}}}}", "runtime.train_model.queue"),
        ('runtime: {train_model: {docker: {image: "a\\0"}}}', "runtime.train_model.docker.image"),
        (
            'candidates: [{name: a, estimator: sklearn.linear_model.Ridge, params: {x: ["\\0"]}}]',
            "candidates[0].params.x[0]",
        ),
        (
            'candidates: [{name: a, estimator: sklearn.linear_model.Ridge, params: {"\\0": 1}}]',
            r"candidates[0].params.\x00",
        ),
    ],
)
def test_text_that_a_database_can_not_store_is_a_mistake_with_its_line(section: str, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(LIMITED.format(section=section), path="m.yaml")
    assert [(issue.path, issue.line) for issue in caught.value.issues] == [(path, 4)]
    assert all(character.isprintable() or character == "\n" for character in str(caught.value))


@pytest.mark.parametrize("path", ["a" * 1201, "é" * 201, "a\nb", "a\0"])
def test_path_that_does_not_fit_into_the_uri_of_an_asset_is_a_mistake(path: str) -> None:
    with pytest.raises(ValidationError):
        DvcSource(repo="/data", path=path)


def test_texts_may_have_any_letters_and_a_description_lines() -> None:
    section = 'description: "été\\n\\tΩ 数"\ntags: ["été Ω 数 🎉"]\ndefault_args: {owner: "José Ωmega"}'
    spec = parse_spec(LIMITED.format(section=section), path="m.yaml")
    assert (spec.description, spec.tags, spec.default_args.owner) == ("été\n\tΩ 数", ("été Ω 数 🎉",), "José Ωmega")
