from __future__ import annotations

import pytest

from ml_pipelines.adapters.declared_address import DeclaredAddress, resolve_address, split_credentials
from ml_pipelines.errors import SourceError, SourceNotFound
from ml_pipelines.spec.environment_variables import VARIABLES_VARIABLE


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES_VARIABLE, "A,B,EMPTY")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:pa%40ss@host:5000/x", ("https://host:5000/x", ("me", "pa@ss"))),
        ("HTTPS://me:pa@ss@host/x", ("https://host/x", ("me", "pa@ss"))),
        ("https://token@host/x", ("https://host/x", ("token", ""))),
        ("https://host/x", ("https://host/x", None)),
        ("postgresql://me:secret@db/x", ("postgresql://me:secret@db/x", None)),
    ],
)
def test_split_credentials_handles_web_addresses_only(
    address: str, expected: tuple[str, tuple[str, str] | None]
) -> None:
    assert split_credentials(address) == expected


@pytest.mark.parametrize(
    ("declared", "text"),
    [("${A}/x", "one/x"), ("${B:-two}", "two"), ("${EMPTY:-two}", "two"), ("${B:-}", ""), ("$A ${A", "$A ${A")],
)
def test_resolve_address_replaces_names_in_braces(declared: str, text: str) -> None:
    address = resolve_address(declared, {"A": "one", "EMPTY": ""}, field="data.file.path")
    assert (address.text, address.shown) == (text, declared)


def test_resolve_address_names_the_field_of_an_unset_variable() -> None:
    with pytest.raises(SourceNotFound) as caught:
        resolve_address("${ML_DATA_REPO}", {}, field="data.dvc.repo")
    assert caught.value.where == "data.dvc.repo"
    assert "ML_DATA_REPO" in caught.value.what
    assert "${ML_DATA_REPO:-...}" in caught.value.fix


@pytest.mark.parametrize("name", ["AIRFLOW__CORE__FERNET_KEY", "HOME", "ML_PIPELINES_LEDGER"])
def test_resolve_address_refuses_a_variable_that_is_not_allowed(name: str) -> None:
    with pytest.raises(SourceError) as caught:
        resolve_address(f"http://host/${{{name}}}.csv", {name: "s3cret-value"}, field="data.file.path")
    assert name in caught.value.what
    assert VARIABLES_VARIABLE in caught.value.fix
    assert "s3cret-value" not in str(caught.value)


def test_messages_show_the_declared_text_in_place_of_values() -> None:
    values = {"A": "http://me:pa55word@host/data", "ML_DATA_KEY": "k/ey+1"}
    address = resolve_address("${A}/x.csv?sig=${ML_DATA_KEY}", values, field="data.file.path")
    assert address.text == "http://me:pa55word@host/data/x.csv?sig=k/ey+1"
    assert "pa55word" not in repr(address)
    for message in (
        f"404: {address.text}",
        "no k%2Fey%2B1, no k/ey+1",
        "host pa55word",
        "http://host/data/x.csv?sig=k",
    ):
        shown = address.redact(message)
        assert "pa55word" not in shown
        assert "ey" not in shown
    assert address.redact(f"404: {address.text}") == f"404: {address.shown}"


def test_further_secrets_are_hidden() -> None:
    address = DeclaredAddress("/data", "/data", secrets=("s3cret/key", "https://me:pa55word@remote/x"))
    assert address.redact("s3cret/key s3cret%2Fkey pa55word") == "*** *** ***"
