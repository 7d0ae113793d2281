"""Settings of the services, from environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ml_pipelines.errors import RequestError
from ml_pipelines.ports import CELLS_PER_GROUP
from ml_pipelines.spec.environment_variables import is_allowed_variable
from ml_pipelines.store.signatures import SIGNING_KEY, VERIFICATION_KEY, ManifestKeys

__all__ = ["DEFAULT_SERVER", "Settings", "cells_per_group"]

DEFAULT_SERVER = "mlflow"
"""Kind of the tracking server and of the model registry, unless a setting names another."""

_CONNECTION = "ML_PIPELINES_CONNECTION_"
_CELLS_PER_GROUP = "ML_PIPELINES_CELLS_PER_GROUP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Kinds and addresses of the systems. An address may hold credentials: never log or store it.

    Attributes:
        store: URI of the artifact store.
        tracking_uri: address of the server or database of the tracking server and the model registry.
        tracking_ui: address for browsers, if it is not `tracking_uri`.
        ledger: SQLAlchemy URL of the ledger: SQLite or PostgreSQL.
        tracking_variables: environment variables for the calls to the tracking server, such as a token.
        connections: name -> SQLAlchemy URL of a database, or the credentials of a DVC source: the address of the git
            repository, or a JSON object, see :class:`ml_pipelines.adapters.dvc.connection.DvcConnection`.
        environment: values of the variables that a declaration may name as `${NAME}`.
        cells_per_group: see :attr:`ml_pipelines.ports.Services.cells_per_group`.
        tracking: kind of the tracking server; see :mod:`ml_pipelines.services.connected`.
        registry: kind of the model registry.
        signing_key: key that signs manifests, see :mod:`ml_pipelines.store.signatures`; empty without signatures.
        verification_key: key that verifies manifests, for a process without the signing key.
    """

    store: str
    tracking_uri: str = field(repr=False)
    tracking_ui: str | None = None
    ledger: str = field(default="sqlite:///.ml-pipelines/ledger.db", repr=False)
    tracking_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cells_per_group: int = CELLS_PER_GROUP
    tracking: str = DEFAULT_SERVER
    registry: str = DEFAULT_SERVER
    signing_key: str = field(default="", repr=False)
    verification_key: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from environment variables.

        `ML_PIPELINES_STORE`, `ML_PIPELINES_LEDGER` and `MLFLOW_TRACKING_URI` are addresses; without them, the systems
        use the folder `.ml-pipelines` of the working directory. `ML_PIPELINES_TRACKING_UI` is the address for
        browsers. `ML_PIPELINES_CONNECTION_<NAME>` is a connection. `ML_PIPELINES_TRACKING` and `ML_PIPELINES_REGISTRY`
        are kinds of servers. `ML_PIPELINES_CELLS_PER_GROUP` bounds the memory. `ML_PIPELINES_SIGNING_KEY` and
        `ML_PIPELINES_VERIFICATION_KEY` are keys of manifests. A declaration may name only the variables of
        :mod:`ml_pipelines.spec.environment_variables`.

        Raises:
            RequestError: `ML_PIPELINES_CELLS_PER_GROUP` is not a positive integer, or
                `ML_PIPELINES_ENVIRONMENT_VARIABLES` is not a list of names.
        """
        home = Path.cwd() / ".ml-pipelines"
        return cls(
            store=environment.get("ML_PIPELINES_STORE") or f"file://{home}/store",
            tracking_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home}/mlflow.db",
            tracking_ui=environment.get("ML_PIPELINES_TRACKING_UI") or None,
            ledger=environment.get("ML_PIPELINES_LEDGER") or f"sqlite:///{home}/ledger.db",
            connections={
                name.removeprefix(_CONNECTION).lower(): url
                for name, url in environment.items()
                if name.startswith(_CONNECTION)
            },
            environment={name: value for name, value in environment.items() if is_allowed_variable(name)},
            tracking=environment.get("ML_PIPELINES_TRACKING") or DEFAULT_SERVER,
            registry=environment.get("ML_PIPELINES_REGISTRY") or DEFAULT_SERVER,
            cells_per_group=cells_per_group(environment.get(_CELLS_PER_GROUP), _CELLS_PER_GROUP),
            signing_key=environment.get(SIGNING_KEY, ""),
            verification_key=environment.get(VERIFICATION_KEY, ""),
        )

    @property
    def manifest_keys(self) -> ManifestKeys | None:
        """The keys of manifests; None if the deployment does not sign them.

        Raises:
            RequestError: a key has a wrong form.
        """
        return ManifestKeys.of(self.signing_key, self.verification_key)

    def at(self, store: str | None) -> Settings:
        """Return the settings with another artifact store, a URI or a folder; unchanged without one."""
        if not store:
            return self
        return replace(self, store=store if "://" in store else f"file://{Path(store).resolve()}")

    def as_environment(self, *connections: str) -> dict[str, str]:
        """Return the variables from which :meth:`from_environment` reads the settings in another process. Secret.

        The other process can verify manifests, but not sign them.

        Args:
            connections: names of the connections that the process needs, in lower case. A name without a connection is
                left out; the source that uses it raises the error.
        """
        needed = {name: self.connections[name] for name in connections if name in self.connections}
        keys = self.manifest_keys
        return {
            **{f"{_CONNECTION}{name.upper()}": address for name, address in needed.items()},
            **self.tracking_variables,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            _CELLS_PER_GROUP: str(self.cells_per_group),
            "ML_PIPELINES_LEDGER": self.ledger,
            "ML_PIPELINES_REGISTRY": self.registry,
            "ML_PIPELINES_STORE": self.store,
            "ML_PIPELINES_TRACKING": self.tracking,
            "ML_PIPELINES_TRACKING_UI": self.tracking_ui or "",
            SIGNING_KEY: "",
            VERIFICATION_KEY: keys.verification if keys else "",
        }


def cells_per_group(text: str | None, where: str) -> int:
    """Return the number of cells of a setting, or the default if the setting is empty.

    Args:
        text: value of the setting.
        where: name of the setting, for the error.

    Raises:
        RequestError: the value is not a positive integer.
    """
    if not text:
        return CELLS_PER_GROUP
    if not text.isdecimal() or int(text) == 0:
        fix = f"leave it empty for {CELLS_PER_GROUP}; a smaller number takes less memory"
        raise RequestError(
            "this is not a number of cells", where=where, expected="an integer above 0", got=text, fix=fix
        )
    return int(text)
