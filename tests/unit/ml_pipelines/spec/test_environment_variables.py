from __future__ import annotations

import pytest

from ml_pipelines.errors import RequestError, SpecError
from ml_pipelines.spec.environment_variables import VARIABLES_VARIABLE, allowed_variables, is_allowed_variable
from ml_pipelines.spec.loader import parse_scoring, parse_spec

NEVER = [
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW_CONN_MLFLOW_DEFAULT",
    "AIRFLOW_VAR_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "ML_PIPELINES_CONNECTION_CRM",
    "ML_PIPELINES_LEDGER",
]


@pytest.fixture(autouse=True)
def no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLES_VARIABLE, raising=False)


def test_only_data_variables_are_allowed_by_default() -> None:
    assert is_allowed_variable("ML_DATA_REPO")
    assert is_allowed_variable("ML_PIPELINES_DATA_REPO")
    for name in [*NEVER, "HOME", "PATH", "AWS_SECRET_ACCESS_KEY", "ML_DATAX"]:
        assert not is_allowed_variable(name)


def test_a_deployment_allows_names_and_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES_VARIABLE, " WAREHOUSE_HOST, SHOP_*,, ")
    assert allowed_variables()[-2:] == ("WAREHOUSE_HOST", "SHOP_*")
    assert is_allowed_variable("WAREHOUSE_HOST")
    assert is_allowed_variable("SHOP_BUCKET")
    assert not is_allowed_variable("WAREHOUSE_HOST_2")


@pytest.mark.parametrize("name", NEVER)
def test_settings_with_secrets_are_never_allowed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES_VARIABLE, "A*,M*,_*")
    assert not is_allowed_variable(name)


@pytest.mark.parametrize(
    "value", ["*", "a-b", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__*", "ML_PIPELINES_LEDGER", "${A}"]
)
def test_list_of_something_else_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES_VARIABLE, f"SHOP_*,{value}")
    with pytest.raises(RequestError) as caught:
        allowed_variables()
    assert (caught.value.where, caught.value.got) == (VARIABLES_VARIABLE, value)


TRAINING = """\
model: {{name: m, task: classification}}
data:
  target: y
  key: id
  {source}
gate: {{metric: roc_auc}}
"""


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ('file: {path: "http://host/${AIRFLOW__CORE__FERNET_KEY}.csv"}', "data.file.path"),
        ('sql: {query: select 1, url: "postgresql://${MLFLOW_TRACKING_PASSWORD:-x}@h/d"}', "data.sql.url"),
        ('dvc: {repo: "https://${HOME}/x.git", path: a.csv}', "data.dvc.repo"),
    ],
)
def test_a_variable_that_is_not_allowed_is_a_mistake_with_its_line(source: str, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(TRAINING.format(source=source), path="m.yaml")
    (issue,) = caught.value.issues
    assert (issue.path, issue.line) == (path, 5)
    assert VARIABLES_VARIABLE in issue.hint


def test_a_scoring_follows_the_same_rule() -> None:
    text = 'model: {name: m}\ndata: {key: id, file: {path: "${HOME}/a.csv"}}\nshards: {count: 1}\n'
    with pytest.raises(SpecError) as caught:
        parse_scoring(text, path="s.yaml")
    assert [issue.path for issue in caught.value.issues] == ["data.file.path"]
