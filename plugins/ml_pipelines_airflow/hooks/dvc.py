"""Connections to data that DVC tracks in a git repository."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseHook

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import PipelineError
from ml_pipelines.spec.training import DvcSource
from ml_pipelines_airflow.hooks.connection_uri import connection_address

if TYPE_CHECKING:
    from ml_pipelines.ports import DataSource

__all__ = ["DvcHook"]

_SECONDS = 20
# Git servers that take a token want any name with it.
_ANY_USER = "token"


class DvcHook(BaseHook):
    """A git repository with DVC's files in it, and the DVC remote that holds the data.

    The connection's host is the repository's URL or folder; login and password, or a token as the password, are for
    git over https. Extra fields: `remote`, the DVC remote to download from if not the repository's default, and
    `remote_config`, a JSON object with settings of that remote, as `dvc remote modify --local` would set them.

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
        """Airflow's connection, looked up once.

        Raises:
            AirflowNotFoundException: there is none of that id.
        """
        return self.get_connection(self.dvc_conn_id)

    def connection_text(self) -> str:
        """The connection as a pipeline takes it, see :class:`ml_pipelines.adapters.dvc.connection.DvcConnection`.

        Secret.

        Raises:
            PipelineError: `remote_config` is not a JSON object.
        """
        extra = self.connection.extra_dejson
        found = {"repo": self._repo, "remote": extra.get("remote") or None, "remote_config": self._remote_config}
        return json.dumps(found)

    def pin(self, path: str, rev: str | None = None) -> DataPin:
        """Tell the commit that a revision means and the digest of a file there, without downloading it.

        Args:
            path: of a CSV or Parquet file that DVC tracks, from the repository's folder.
            rev: branch, tag or commit; else the default branch.

        Raises:
            SourceNotFound: there is no such repository, revision or file.
            SourceError: access is refused.
            ServiceUnavailable: the server does not answer.
        """
        return self._source(path, rev).pin()

    def fetch(self, path: str, directory: str, rev: str | None = None) -> str:
        """Download a file as it is at a revision into a local directory, and check its digest; its path there.

        Raises:
            SourceNotFound: there is no such repository, revision or file, or it was never pushed.
            SourceError: access is refused.
            ServiceUnavailable: the server does not answer.
        """
        source = self._source(path, rev)
        return source.fetch(source.pin(), directory)

    def default_branch(self) -> tuple[str, str]:
        """Name of the default branch, and the commit it is at.

        Raises:
            SourceError: access is refused, or there is no such repository.
            ServiceUnavailable: the server does not answer within 20 s.
        """
        found: tuple[str, str] = import_object("ml_pipelines.adapters.dvc.git:default_branch")(
            self._repo, timeout_seconds=_SECONDS
        )
        return found

    def test_connection(self) -> tuple[bool, str]:
        """Whether the repository can be read, and a sentence for people; within 20 s. The DVC remote is not asked."""
        try:
            self.connection_text()
            branch, commit = self.default_branch()
        except PipelineError as exc:
            return False, " - ".join(part for part in (exc.what, exc.got, exc.fix) if part)
        return True, f"{branch} is at {commit[:12]}"

    @cached_property
    def _repo(self) -> str:
        """Address of the repository, with user and password if the connection has some."""
        repo, login, password = connection_address(self.connection, protocol="https"), *self._user()
        if not repo:
            raise self._wrong("has no host", expected="URL or folder of a git repository")
        parts = urlsplit(repo)
        if "@" in parts.netloc or not login:
            return repo
        user = quote(login, safe="")
        if parts.scheme in ("http", "https"):
            user = f"{user}:{quote(password, safe='')}"
        elif parts.scheme != "ssh":
            return repo
        return parts._replace(netloc=f"{user}@{parts.netloc}").geturl()

    def _user(self) -> tuple[str, str]:
        login, password = self.connection.login or "", self.connection.password or ""
        return login or (_ANY_USER if password else ""), password

    @property
    def _remote_config(self) -> dict[str, Any]:
        given = self.connection.extra_dejson.get("remote_config") or {}
        if isinstance(given, str):  # as the form gives it
            try:
                given = json.loads(given)
            except ValueError:
                given = None
        if not isinstance(given, dict):
            raise self._wrong("has a remote_config that can't be read", expected="a JSON object of settings")
        return given

    def _source(self, path: str, rev: str | None) -> DataSource:
        declared = DvcSource(connection=self.dvc_conn_id, path=path, rev=rev or "HEAD")
        made: DataSource = import_object("ml_pipelines.adapters.dvc.source:DvcDataSource")(
            declared, {}, {self.dvc_conn_id: self.connection_text()}
        )
        return made

    def _wrong(self, what: str, *, expected: str) -> PipelineError:
        where = f"connection {self.dvc_conn_id!r}"
        return PipelineError(f"the connection {what}", where=where, expected=expected, fix="correct the connection")
