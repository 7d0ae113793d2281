from __future__ import annotations

import pytest

from ml_pipelines.errors import ExtensionError, SpecError
from ml_pipelines.pipeline.parameters import IngestParameters, revised
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
