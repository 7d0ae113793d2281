"""Watch from the triggerer, and tell when something has moved: the data in a DVC repository, an alias of a model.

In an :class:`airflow.sdk.AssetWatcher` they start DAGs. What was told last is a small file in the artifact store, so a
restart of the triggerer neither tells it again nor misses what moved meanwhile.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines.contracts import JsonValue
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.spec.training import DvcSource
from ml_pipelines.store.layout import WatchState, parse_document, watch_name
from ml_pipelines_airflow.connections import airflow_settings

__all__ = ["DvcRevisionTrigger", "ModelAliasTrigger"]

LONGEST_WAIT_SECONDS = 600.0


class _Watch(BaseEventTrigger):
    """Looks, and looks again; an event for each move. Never ends by itself.

    The first sight is noted, not told. The same event may come twice if the triggerer dies between telling and noting.

    Args:
        what: it looks at, for the log.
        poll_seconds: from one look to the next.
        name: under which is noted what was told last; by default all arguments. With a name of its own, other
            arguments go on where the earlier ones were.
    """

    kind: ClassVar[str]

    def __init__(self, *, what: str, poll_seconds: float, name: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow has no types here
        self.poll_seconds, self.name = poll_seconds, name
        self._what = what
        self._told: str | None = None
        self._noted: str | None = None

    @abstractmethod
    def look(self) -> tuple[str, dict[str, JsonValue]] | None:
        """What there is, as a text that changes when it moves, and what to tell of it; None if there is nothing.

        May block: it is called in a thread.
        """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each move. What can't be reached is asked again, less and less often, after one warning."""
        failures = 0
        while True:
            news = None
            try:
                news = await asyncio.to_thread(self._news)
                if failures:
                    self.log.info("%s can be seen again", self._what)
                failures = 0
            # Whatever it is: a trigger that ends is never started again, and nobody would notice.
            except Exception as exc:
                failures += 1
                if failures == 1:
                    self.log.warning("%s can't be seen, will try again: %s: %s", self._what, type(exc).__name__, exc)
            if news is not None:
                yield TriggerEvent(news)  # type: ignore[no-untyped-call]
                continue  # It has been taken: note that at once.
            await asyncio.sleep(self._wait(failures))

    def _wait(self, failures: int) -> float:
        longer = self.poll_seconds * 2.0 ** min(failures, 20)  # beyond, the number would be too large to multiply
        return max(self.poll_seconds, min(longer, LONGEST_WAIT_SECONDS))

    def _news(self) -> dict[str, JsonValue] | None:
        if self._told is None:
            self._told = self._noted = self._recall()
        if self._told != self._noted:
            self._note()
        state, payload = self.look() or (self._told or "", {})
        if state == self._told:
            return None
        first, self._told = self._told is None, state
        if first:
            self._note()
        return None if first else payload

    def _recall(self) -> str | None:
        watched = parse_document(_services().store.files.read(self._file()), WatchState)
        return watched.value if watched else None

    def _note(self) -> None:
        assert self._told is not None
        data = WatchState(value=self._told).model_dump_json().encode()
        _services().store.files.write(self._file(), data, durable=True)
        self._noted = self._told

    def _file(self) -> str:
        arguments = {key: value for key, value in self.serialize()[1].items() if key != "name"}
        # As a digest: an address may hold a password.
        unnamed = json_digest(arguments)
        return watch_name(self.kind, self.name or unnamed)


class DvcRevisionTrigger(_Watch):
    """Tells when a file that DVC tracks has other content at a revision; a commit that leaves it alone is no news.

    The event's payload is the pin of the data: `source`, `location`, `revision` (the commit), `digest` and `bytes`.

    Args:
        repo: git repository, a folder or URL that the triggerer can reach; may name environment variables as
            `${DATA_REPO}`, those of the triggerer.
        connection: Airflow connection of type `dvc` with credentials; also with the repository, if none is given.
        path: of the data in it.
        rev: branch, tag or commit; a branch, if it is to move.
        poll_seconds: from one look to the next. A remote repository is cloned each time, without its data.
        name: see above; for a pipeline of a declaration, that of its asset.
    """

    kind = "dvc"

    def __init__(
        self,
        *,
        path: str,
        repo: str | None = None,
        connection: str | None = None,
        rev: str = "HEAD",
        poll_seconds: float = 300.0,
        name: str | None = None,
    ) -> None:
        super().__init__(what=f"{path} at {rev}", poll_seconds=poll_seconds, name=name)
        self.repo, self.connection, self.path, self.rev = repo, connection, path, rev

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What makes an equal trigger in another process."""
        names = ("path", "repo", "connection", "rev", "poll_seconds", "name")
        return f"{__name__}.DvcRevisionTrigger", {name: getattr(self, name) for name in names}

    def look(self) -> tuple[str, dict[str, JsonValue]] | None:
        """The digest at the revision, and the pin."""
        declared = DvcSource(repo=self.repo, connection=self.connection, path=self.path, rev=self.rev)
        pin = _services().source(declared).pin()
        return pin.digest or pin.revision or "", pin.model_dump(mode="json")


class ModelAliasTrigger(_Watch):
    """Tells when an alias of a registered model points to another version; one that is gone tells nothing.

    The event's payload is `model`, `alias` and `version`.

    Args:
        model: name in the registry.
        alias: such as `champion`.
        poll_seconds: from one look to the next.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        name: see above.
    """

    kind = "alias"

    def __init__(
        self,
        *,
        model: str,
        alias: str = "champion",
        poll_seconds: float = 60.0,
        mlflow_conn_id: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(what=f"{model}@{alias}", poll_seconds=poll_seconds, name=name)
        self.model, self.alias, self.mlflow_conn_id = model, alias, mlflow_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What makes an equal trigger in another process."""
        names = ("model", "alias", "poll_seconds", "mlflow_conn_id", "name")
        return f"{__name__}.ModelAliasTrigger", {name: getattr(self, name) for name in names}

    def look(self) -> tuple[str, dict[str, JsonValue]] | None:
        """The version that the alias points to, if it points anywhere."""
        found = _services(self.mlflow_conn_id).registry.by_alias(self.model, self.alias)
        if found is None:
            return None
        return found.version, {"model": self.model, "alias": self.alias, "version": found.version}


def _services(mlflow_conn_id: str | None = None) -> ConnectedServices:
    # Asked for each look: a connection may have changed since.
    return ConnectedServices(airflow_settings(mlflow_conn_id))
