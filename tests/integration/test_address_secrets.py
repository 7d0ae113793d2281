"""Generated credentials in addresses of all kinds, through the adapters that open them: nothing shows a part of one."""

from __future__ import annotations

import logging
import string
import subprocess
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ml_pipelines.adapters.dvc.source import DvcDataSource
from ml_pipelines.adapters.files.source import FileDataSource
from ml_pipelines.adapters.mlflow.client import MlflowServer
from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.adapters.sql.source import SqlDataSource
from ml_pipelines.errors import PipelineError
from ml_pipelines.spec.sources import DvcSource, FileSource, SqlSource
from ml_pipelines.store.filesystems.open import open_filesystem

pytestmark = pytest.mark.timeout(600)

CLOSED = "127.0.0.1:1"  # no server: the connection is refused at once
SECRETS = st.text(string.ascii_letters + string.digits + "@/:?#%+=&!$~.,;'\" [", min_size=8, max_size=24).map(
    lambda text: f"Zq7{text}Xk9"  # so that neither of its ends is in a message by chance
)
CASES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of all programs that the test runs."""
    recorded: list[str] = []
    run = subprocess.run

    def record(command: list[str], **options: Any) -> Any:
        recorded.extend(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", record)
    return recorded


def shown(call: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> str:
    """Return everything that the call shows: its result, or its error with the traceback, and its log."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        try:
            result = repr(call())
        except PipelineError as error:
            result = "\n".join([str(error), repr(error), *traceback.format_exception(error)])
    return f"{result}\n{caplog.text}"


def assert_hidden(text: str, secret: str) -> None:
    for spelling in {secret, quote(secret), quote(secret, safe=""), secret.encode("unicode_escape").decode()}:
        assert spelling not in text
    assert "Zq7" not in text
    assert "Xk9" not in text


@CASES
@example(secret="Zq7/0000000Xk9", encoded=False, scheme="s3")
@given(secret=SECRETS, encoded=st.booleans(), scheme=st.sampled_from(["http", "HTTP", "http-query", "s3", "chain"]))
def test_file_source(secret: str, encoded: bool, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    text = quote(secret, safe="") if encoded else secret
    address = {
        "http-query": f"http://{CLOSED}/a.csv?X-Amz-Signature={quote(secret, safe='')}",
        "s3": f"s3://key:{text}@bucket/a.csv",
        "chain": f"simplecache::http://me:{text}@{CLOSED}/a.csv",
    }.get(scheme, f"{scheme}://me:{text}@{CLOSED}/a.csv")
    assert_hidden(shown(FileDataSource(FileSource(path=address), {}).pin, caplog), secret)
    declared = FileSource(path="${ML_DATA_ADDRESS}")
    assert_hidden(shown(FileDataSource(declared, {"ML_DATA_ADDRESS": address}).pin, caplog), secret)


@CASES
@given(
    secret=SECRETS, encoded=st.booleans(), driver=st.sampled_from(["postgresql", "POSTGRES", "mysql+pymysql", "oracle"])
)
def test_sql_source_and_ledger(
    secret: str, encoded: bool, driver: str, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    text = quote(secret, safe="") if encoded else secret
    for url in (f"{driver}://me:{text}@{CLOSED}/shop", f"{driver}://{CLOSED}/shop?password={quote(secret, safe='')}"):
        declared = SqlDataSource(SqlSource(query="select 1", url=url), {})
        named = SqlDataSource(SqlSource(query="select 1", connection="shop"), {}, {"shop": url})
        for source in (declared, named):
            assert_hidden(shown(source.pin, caplog), secret)
            assert_hidden(shown(lambda source=source: source.fetch(source.pin(), str(tmp_path)), caplog), secret)
        assert_hidden(shown(lambda url=url: SqlLedger(url).models(), caplog), secret)


@CASES
@given(
    secret=SECRETS, encoded=st.booleans(), form=st.sampled_from(["http", "ssh", "scp", "git", "query", "connection"])
)
def test_dvc_source(
    secret: str, encoded: bool, form: str, caplog: pytest.LogCaptureFixture, commands: list[str]
) -> None:
    text = quote(secret, safe="") if encoded else secret
    repo = {
        "scp": f"me:{text}@127.0.0.1:x.git",
        "query": f"http://{CLOSED}/x.git?private_token={quote(secret, safe='')}",
    }.get(form, f"{'http' if form == 'connection' else form}://me:{text}@{CLOSED}/x.git")
    declared = DvcSource(connection="c", path="a.csv") if form == "connection" else DvcSource(repo=repo, path="a.csv")
    assert_hidden(shown(DvcDataSource(declared, {}, {"c": repo}).pin, caplog), secret)
    assert_hidden("\n".join(commands), secret)


@CASES
@given(secret=SECRETS, encoded=st.booleans(), scheme=st.sampled_from(["http", "HTTPS", "postgresql", "mysql+pymysql"]))
def test_addresses_of_mlflow_and_the_store(
    secret: str, encoded: bool, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = quote(secret, safe="") if encoded else secret
    address = f"{scheme}://me:{text}@{CLOSED}/ml"
    assert_hidden(shown(lambda: MlflowServer(address).where, caplog), secret)
    assert_hidden(shown(lambda: MlflowServer(address).page("models", "m"), caplog), secret)
    assert_hidden(shown(lambda: open_filesystem(address), caplog), secret)
    assert_hidden(shown(lambda: open_filesystem(f"s3://key:{text}@bucket/store"), caplog), secret)
