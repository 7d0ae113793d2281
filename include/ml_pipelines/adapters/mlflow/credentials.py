"""Who one is to an MLflow server.

MLflow reads user, password, token and certificates from the environment at each request. Here they are in it only
while MLflow is at work, so that neither a process started meanwhile by someone else nor another server gets them, and
two servers with different credentials do not meet: threads that want different ones take turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, wraps
from threading import Condition
from typing import TYPE_CHECKING, Any, cast

from ml_pipelines.adapters.addresses import split_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["client_with_credentials", "mlflow_environment", "split_tracking_uri"]

_USER, _PASSWORD, _TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
# One of a group replaces the whole group: MLflow prefers a password to a token, and refuses both kinds of trust.
_GROUPS = ((_USER, _PASSWORD, _TOKEN), ("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"))

_turn = Condition()
_inside: list[Mapping[str, str]] = []  # the credentials of everyone who is signed in now, all the same
_outside: dict[str, str | None] = {}  # what the environment said before


def split_tracking_uri(tracking_uri: str) -> tuple[str, dict[str, str]]:
    """The address of a server without user and password, and these as MLflow's variables; other URIs as they are."""
    address, user = split_credentials(tracking_uri)
    return address, dict(zip((_USER, _PASSWORD), user, strict=True)) if user else {}


@contextmanager
def mlflow_environment(credentials: Mapping[str, str]) -> Iterator[None]:
    """Within the block MLflow has these variables in its environment; afterwards all is as before."""
    with _turn:
        _turn.wait_for(lambda: not _inside or _inside[0] == credentials)
        if not _inside:
            _enter(credentials)
        _inside.append(credentials)
    try:
        yield
    finally:
        with _turn:
            _inside.pop()
            if not _inside:
                _leave()
            _turn.notify_all()


def _enter(credentials: Mapping[str, str]) -> None:
    for group in _GROUPS:
        if not credentials.keys().isdisjoint(group):
            _outside.update({name: os.environ.pop(name, None) for name in group})
    os.environ.update(credentials)


def _leave() -> None:
    for name, value in _outside.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _outside.clear()


def client_with_credentials(tracking_uri: str, credentials: Mapping[str, str]) -> MlflowClient:
    """MLflow's own client, each of whose calls is signed in."""
    client = _client_class()(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    client._credentials = dict(credentials)
    return cast("MlflowClient", client)


@lru_cache(maxsize=1)
def _client_class() -> Any:
    from mlflow import MlflowClient

    class SigningClient(MlflowClient):
        _credentials: Mapping[str, str] = {}

        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name.startswith("_") or not callable(found):
                return found

            @wraps(found)
            def call(*arguments: Any, **options: Any) -> Any:
                with mlflow_environment(self._credentials):
                    return found(*arguments, **options)

            return call

    return SigningClient
