"""Hook for data that DVC tracks in a git repository."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from ml_pipelines._utils.addresses import Address, redact_address
from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import PipelineError
from ml_pipelines.spec.sources import DvcSource
from ml_pipelines_airflow.hooks.connection_uri import connection_address

if TYPE_CHECKING:
    from ml_pipelines.ports import DataSource

__all__ = ["DvcHook"]

TIMEOUT_SECONDS = 20
# Git servers accept any user name with a token.
_ANY_USER = "token"


class DvcHook(BaseHook):
    """A git repository with DVC files, and the DVC remote with the data.

    The host of the connection is the URL or folder of the repository. Login and password (or a token) are for git over
    https. The extra field `remote` names the DVC remote, if it is not the default. `remote_config` is a JSON object
    with settings of that remote, with the names of `dvc remote modify --local`.

    Args:
        dvc_conn_id: id of the connection.
    """

    conn_name_attr = "dvc_conn_id"
    default_conn_name = "dvc_default"
    conn_type = "dvc"
    hook_name = "DVC"

    def __init__(self, dvc_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.dvc_conn_id = dvc_conn_id

    @cached_property
    def connection(self) -> Any:
        """The connection, read once.

        Raises:
            AirflowNotFoundException: the connection does not exist.
        """
        return self.get_connection(self.dvc_conn_id)

    def connection_text(self) -> str:
        """Return the connection as JSON for :class:`ml_pipelines.adapters.dvc.connection.DvcConnection`. Secret.

        Raises:
            PipelineError: `remote_config` is not a JSON object.
        """
        extra = self.connection.extra_dejson
        content = {"repo": self._repo, "remote": extra.get("remote") or None, "remote_config": self._remote_config}
        return json.dumps(content)

    def pin(self, path: str, rev: str | None = None) -> DataPin:
        """Return the commit of a revision and the digest of a file, without a download.

        Args:
            path: path of a CSV or Parquet file in the repository.
            rev: branch, tag or commit; default: the default branch.

        Raises:
            SourceNotFound: the repository, revision or file does not exist.
            SourceError: access is denied.
            ServiceUnavailable: the server does not answer.
        """
        return self._source(path, rev).pin()

    def fetch(self, path: str, directory: str, rev: str | None = None) -> str:
        """Download a file of a revision into a local directory, verify its digest and return its path.

        Raises:
            SourceNotFound: the repository, revision or file does not exist, or the file was never pushed.
            SourceError: access is denied.
            ServiceUnavailable: the server does not answer.
        """
        source = self._source(path, rev)
        return source.fetch(source.pin(), directory)

    def default_branch(self) -> tuple[str, str]:
        """Return the name of the default branch and its commit.

        Raises:
            SourceError: access is denied, or the repository does not exist.
            ServiceUnavailable: the server does not answer within 20 s.
        """
        address = import_object("ml_pipelines.adapters.declared_address:DeclaredAddress")(
            self._repo, redact_address(self._repo)
        )
        branch: tuple[str, str] = import_object("ml_pipelines.adapters.dvc.git:default_branch")(
            address, timeout_seconds=TIMEOUT_SECONDS
        )
        return branch

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the repository can be read, and a message, within 20 s. The DVC remote is not tested."""
        try:
            self.connection_text()
            branch, commit = self.default_branch()
        except PipelineError as exc:
            return False, " - ".join(part for part in (exc.what, exc.got, exc.fix) if part)
        return True, f"{branch} is at {commit[:12]}"

    @cached_property
    def _repo(self) -> str:
        """Address of the repository, with the credentials of the connection."""
        repo, login, password = connection_address(self.connection, protocol="https"), *self._user()
        if not repo:
            raise self._connection_error("has no host", expected="URL or folder of a git repository")
        parts = Address.parse(repo)
        if parts is None or parts.user is not None or not login:
            return repo
        if parts.scheme in ("http", "https"):
            return replace(parts, user=login, password=password).encoded
        return replace(parts, user=login).encoded if parts.scheme == "ssh" else repo

    def _user(self) -> tuple[str, str]:
        login, password = self.connection.login or "", self.connection.password or ""
        return login or (_ANY_USER if password else ""), password

    @property
    def _remote_config(self) -> dict[str, Any]:
        config = self.connection.extra_dejson.get("remote_config") or {}
        if isinstance(config, str):  # the form stores text
            try:
                config = json.loads(config)
            except ValueError:
                config = None
        if not isinstance(config, dict):
            raise self._connection_error("has an invalid remote_config", expected="a JSON object of settings")
        return config

    def _source(self, path: str, rev: str | None) -> DataSource:
        section = DvcSource(connection=self.dvc_conn_id, path=path, rev=rev or "HEAD")
        source: DataSource = import_object("ml_pipelines.adapters.dvc.source:DvcDataSource")(
            section, {}, {self.dvc_conn_id: self.connection_text()}
        )
        return source

    def _connection_error(self, what: str, *, expected: str) -> PipelineError:
        where = f"connection {self.dvc_conn_id!r}"
        return PipelineError(f"the connection {what}", where=where, expected=expected, fix="correct the connection")
