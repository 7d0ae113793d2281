from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points, metadata
from importlib.resources import files

import jsonschema

from ml_pipelines_airflow.provider_info import get_provider_info


def test_it_is_what_airflow_asks_for() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_finds_it_under_the_name_of_the_package() -> None:
    (entry,) = [
        each for each in entry_points(group="apache_airflow_provider") if each.value.startswith("ml_pipelines_airflow")
    ]
    assert entry.load() is get_provider_info
    assert get_provider_info()["package-name"] == metadata("airflow-provider-ml-pipelines")["Name"]


def test_every_module_that_it_names_is_there() -> None:
    info = get_provider_info()
    kinds = ("hooks", "operators", "sensors", "triggers", "bundles")
    named = [name for kind in kinds for each in info[kind] for name in each["python-modules"]]
    assert len(named) == len(set(named))
    for name in named:
        assert import_module(name).__all__, name


def test_every_class_and_function_that_it_names_is_there() -> None:
    info = get_provider_info()
    named = [
        *info["notifications"],
        *info["extra-links"],
        *(each["hook-class-name"] for each in info["connection-types"]),
        *(each["handler"] for each in info["asset-uris"]),
    ]
    for path in named:
        module, _, name = path.rpartition(".")
        assert callable(getattr(import_module(module), name)), path
        assert name in import_module(module).__all__, path


def test_every_integration_is_introduced() -> None:
    info = get_provider_info()
    known = {each["integration-name"] for each in info["integrations"]}
    kinds = ("hooks", "operators", "sensors", "triggers", "bundles")
    assert {each["integration-name"] for kind in kinds for each in info[kind]} == known


def test_every_hook_answers_to_its_connection_type() -> None:
    for each in get_provider_info()["connection-types"]:
        module, _, name = each["hook-class-name"].rpartition(".")
        hook = getattr(import_module(module), name)
        assert (hook.conn_type, hook.hook_name) == (each["connection-type"], each["hook-name"])


def test_the_plugin_comes_by_its_entry_point_alone() -> None:
    # Listed here too, it would be registered twice, which is an import error.
    assert "plugins" not in get_provider_info()
