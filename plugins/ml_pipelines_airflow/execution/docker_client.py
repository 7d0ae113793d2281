"""The Docker engine, as far as a step in a container needs it: short calls, and errors that say how to mend them.

Only the parts `containers` and `images` of the engine's API are used, so a proxy of its socket may forbid the rest. No
call waits for a container to do something: a proxy would cut a connection on which nothing is said for long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import docker.errors
import requests
from airflow.providers.docker.hooks.docker import DockerHook
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
from docker.types import LogConfig

from ml_pipelines.errors import RequestError, ServiceUnavailable

__all__ = ["Container", "DockerEngine"]

CONNECTION: Final = "docker_default"
_TIMEOUT_SECONDS = 60  # of one call
_CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Container:
    """A container: its name, its labels, and the engine's `State` of it."""

    name: str
    labels: dict[str, str]
    state: dict[str, Any]
    created: datetime

    @property
    def ended(self) -> bool:
        """Whether its process has run and does no more."""
        return self.state["Status"] in ("exited", "dead")


class DockerEngine:
    """An engine that answers, by `DOCKER_HOST` or where Docker usually listens.

    An Airflow connection `docker_default` logs in to a registry.

    Raises:
        ServiceUnavailable: from every method, if the engine does not answer or has a fault.
        RequestError: from every method, if it does not take what it was asked.
    """

    def __init__(self) -> None:
        self.where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        with self._told():
            hook = DockerHook(_registry(), base_url=self.where, timeout=_TIMEOUT_SECONDS)
            self._client: Any = hook.api_client

    def find(self, name: str) -> Container | None:
        """The container of a name, None if there is none."""
        with self._told():
            try:
                seen = self._client.inspect_container(name)
            except docker.errors.NotFound:
                return None
        labels = seen["Config"]["Labels"] or {}
        return Container(name, labels, seen["State"], datetime.fromisoformat(seen["Created"]))

    def labelled(self, label: str) -> list[Container]:
        """All containers that have a label, given as `name=value`, running or not."""
        with self._told():
            rows = self._client.containers(all=True, filters={"label": [label]})
        found = [self.find(row["Id"]) for row in rows]
        return [each for each in found if each is not None]

    def create(self, name: str, *, image: str, limits: dict[str, Any], **options: Any) -> bool:
        """Make a container that may do no more than its work. False if there is one of that name.

        Args:
            name: of the container.
            image: is pulled if the engine does not have it.
            limits: of its host: memory, processors, network, volumes.
            options: what runs in it, as docker's `create_container` takes it.
        """
        with self._told():
            host = self._client.create_host_config(
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                read_only=True,
                tmpfs={"/tmp": "mode=1777"},  # noqa: S108  the container's own, in its memory
                log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "3"}),
                **limits,
            )
        for last in (False, True):
            try:
                with self._told(image=image):
                    self._client.create_container(image, name=name, host_config=host, **options)
                    return True
            except docker.errors.ImageNotFound as exc:
                if last:
                    raise _no_image(image, exc) from exc
                self._pull(image)
            except docker.errors.APIError:  # what _told lets pass: there is one
                return False
        raise AssertionError

    def start(self, name: str) -> None:
        """Start a container that was made. No error if it runs or has run already."""
        with self._told():
            self._client.start(name)

    def log_after(self, name: str, stamp: str) -> list[tuple[str, str]]:
        """What a container has said after a moment: the moment of each line, and the line."""
        since = int(datetime.fromisoformat(stamp).timestamp()) if stamp else None
        with self._told():
            said = self._client.logs(name, stdout=True, stderr=True, timestamps=True, since=since)
        lines = [line.partition(" ") for line in said.decode(errors="replace").splitlines()]
        return [(at, text) for at, _, text in lines if at > stamp]

    def remove(self, name: str) -> None:
        """End a container and remove it. No error if it is gone or on its way."""
        with self._told():
            try:
                self._client.remove_container(name, force=True)
            except docker.errors.APIError as exc:
                if exc.status_code not in (404, _CONFLICT):
                    raise

    def _pull(self, image: str) -> None:
        try:
            self._client.pull(image)
        except (docker.errors.DockerException, requests.RequestException) as exc:
            raise _no_image(image, exc) from exc

    @contextmanager
    def _told(self, *, image: str | None = None) -> Iterator[None]:
        """Say what an engine's or a network's error means; if an image is named, its errors and conflicts pass."""
        try:
            yield
        except docker.errors.APIError as exc:
            if image is not None and (isinstance(exc, docker.errors.ImageNotFound) or exc.status_code == _CONFLICT):
                raise
            raise (self._fault(exc) if exc.is_server_error() else _refused(exc)) from exc
        except AirflowNotFoundException as exc:
            raise _no_registry(exc) from exc
        except (requests.RequestException, AirflowException) as exc:
            raise ServiceUnavailable(
                "the Docker engine does not answer",
                where=self.where,
                got=str(exc),
                fix="see that it runs and that the worker may use it; DOCKER_HOST says where it is",
            ) from exc

    def _fault(self, exc: docker.errors.APIError) -> ServiceUnavailable:
        return ServiceUnavailable(
            "the Docker engine has a fault",
            where=self.where,
            got=str(exc.explanation or exc),
            fix="see the engine's own log",
        )


def _registry() -> str | None:
    """The connection to a registry, None if there is none."""
    try:
        DockerHook.get_connection(CONNECTION)
    except AirflowNotFoundException:
        return None
    return CONNECTION


def _refused(exc: docker.errors.APIError) -> RequestError:
    return RequestError(
        "the Docker engine does not take the container",
        expected="an image with ml-pipelines, and a network, volumes and limits that the engine has",
        got=str(exc.explanation or exc),
        fix="correct `runtime` in the declaration, or docker_network and docker_volumes in [ml_pipelines]",
    )


def _no_image(image: str, exc: Exception) -> RequestError:
    return RequestError(
        f"there is no image {image!r}",
        expected="an image that the engine has or can pull",
        got=str(getattr(exc, "explanation", None) or exc),
        fix="build it from include/docker/Dockerfile.training, or name another under runtime.<task>.docker.image or in "
        "[ml_pipelines] docker_image",
    )


def _no_registry(exc: Exception) -> RequestError:
    return RequestError(
        "the connection to the registry is not complete",
        where=f"connection {CONNECTION!r}",
        expected="a connection of type Docker with registry, user and password",
        got=str(exc),
        fix="complete the connection, or remove it",
    )
