"""Settings of the services, from environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ml_pipelines.errors import RequestError
from ml_pipelines.ports import CELLS_PER_GROUP

if TYPE_CHECKING:
    pass

__all__ = ["Settings", "cells_per_group"]

_CONNECTION = "ML_PIPELINES_CONNECTION_"


_CELLS_PER_GROUP = "ML_PIPELINES_CELLS_PER_GROUP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the systems are. Addresses may hold credentials: never log or store them.

    Attributes:
        store: URI of the artifact store.
        tracking_uri: of the MLflow server or database.
        tracking_ui: where people's browsers find MLflow, if not at the tracking URI.
        ledger: SQLAlchemy URL of the ledger: SQLite or PostgreSQL.
        tracking_variables: MLflow's environment variables that hold while it is spoken to, such as a token.
        connections: name -> SQLAlchemy URL of a database, or what a DVC source needs to know: the git repository's
            address, or a JSON object, see :class:`ml_pipelines.adapters.dvc.connection.DvcConnection`.
        environment: what `${NAME}` in a declaration stands for.
        cells_per_group: see :attr:`ml_pipelines.ports.Services.cells_per_group`.
    """

    store: str
    tracking_uri: str = field(repr=False)
    tracking_ui: str | None = None
    ledger: str = field(default="sqlite:///.ml-pipelines/ledger.db", repr=False)
    tracking_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cells_per_group: int = CELLS_PER_GROUP

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read `ML_PIPELINES_STORE`, `ML_PIPELINES_LEDGER`, `MLFLOW_TRACKING_URI` and `ML_PIPELINES_CONNECTION_<NAME>`.

        `ML_PIPELINES_TRACKING_UI` is where browsers find MLflow. Without the first three, everything is kept in the
        folder `.ml-pipelines` of the working directory. `ML_PIPELINES_CELLS_PER_GROUP` bounds the memory.

        Raises:
            RequestError: that is no number of cells.
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
            environment=environment,
            cells_per_group=cells_per_group(environment.get(_CELLS_PER_GROUP), _CELLS_PER_GROUP),
        )

    def at(self, store: str | None) -> Settings:
        """The same with another artifact store, a URI or a folder; as it is if there is none."""
        if not store:
            return self
        return replace(self, store=store if "://" in store else f"file://{Path(store).resolve()}")

    def as_environment(self, *connections: str) -> dict[str, str]:
        """The variables that :meth:`from_environment` reads the same from, for another process. Secret.

        Args:
            connections: names of those that it needs, in lower case; who uses one that is not there tells it.
        """
        known = {name: self.connections[name] for name in connections if name in self.connections}
        return {
            **{f"{_CONNECTION}{name.upper()}": address for name, address in known.items()},
            **self.tracking_variables,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            _CELLS_PER_GROUP: str(self.cells_per_group),
            "ML_PIPELINES_LEDGER": self.ledger,
            "ML_PIPELINES_STORE": self.store,
            "ML_PIPELINES_TRACKING_UI": self.tracking_ui or "",
        }


def cells_per_group(text: str | None, where: str) -> int:
    """The number that a setting names; the usual one if it names none.

    Raises:
        RequestError: it is no number of cells.
    """
    if not text:
        return CELLS_PER_GROUP
    if not text.isdecimal() or int(text) == 0:
        fix = f"leave it empty for {CELLS_PER_GROUP}; a smaller number takes less memory"
        raise RequestError(
            "this is no number of cells", where=where, expected="a whole number above 0", got=text, fix=fix
        )
    return int(text)
