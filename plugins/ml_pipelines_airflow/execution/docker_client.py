"""A client of the Docker engine with short calls and errors that name a fix.

It uses only the parts `containers` and `images` of the engine's API, so a proxy of its socket may forbid the rest. No
call waits for a container, because a proxy would close an idle connection.
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
    """A container.

    Attributes:
        name: name of the container.
        labels: its labels.
        state: the engine's `State` of it.
        created: time of its creation.
    """

    name: str
    labels: dict[str, str]
    state: dict[str, Any]
    created: datetime

    @property
    def ended(self) -> bool:
        """Whether its process has ended."""
        return self.state["Status"] in ("exited", "dead")


class DockerEngine:
    """The Docker engine at `DOCKER_HOST`, or at Docker's default socket.

    An Airflow connection `docker_default` logs in to an image registry.

    Raises:
        ServiceUnavailable: from every method, if the engine does not answer or has an internal error.
        RequestError: from every method, if the engine rejects the request.
    """

    def __init__(self) -> None:
        self.address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        with self._mapped_errors():
            hook = DockerHook(registry_connection(), base_url=self.address, timeout=_TIMEOUT_SECONDS)
            self._client: Any = hook.api_client

    def close(self) -> None:
        """Close the connections to the engine."""
        self._client.close()

    def find(self, name: str) -> Container | None:
        """Return the container of a name, None if it does not exist."""
        with self._mapped_errors():
            try:
                document = self._client.inspect_container(name)
            except docker.errors.NotFound:
                return None
        labels = document["Config"]["Labels"] or {}
        return Container(name, labels, document["State"], datetime.fromisoformat(document["Created"]))

    def labelled(self, label: str) -> list[Container]:
        """Return all containers with a label `name=value`, running or not."""
        with self._mapped_errors():
            rows = self._client.containers(all=True, filters={"label": [label]})
        containers = [self.find(row["Id"]) for row in rows]
        return [container for container in containers if container is not None]

    def create(self, name: str, *, image: str, limits: dict[str, Any], **options: Any) -> bool:
        """Create a container without capabilities and with a read-only file system.

        Args:
            name: name of the container.
            image: image, pulled if the engine does not have it.
            limits: options of docker's `create_host_config`: memory, processors, network, volumes.
            options: further options of docker's `create_container`.

        Returns:
            False if a container of that name exists.
        """
        with self._mapped_errors():
            host = self._client.create_host_config(
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                read_only=True,
                tmpfs={"/tmp": "mode=1777"},  # noqa: S108  in the memory of the container
                log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "3"}),
                **limits,
            )
        for last in (False, True):
            try:
                with self._mapped_errors(image=image):
                    self._client.create_container(image, name=name, host_config=host, **options)
                    return True
            except docker.errors.ImageNotFound as exc:
                if last:
                    raise _image_error(image, exc) from exc
                self._pull(image)
            except docker.errors.APIError:  # a conflict, which _mapped_errors does not map: the name exists
                return False
        raise AssertionError

    def start(self, name: str) -> None:
        """Start a container. No error if it has been started before."""
        with self._mapped_errors():
            self._client.start(name)

    def log_after(self, name: str, stamp: str) -> list[tuple[str, str]]:
        """Return time stamp and text of each log line after a time stamp."""
        since = int(datetime.fromisoformat(stamp).timestamp()) if stamp else None
        with self._mapped_errors():
            output = self._client.logs(name, stdout=True, stderr=True, timestamps=True, since=since)
        lines = [line.partition(" ") for line in output.decode(errors="replace").splitlines()]
        return [(time, text) for time, _, text in lines if time > stamp]

    def remove(self, name: str) -> None:
        """Kill and remove a container. No error if it is gone or being removed."""
        with self._mapped_errors():
            try:
                self._client.remove_container(name, force=True)
            except docker.errors.APIError as exc:
                if exc.status_code not in (404, _CONFLICT):
                    raise

    def _pull(self, image: str) -> None:
        try:
            self._client.pull(image)
        except (docker.errors.DockerException, requests.RequestException) as exc:
            raise _image_error(image, exc) from exc

    @contextmanager
    def _mapped_errors(self, *, image: str | None = None) -> Iterator[None]:
        """Map errors of the engine and the network. With an image, its missing and conflict errors pass unchanged."""
        try:
            yield
        except docker.errors.APIError as exc:
            if image is not None and (isinstance(exc, docker.errors.ImageNotFound) or exc.status_code == _CONFLICT):
                raise
            raise (self._internal_error(exc) if exc.is_server_error() else _rejected_error(exc)) from exc
        except AirflowNotFoundException as exc:
            raise _login_error(exc) from exc
        except (requests.RequestException, AirflowException) as exc:
            raise ServiceUnavailable(
                "the Docker engine does not answer",
                where=self.address,
                got=str(exc),
                fix="start the engine, and give the worker access; DOCKER_HOST is its address",
            ) from exc

    def _internal_error(self, exc: docker.errors.APIError) -> ServiceUnavailable:
        return ServiceUnavailable(
            "the Docker engine has an internal error",
            where=self.address,
            got=str(exc.explanation or exc),
            fix="read the log of the engine",
        )


def registry_connection() -> str | None:
    """Return the id of the connection to an image registry, None if it does not exist."""
    try:
        DockerHook.get_connection(CONNECTION)
    except AirflowNotFoundException:
        return None
    return CONNECTION


def _rejected_error(exc: docker.errors.APIError) -> RequestError:
    return RequestError(
        "the Docker engine rejects the container",
        expected="an image with ml-pipelines, and a network, volumes and limits that the engine has",
        got=str(exc.explanation or exc),
        fix="correct `runtime` in the declaration, or docker_network and docker_volumes in [ml_pipelines]",
    )


def _image_error(image: str, exc: Exception) -> RequestError:
    return RequestError(
        f"the image {image!r} is not available",
        expected="a local image, or one that the engine can pull",
        got=str(getattr(exc, "explanation", None) or exc),
        fix="build it from include/docker/Dockerfile.training, or set another under runtime.<task>.docker.image or in "
        "[ml_pipelines] docker_image",
    )


def _login_error(exc: Exception) -> RequestError:
    return RequestError(
        "the connection to the image registry is incomplete",
        where=f"connection {CONNECTION!r}",
        expected="a connection of type Docker with registry, user and password",
        got=str(exc),
        fix="complete or remove the connection",
    )
