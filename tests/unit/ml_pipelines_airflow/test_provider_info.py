from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points, metadata
from importlib.resources import files

import jsonschema

from ml_pipelines_airflow.provider_info import get_provider_info


def test_provider_info_matches_the_schema_of_airflow() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_provider_has_an_entry_point() -> None:
    (entry,) = [
        point
        for point in entry_points(group="apache_airflow_provider")
        if point.value.startswith("ml_pipelines_airflow")
    ]
    assert entry.load() is get_provider_info
    assert get_provider_info()["package-name"] == metadata("airflow-provider-ml-pipelines")["Name"]


def test_every_listed_module_exists() -> None:
    info = get_provider_info()
    kinds = ("hooks", "operators", "sensors", "triggers", "bundles")
    modules = [name for kind in kinds for row in info[kind] for name in row["python-modules"]]
    assert len(modules) == len(set(modules))
    for name in modules:
        assert import_module(name).__all__, name


def test_every_listed_class_and_function_exists() -> None:
    info = get_provider_info()
    paths = [
        *info["notifications"],
        *info["extra-links"],
        *(row["hook-class-name"] for row in info["connection-types"]),
        *(row["handler"] for row in info["asset-uris"]),
    ]
    for path in paths:
        module, _, name = path.rpartition(".")
        assert callable(getattr(import_module(module), name)), path
        assert name in import_module(module).__all__, path


def test_every_integration_is_described() -> None:
    info = get_provider_info()
    integrations = {row["integration-name"] for row in info["integrations"]}
    kinds = ("hooks", "operators", "sensors", "triggers", "bundles")
    assert {row["integration-name"] for kind in kinds for row in info[kind]} == integrations


def test_every_hook_has_its_connection_type() -> None:
    for row in get_provider_info()["connection-types"]:
        module, _, name = row["hook-class-name"].rpartition(".")
        hook = getattr(import_module(module), name)
        assert (hook.conn_type, hook.hook_name) == (row["connection-type"], row["hook-name"])


def test_plugin_is_not_listed() -> None:
    # Its entry point registers it, and a second registration is an import error.
    assert "plugins" not in get_provider_info()
