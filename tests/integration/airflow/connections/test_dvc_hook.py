from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ml_pipelines.errors import PipelineError, SourceError, SourceNotFound, SourceUnreadable
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.sources import DvcSource, SqlSource
from ml_pipelines_airflow.connections import airflow_settings
from ml_pipelines_airflow.hooks.dvc import DvcHook

# pygtrie, a dependency of DVC, uses its own deprecated API, and dvc-http that of aiohttp.
pytestmark = [
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:(BasicAuth|The 'auth' parameter) is deprecated:DeprecationWarning"),
]

CUSTOMERS, PATH = b"customer_id,label\n1,0\n2,1\n", "data/customers.csv"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DvcHook]:
    def define(**fields: Any) -> DvcHook:
        monkeypatch.setenv("AIRFLOW_CONN_DVC_DEFAULT", json.dumps({"conn_type": "dvc", **fields}))
        return DvcHook()

    return define


@pytest.fixture
def repo(dvc_repo: Callable[..., Any], git_host) -> Any:
    """A repository with a remote on a server with authentication."""
    repo = dvc_repo({PATH: CUSTOMERS}, tag="october")
    repo.use_remote(f"url = {git_host.url}/remote")
    repo.commit_git()
    shutil.rmtree(repo.folder / ".dvc" / "cache")
    return repo


@pytest.fixture
def fields(git_host) -> dict[str, Any]:
    """The fields of a connection: a token for git, user and password for the remote."""
    config = {"auth": "basic", "user": git_host.user, "password": git_host.password}
    return {"host": f"{git_host.url}/git/data-repo", "password": git_host.token, "extra": {"remote_config": config}}


def test_hook_pins_and_fetches(repo, git_host, fields, connect, tmp_path: Path) -> None:
    hook = connect(**fields)
    assert hook.test_connection() == (True, f"main is at {repo.git('rev-parse', 'HEAD')[:12]}")
    pin = hook.pin(PATH, "october")
    assert (pin.location, pin.revision) == (
        f"{git_host.url}/git/data-repo:{PATH}",
        repo.git("rev-parse", "october^{commit}"),
    )
    assert Path(hook.fetch(PATH, str(tmp_path))).read_bytes() == CUSTOMERS
    paths = {path.partition("?")[0] for _, path, authorization in git_host.seen if authorization}
    assert "/git/data-repo/git-upload-pack" in paths
    assert [path for path in paths if path.startswith("/remote/files/md5/")]


def test_secrets_are_neither_in_arguments_nor_in_logs(
    repo, git_host, fields, connect, tmp_path: Path, monkeypatch, caplog, capfd
) -> None:
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    caplog.set_level(logging.DEBUG)
    token = quote(git_host.token, safe="")
    connect(**fields | {"host": fields["host"].replace("://", f"://token:{token}@"), "password": None})
    settings = airflow_settings()
    adapter = ConnectedServices(settings).source(DvcSource(connection="dvc_default", path=PATH))
    assert Path(adapter.fetch(adapter.pin(), str(tmp_path))).read_bytes() == CUSTOMERS
    trace = (tmp_path / "trace").read_text()
    assert f"clone --quiet --bare -- {git_host.url}/git/data-repo" in trace
    out, err = capfd.readouterr()
    for text in (trace, caplog.text, out, err, repr(settings), adapter.pin().model_dump_json()):
        assert git_host.token not in text
        assert token not in text
        assert git_host.password not in text


def test_connection_from_the_environment(repo, git_host, fields, tmp_path: Path) -> None:
    address = fields["host"].replace("://", f"://token:{quote(git_host.token, safe='')}@")
    connection = {"repo": address, **fields["extra"]}
    settings = Settings.from_environment({"ML_PIPELINES_CONNECTION_SALES": json.dumps(connection)})
    adapter = ConnectedServices(settings).source(DvcSource(connection="sales", path=PATH, rev="october"))
    # At the tag the remote is a local folder, which does not take these settings.
    with pytest.raises(SourceUnreadable, match="DVC can't read the repository"):
        adapter.fetch(adapter.pin(), str(tmp_path))
    plain = ConnectedServices(Settings.from_environment({"ML_PIPELINES_CONNECTION_SALES": address}))
    adapter = plain.source(DvcSource(connection="sales", path=PATH, rev="october"))
    assert Path(adapter.fetch(adapter.pin(), str(tmp_path))).read_bytes() == CUSTOMERS
    # A declared repository gets the credentials only on the server of the connection.
    adapter = plain.source(DvcSource(repo=fields["host"], connection="sales", path=PATH))
    assert adapter.pin().revision == repo.git("rev-parse", "HEAD")
    adapter = plain.source(
        DvcSource(repo=fields["host"].replace("127.0.0.1", "localhost"), connection="sales", path=PATH)
    )
    with pytest.raises(SourceError, match="the git server refuses access"):
        adapter.pin()


