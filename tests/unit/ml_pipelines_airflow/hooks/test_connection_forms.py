from __future__ import annotations

import json
from importlib import import_module
from importlib.resources import files

import jsonschema

from ml_pipelines_airflow.hooks.connection_forms import CONNECTION_TYPES, HOOKS


def test_airflow_can_show_them() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    output = {"name": "n", "description": "d", "hooks": HOOKS, "connection-types": CONNECTION_TYPES}
    jsonschema.validate(output, schema)
    form = json.loads((files("airflow") / "customized_form_field_behaviours.schema.json").read_text())
    for kind in CONNECTION_TYPES:
        behaviour = {name.replace("-", "_"): value for name, value in kind["ui-field-behaviour"].items()}
        jsonschema.validate(behaviour, form)


def test_each_names_its_hook() -> None:
    for kind in CONNECTION_TYPES:
        module, _, name = kind["hook-class-name"].rpartition(".")
        hook = getattr(import_module(module), name)
        assert (hook.conn_type, hook.hook_name) == (kind["connection-type"], kind["hook-name"])
        assert hook.default_conn_name == f"{hook.conn_type}_default"
        assert hook.conn_name_attr in vars(hook())
    assert [kind["hook-class-name"].rpartition(".")[0] for kind in CONNECTION_TYPES] == [
        module for hook in HOOKS for module in hook["python-modules"]
    ]
