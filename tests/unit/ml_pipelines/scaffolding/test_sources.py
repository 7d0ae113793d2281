from __future__ import annotations

import pytest

from ml_pipelines.errors import RequestError
from ml_pipelines.scaffolding.sources import declare_source, pipeline_name
from ml_pipelines.spec.sources import DvcSource, FileSource, SqlSource


def test_source_is_a_file_a_query_or_a_tracked_file() -> None:
    assert declare_source("a.csv") == FileSource(path="a.csv")
    query = "select * from t"
    assert declare_source(query, sql="warehouse") == SqlSource(query=query, connection="warehouse")
    assert declare_source("a.csv", dvc="${ML_DATA_REPO}") == DvcSource(path="a.csv", repo="${ML_DATA_REPO}")


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("", {}),
        ("select 1", {"sql": ""}),
        ("a.csv", {"sql": "warehouse", "dvc": "repo"}),
        ("https://me:secretword@host/a.csv", {}),
        ("a.csv", {"dvc": "https://me:secretword@host/repo"}),
    ],
)
def test_invalid_source_is_refused_without_its_secret(data: str, options: dict[str, str]) -> None:
    with pytest.raises(RequestError) as caught:
        declare_source(data, **options)
    assert caught.value.fix
    assert "secretword" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("data/customers-2026.csv", "customers-2026"),
        ("s3://bucket/Örtliche Kunden.csv.gz", "Ortliche_Kunden"),
        ("https://host/a.PARQUET?version=2", "a"),
        ("C:\\data\\sales.csv", "sales"),
        ("2024.csv", "2024"),
        ("x" * 300 + ".csv", "x" * 100),
    ],
)
def test_name_is_that_of_the_file(data: str, name: str) -> None:
    assert pipeline_name(data) == name


def test_requested_name_counts_first() -> None:
    assert pipeline_name("select 1", "churn", is_query=True) == "churn"


@pytest.mark.parametrize(("data", "name"), [("数.csv", None), ("/", None), ("a.csv", "ch urn"), ("a.csv", "")])
def test_data_without_a_valid_name_are_refused(data: str, name: str | None) -> None:
    with pytest.raises(RequestError, match="name") as caught:
        pipeline_name(data, name)
    assert "--name" in caught.value.fix


def test_query_needs_a_name() -> None:
    with pytest.raises(RequestError):
        pipeline_name("select 1 from customers", is_query=True)
