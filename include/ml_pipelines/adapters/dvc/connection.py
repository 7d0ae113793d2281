"""Connection of a DVC source: address of the repository, and secrets of its remote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ml_pipelines._utils.addresses import Address
from ml_pipelines.adapters.declared_address import DeclaredAddress, redact_address, resolve_address
from ml_pipelines.adapters.files.download import did_you_mean
from ml_pipelines.errors import SourceError, SourceNotFound
from ml_pipelines.spec.sources import DvcSource

__all__ = ["DvcConnection"]


_SECRET = re.compile("pass|secret|token|key|connection_string|sas|cred", re.IGNORECASE)


class DvcConnection(BaseModel):
    """A connection of a DVC source.

    Attributes:
        repo: folder or URL of the git repository. User and password or token may stand in an `http(s)` URL.
        remote: name of the DVC remote to download from; else the repository's default.
        remote_config: settings of that remote, added to those of the repository, as `dvc remote modify` names them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    repo: str = Field(default="", repr=False)
    remote: str | None = None
    remote_config: dict[str, JsonValue] = Field(default={}, repr=False)

    @classmethod
    def of(cls, declared: DvcSource, connections: Mapping[str, str]) -> DvcConnection:
        """Return the connection of a source; an empty one if it names none.

        Raises:
            SourceNotFound: there is no such connection.
            SourceError: it can't be read.
        """
        name = declared.connection
        if name is None:
            return cls()
        if name not in connections:
            otherwise = f"define it, for example by ML_PIPELINES_CONNECTION_{name.upper()}"
            raise SourceNotFound(
                f"there is no connection {name!r}",
                where="data.dvc.connection",
                got=", ".join(sorted(connections)) or "no connections",
                fix=did_you_mean(name, connections, otherwise=otherwise),
            )
        return cls.parsed(connections[name], name=name)

    @classmethod
    def parsed(cls, text: str, *, name: str) -> DvcConnection:
        """Parse a connection: the repository's address alone, or a JSON object of the fields.

        Raises:
            SourceError: the text is neither.
        """
        if not text.lstrip().startswith("{"):
            return cls(repo=text.strip())
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            issues = exc.errors(include_input=False, include_url=False, include_context=False)
            raise SourceError(
                f"the connection {name!r} can't be read",
                where="data.dvc.connection",
                expected='an address, or JSON such as {"repo": "https://...", "remote": "s3", "remote_config": {}}',
                got="; ".join(f"{_place(issue['loc'])}{issue['msg']}" for issue in issues),
                fix="correct the connection",
            ) from None  # pydantic's own text shows a part of the input

    def address(self, declared: DvcSource, environment: Mapping[str, str]) -> DeclaredAddress:
        """Return the address of the repository, with the credentials that the connection has for its server.

        Raises:
            SourceNotFound: neither the declaration nor the connection names a repository.
        """
        if declared.repo is None:
            if self.repo:
                return DeclaredAddress(self.repo, redact_address(self.repo), secrets=self._secrets)
            raise SourceNotFound(
                f"the connection {declared.connection!r} names no repository",
                where="data.dvc.repo",
                expected="the folder or URL of a git repository",
                fix="give the connection a host, or declare `repo`",
            )
        repo = resolve_address(declared.repo, environment, field="data.dvc.repo")
        text, declared_url, own = repo.text, Address.parse(repo.text), Address.parse(self.repo)
        # Credentials of one server never go to another.
        if (
            declared_url
            and own
            and own.user is not None
            and (declared_url.scheme, declared_url.server) == (own.scheme, own.server)
        ):
            text = replace(declared_url, user=own.user, password=own.password).encoded
        return DeclaredAddress(text, repo.shown, repo.values, (self.repo, *self._secrets))

    @property
    def _secrets(self) -> tuple[str, ...]:
        texts = {name: value for name, value in self.remote_config.items() if isinstance(value, str)}
        return tuple(value for name, value in texts.items() if _SECRET.search(name) or "://" in value)

    def apply(self, config: Any) -> None:
        """Apply the remote and its settings to a DVC configuration."""
        if not (self.remote or self.remote_config):
            return
        name = self.remote or config["core"].get("remote")
        if not name:
            raise SourceError(
                "the repository has no default DVC remote, and the connection names none",
                where="data.dvc.connection",
                fix="give the connection the name of a remote",
            )
        remotes = config["remote"]
        if name not in remotes and "url" not in self.remote_config:
            raise SourceNotFound(
                f"the repository has no DVC remote {name!r}",
                where="data.dvc.connection",
                got=", ".join(sorted(remotes)) or "no remote",
                fix=did_you_mean(name, remotes, otherwise="correct the name of the remote in the connection"),
            )
        remotes[name] = dict(remotes.get(name, {})) | self.remote_config
        config["core"]["remote"] = name


def _place(loc: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, loc))}: " if loc else ""