def test_database_source_uses_its_connection(monkeypatch) -> None:
    fields = {"conn_type": "postgres", "host": "db", "login": "u", "password": "s3cret", "schema": "sales"}
    monkeypatch.setenv("AIRFLOW_CONN_SALES", json.dumps(fields))
    source = ConnectedServices(airflow_settings()).source(SqlSource(query="select 1", connection="sales"))
    assert re.fullmatch(r"postgresql(\+\w+)?://db/sales", source.pin().location)
    source = ConnectedServices(airflow_settings()).source(SqlSource(query="select 1", connection="nowhere"))
    with pytest.raises(SourceNotFound, match="there is no connection 'nowhere'"):
        source.pin()


def test_wrong_credentials_are_reported_without_them(repo, git_host, fields, connect, tmp_path: Path) -> None:
    hook = connect(**fields | {"password": "wr0ng-token"})
    ok, message = hook.test_connection()
    assert not ok
    assert message.startswith("the git server refuses access - ")
    assert "name a connection with a user and a token" in message
    with pytest.raises(SourceError, match="the git server refuses access") as caught:
        hook.pin(PATH)
    assert "wr0ng" not in message + str(caught.value)

    wrong = {"auth": "basic", "user": git_host.user, "password": "wr0ng-password"}
    hook = connect(**fields | {"extra": {"remote_config": json.dumps(wrong)}})
    assert hook.pin(PATH).bytes == len(CUSTOMERS)
    with pytest.raises(SourceError, match="the storage refuses access") as caught:
        hook.fetch(PATH, str(tmp_path))
    assert "wr0ng" not in str(caught.value)


def test_remote_has_a_name(repo, git_host, fields, connect, tmp_path: Path) -> None:
    hook = connect(**fields | {"extra": {"remote": "rr"}})
    with pytest.raises(SourceNotFound, match="the repository has no DVC remote 'rr'") as caught:
        hook.fetch(PATH, str(tmp_path))
    assert (caught.value.got, caught.value.fix) == ("r", "did you mean 'r'?")
    config = fields["extra"]["remote_config"] | {"url": f"{git_host.url}/remote"}
    hook = connect(**fields | {"extra": {"remote": "mirror", "remote_config": config}})
    assert Path(hook.fetch(PATH, str(tmp_path), "october")).read_bytes() == CUSTOMERS


def test_repository_without_a_default_remote_raises(repo, fields, connect, tmp_path: Path) -> None:
    (repo.folder / ".dvc" / "config").write_text("")
    repo.commit_git()
    with pytest.raises(SourceError, match="no default DVC remote") as caught:
        connect(**fields).fetch(PATH, str(tmp_path))
    assert caught.value.fix == "give the connection the name of a remote"


def test_local_folder_is_a_repository(repo, connect) -> None:
    assert connect(host=str(repo.folder)).test_connection() == (
        True,
        f"main is at {repo.git('rev-parse', 'HEAD')[:12]}",
    )
    assert connect(host=str(repo.folder)).pin(PATH).location == f"{repo.folder}:{PATH}"
    ok, message = connect(host=str(repo.folder / "nowhere")).test_connection()
    assert (ok, message.partition(" - ")[0]) == (False, "there is no such folder")


def test_missing_or_empty_repository_is_reported(repo, git_host, fields, connect) -> None:
    ok, message = connect(**fields | {"host": f"{git_host.url}/git/nothing"}).test_connection()
    assert (ok, message.partition(" - ")[0]) == (False, "there is no such git repository")
    shutil.rmtree(repo.folder / ".git")
    repo.git("init", "--quiet")
    ok, message = connect(**fields).test_connection()
    assert (ok, message) == (False, "the git repository is empty - push a commit")


def test_silent_server_times_out(connect, monkeypatch) -> None:
    monkeypatch.setattr("ml_pipelines_airflow.hooks.dvc.TIMEOUT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ok, message = connect(host=f"http://127.0.0.1:{silent.getsockname()[1]}/data.git").test_connection()
    assert not ok
    assert message.startswith(("git did not finish within 2 s", "the git server does not answer"))


def test_invalid_connections_are_reported(connect) -> None:
    with pytest.raises(PipelineError, match="the connection has no host"):
        connect().pin(PATH)
    assert connect().test_connection() == (False, "the connection has no host - correct the connection")
    for config in ("[1]", "no JSON"):
        ok, message = connect(host="/data", extra={"remote_config": config}).test_connection()
        assert (ok, message) == (
            False,
            "the connection has an invalid remote_config - correct the connection",
        )
    settings = Settings.from_environment({"ML_PIPELINES_CONNECTION_SALES": '{"repo": 1, "pass": "s3cret"}'})
    for name, what in (("sales", "the connection 'sales' can't be read"), ("sale", "there is no connection 'sale'")):
        adapter = ConnectedServices(settings).source(DvcSource(connection=name, path=PATH))
        with pytest.raises(SourceError, match=what) as caught:
            adapter.pin()
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
    settings = Settings.from_environment({"ML_PIPELINES_CONNECTION_SALES": '{"remote": "r"}'})
    with pytest.raises(SourceNotFound, match="the connection 'sales' names no repository"):
        ConnectedServices(settings).source(DvcSource(connection="sales", path=PATH)).pin()
    assert not [name for name in os.environ if name.startswith("GIT_CONFIG_KEY")]
