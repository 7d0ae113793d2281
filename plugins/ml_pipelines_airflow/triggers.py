"""Triggers that poll a DVC repository or an alias of a model and create an event for each change.

An :class:`airflow.sdk.AssetWatcher` with such a trigger starts DAGs. A small file in the artifact store holds the value
of the last event. A restart of the triggerer therefore neither repeats an event nor misses a change.
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
from ml_pipelines.spec.sources import DvcSource
from ml_pipelines.store.layout import WatchState, parse_document, watch_name
from ml_pipelines_airflow.connections import airflow_settings

__all__ = ["DvcRevisionTrigger", "ModelAliasTrigger", "PollingTrigger"]

MAX_WAIT_SECONDS = 600.0
"""Maximum interval of polls after failures, unless `poll_seconds` is longer."""


class PollingTrigger(BaseEventTrigger):
    """Poll a value and create an event for each change. The trigger never ends.

    The first value creates no event. If the triggerer stops between an event and the note of its value, the event
    occurs again.

    Args:
        description: description of the value, for the log.
        poll_seconds: interval of the polls.
        name: name of the file with the value of the last event; by default a digest of all arguments. With a name, a
            trigger with changed arguments continues from the value of the earlier one.
    """

    kind: ClassVar[str]

    def __init__(self, *, description: str, poll_seconds: float, name: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow has no types here
        self.poll_seconds, self.name = poll_seconds, name
        self._description = description
        self._value: str | None = None
        self._saved: str | None = None

    @abstractmethod
    def look_up(self) -> tuple[str, dict[str, JsonValue]] | None:
        """Return the current value and the payload of its event; None without a value.

        A thread runs this method, so it may block.
        """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each change.

        A failed poll is repeated after increasing intervals. Only the first of successive failures is logged.
        """
        failures = 0
        while True:
            payload = None
            try:
                payload = await asyncio.to_thread(self._poll)
                if failures:
                    self.log.info("%s is available again", self._description)
                failures = 0
            # A trigger that raises ends, and Airflow does not start it again.
            except Exception as exc:
                failures += 1
                if failures == 1:
                    name = type(exc).__name__
                    self.log.warning("%s is not available, will try again: %s: %s", self._description, name, exc)
            if payload is not None:
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                continue  # Airflow has taken the event: the next poll saves the value at once.
            await asyncio.sleep(self._wait_seconds(failures))

    def _wait_seconds(self, failures: int) -> float:
        longer = self.poll_seconds * 2.0 ** min(failures, 20)  # a larger exponent could overflow
        return max(self.poll_seconds, min(longer, MAX_WAIT_SECONDS))

    def _poll(self) -> dict[str, JsonValue] | None:
        """Return the payload of an event, None without a change."""
        if self._value is None:
            self._value = self._saved = self._load()
        if self._value != self._saved:
            self._save()
        value, payload = self.look_up() or (self._value or "", {})
        if value == self._value:
            return None
        first, self._value = self._value is None, value
        if first:
            self._save()
        return None if first else payload

    def _load(self) -> str | None:
        state = parse_document(_services().store.files.read(self._file()), WatchState)
        return state.value if state else None

    def _save(self) -> None:
        assert self._value is not None
        data = WatchState(value=self._value).model_dump_json().encode()
        _services().store.files.write(self._file(), data, durable=True)
        self._saved = self._value

    def _file(self) -> str:
        # A digest, because the address of a repository can contain a password.
        arguments = {key: value for key, value in self.serialize()[1].items() if key != "name"}
        return watch_name(self.kind, self.name or json_digest(arguments))


class DvcRevisionTrigger(PollingTrigger):
    """Create an event when the content of a file in a DVC repository changes at a revision.

    A commit that does not change the file creates no event. The payload is the data pin: `source`, `location`,
    `revision` (the commit), `digest` and `bytes`.

    Args:
        path: path of the file in the repository.
        repo: git repository, a folder or URL. It may contain environment variables of the triggerer, as
            `${ML_DATA_REPO}`.
        connection: Airflow connection of type `dvc` with credentials, and with the repository if `repo` is None.
        rev: branch, tag or commit. Only a branch changes.
        poll_seconds: interval of the polls. Each poll of a remote repository clones it without its data.
        name: name of the file with the last value; by default a digest of the other arguments.
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
        super().__init__(description=f"{path} at {rev}", poll_seconds=poll_seconds, name=name)
        self.repo, self.connection, self.path, self.rev = repo, connection, path, rev

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the import path and the arguments of an equal trigger."""
        names = ("path", "repo", "connection", "rev", "poll_seconds", "name")
        return f"{__name__}.DvcRevisionTrigger", {name: getattr(self, name) for name in names}

    def look_up(self) -> tuple[str, dict[str, JsonValue]] | None:
        """Return the digest of the file at the revision, and the data pin."""
        source = DvcSource(repo=self.repo, connection=self.connection, path=self.path, rev=self.rev)
        pin = _services().source(source).pin()
        return pin.digest or pin.revision or "", pin.model_dump(mode="json")


class ModelAliasTrigger(PollingTrigger):
    """Create an event when an alias of a registered model points to another version.

    A deleted alias creates no event. The payload is `model`, `alias` and `version`.

    Args:
        model: name in the registry.
        alias: alias such as `champion`.
        poll_seconds: interval of the polls.
        mlflow_conn_id: Airflow connection to MLflow; by default that of `[ml_pipelines] mlflow_conn_id`.
        name: name of the file with the last value; by default a digest of the other arguments.
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
        super().__init__(description=f"{model}@{alias}", poll_seconds=poll_seconds, name=name)
        self.model, self.alias, self.mlflow_conn_id = model, alias, mlflow_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the import path and the arguments of an equal trigger."""
        names = ("model", "alias", "poll_seconds", "mlflow_conn_id", "name")
        return f"{__name__}.ModelAliasTrigger", {name: getattr(self, name) for name in names}

    def look_up(self) -> tuple[str, dict[str, JsonValue]] | None:
        """Return the version of the alias, None without such an alias."""
        target = _services(self.mlflow_conn_id).registry.by_alias(self.model, self.alias)
        if target is None:
            return None
        return target.version, {"model": self.model, "alias": self.alias, "version": target.version}


def _services(mlflow_conn_id: str | None = None) -> ConnectedServices:
    # Built for each poll, because connections can change.
    return ConnectedServices(airflow_settings(mlflow_conn_id))
