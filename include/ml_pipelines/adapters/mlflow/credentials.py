"""Credentials of an MLflow server.

MLflow reads user, password, token and certificates from the environment at each request. The variables are set only
during a call, so that no other server and no other process gets them. Threads with different credentials wait for each
other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, wraps
from threading import Condition
from typing import TYPE_CHECKING, Any

from ml_pipelines._utils.addresses import Address
from ml_pipelines.adapters.declared_address import redact_address, split_credentials
from ml_pipelines.errors import PipelineError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["client_with_credentials", "mlflow_environment", "split_tracking_uri"]

_USER, _PASSWORD, _TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
# One of a group replaces the whole group: MLflow prefers a password to a token, and refuses both kinds of trust.
_GROUPS = ((_USER, _PASSWORD, _TOKEN), ("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"))

# MLflow 3.17 has no store for this: an auth plugin (MLFLOW_TRACKING_AUTH) covers no certificates, ~/.mlflow/credentials
# has one user for all servers, and artifact repositories read the environment. Setting it costs 8 microseconds a call.
_condition = Condition()
_active: list[Mapping[str, str]] = []  # credentials of the calls in progress, all equal
_saved: dict[str, str | None] = {}  # values of the variables before


def split_tracking_uri(tracking_uri: str) -> tuple[str, dict[str, str]]:
    """Split the address of a server into the address without credentials, and MLflow's variables for them.

    The address of a database keeps its credentials, encoded so that each client reads them alike.

    Raises:
        PipelineError: it is unclear where the credentials end.
    """
    parts = Address.parse(tracking_uri)
    if parts is not None and parts.is_ambiguous:
        raise PipelineError(
            "the tracking URI can't be read",
            where=redact_address(tracking_uri),
            expected="http://user:password@host:port, or dialect://user:password@host:port/database",
            fix="in user and password, write special characters as %XX: %40 for @, %2F for / and so on",
        )
    if parts is not None and parts.user is not None and parts.scheme not in ("http", "https"):
        return parts.encoded, {}
    address, user = split_credentials(tracking_uri)
    return address, dict(zip((_USER, _PASSWORD), user, strict=True)) if user else {}


@contextmanager
def mlflow_environment(credentials: Mapping[str, str]) -> Iterator[None]:
    """Set MLflow's variables within the block, and restore the environment after it."""
    with _condition:
        _condition.wait_for(lambda: not _active or _active[0] == credentials)
        if not _active:
            _enter(credentials)
        _active.append(credentials)
    try:
        yield
    finally:
        with _condition:
            _active.pop()
            if not _active:
                _leave()
            _condition.notify_all()


def _enter(credentials: Mapping[str, str]) -> None:
    for group in _GROUPS:
        if not credentials.keys().isdisjoint(group):
            _saved.update({name: os.environ.pop(name, None) for name in group})
    os.environ.update(credentials)


def _leave() -> None:
    for name, value in _saved.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    _saved.clear()


def client_with_credentials(tracking_uri: str, credentials: Mapping[str, str]) -> MlflowClient:
    """Return an MLflow client that sets the variables during each of its calls."""
    client: MlflowClient = _client_class()(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    vars(client)["_credentials"] = dict(credentials)
    return client


@lru_cache(maxsize=1)
def _client_class() -> Any:
    from mlflow import MlflowClient

    class SigningClient(MlflowClient):
        _credentials: Mapping[str, str] = {}

        def __getattribute__(self, name: str) -> Any:
            attribute = super().__getattribute__(name)
            if name.startswith("_") or not callable(attribute):
                return attribute

            @wraps(attribute)
            def call(*arguments: Any, **options: Any) -> Any:
                with mlflow_environment(self._credentials):
                    return attribute(*arguments, **options)

            return call

    return SigningClient
