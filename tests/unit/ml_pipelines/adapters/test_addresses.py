from __future__ import annotations

import pytest

from ml_pipelines.adapters.addresses import expand_variables, redact, split_credentials
from ml_pipelines.errors import SourceNotFound


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/a.csv?sig=abc", "https://host/a.csv"),
        ("git@github.com:org/data.git", "git@github.com:org/data.git"),
        ("/data/a@b.csv", "/data/a@b.csv"),
        ("fatal: 'https://token@host/x' not found", "fatal: 'https://host/x' not found"),
        ("fatal: 'https://host/x?token=abc' not found", "fatal: 'https://host/x' not found"),
        ("at http://me:pa@ss@host:5000/x?y=1 now", "at http://host:5000/x now"),
        ("postgresql+psycopg2://me:secret@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("mysql://db/mlflow?user=me&password=secret&ssl=1", "mysql://db/mlflow?user=***&password=***&ssl=1"),
        ("sqlite:////srv/a@b/mlflow.db", "sqlite:////srv/a@b/mlflow.db"),
    ],
)
def test_redact_removes_secrets(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:pa%40ss@host:5000/x", ("https://host:5000/x", ("me", "pa@ss"))),
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
    ("text", "expected"),
    [("${A}/x", "one/x"), ("${B:-two}", "two"), ("${EMPTY:-two}", "two"), ("${B:-}", ""), ("$A ${A", "$A ${A")],
)
def test_expand_variables_replaces_names_in_braces(text: str, expected: str) -> None:
    assert expand_variables(text, {"A": "one", "EMPTY": ""}, field="data.file.path") == expected


def test_expand_variables_names_the_field_of_an_unset_variable() -> None:
    with pytest.raises(SourceNotFound) as caught:
        expand_variables("${DATA_REPO}", {}, field="data.dvc.repo")
    assert caught.value.where == "data.dvc.repo"
    assert "DATA_REPO" in caught.value.what
    assert "${DATA_REPO:-...}" in caught.value.fix
