"""Which model serves, in MLflow's model registry."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ml_pipelines.adapters.mlflow.alias_lookup import LookupUnsupported, lookup_alias
from ml_pipelines.adapters.mlflow.client import MlflowServer, all_pages, checked, first_or_create
from ml_pipelines.adapters.mlflow.credentials import mlflow_environment
from ml_pipelines.adapters.mlflow.model_format import MODEL_FILE, check_loader, check_names
from ml_pipelines.adapters.mlflow.tags import identity_tags
from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.errors import RegistryError, ServiceUnavailable
from ml_pipelines.ports import ModelVersion, TrackedModel

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MlflowRegistry"]

_ARTIFACT = "ml_pipelines.artifact"
_MODEL_URI = "ml_pipelines.model_uri"
_VERSIONS = "mlflow.modelVersions"  # by this tag MLflow's pages of a logged model find its versions


class MlflowRegistry:
    """:class:`ml_pipelines.ports.Registry` with MLflow behind it.

    Args:
        tracking_uri: of the server or the database.
        server: what else :class:`MlflowServer` takes.
    """

    def __init__(self, tracking_uri: str, **server: Any) -> None:
        self._server = MlflowServer(tracking_uri, **server)

    def by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that an alias points to, None if there is no such model or alias.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        with suppress(LookupUnsupported), mlflow_environment(self._server.variables):
            seen = lookup_alias(self._server.uri, model, alias)
            return None if seen is None else self._version(seen)
        with self._server.client() as client:
            version = _aliases(client, model).get(alias)
            return None if version is None else self._version(_get_version(client, model, version))

    def by_version(self, model: str, version: str) -> ModelVersion | None:
        """A version by its number, None if there is no such model or version.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        if not version.isdecimal():  # which MLflow would call a bad request
            return None
        with self._server.client() as client:
            from mlflow.exceptions import MlflowException

            try:
                return self._version(_get_version(client, model, version))
            except MlflowException as exc:
                if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    def register(
        self, model: str, tracked: TrackedModel, artifact: ArtifactRef, identity: Identity, tags: dict[str, str]
    ) -> ModelVersion:
        """Return the version of a tracked model; register it if it has no version.

        Raises:
            ServiceUnavailable: the server does not answer, or the version is not ready yet.
            RegistryError: the tracked model is gone.
        """
        tags = {
            **tags,
            **identity_tags(identity),
            _ARTIFACT: artifact.model_dump_json(),
            _MODEL_URI: tracked.model_uri,
        }
        with self._server.client() as client:
            _create_model(client, model)
            version = first_or_create(
                partial(_versions, client, model, tracked.model_uri),
                partial(self._create_version, client, model, tracked, tags),
                lambda version: client.delete_model_version(model, version.version),
                key=lambda version: str(version.version),
            )
            _link(client, tracked, version)
        if version.status != "READY":
            raise ServiceUnavailable(
                f"version {version.version} of {model} is not ready",
                where=self._server.where,
                got=f"status {version.status}",
                fix="try again in a minute; if it stays so, delete the version in MLflow",
            )
        return self._version(version)

    def set_alias(self, model: str, version: str, alias: str) -> None:
        """Point an alias at a version.

        Raises:
            ServiceUnavailable: the server does not answer.
            RegistryError: there is no such version.
        """
        with self._server.client() as client:
            client.set_registered_model_alias(model, alias, version)

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove an alias, if there is one.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        with self._server.client() as client:
            if alias in _aliases(client, model):
                client.delete_registered_model_alias(model, alias)

    def fetch_files(self, version: ModelVersion) -> dict[str, bytes]:
        """The files of the version's folder as MLflow serves them, by path.

        Raises:
            ServiceUnavailable: the server does not answer.
            RegistryError: the version or its file is gone, or a client that loads its folder could run other code.
        """
        with self._server.client() as client, TemporaryDirectory() as directory:
            from mlflow.artifacts import download_artifacts, list_artifacts

            folder = client.get_model_version_download_uri(version.model, version.version)
            names = [Path(file.path).name for file in list_artifacts(folder, tracking_uri=self._server.uri)]
            _require_model_file(version, folder, names)
            check_names(names, folder)
            root = Path(download_artifacts(folder, dst_path=directory, tracking_uri=self._server.uri))
            files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        check_names(files, folder)
        check_loader(files, folder)
        return files

    def fetch(self, version: ModelVersion) -> bytes:
        """The bytes of the model file as MLflow serves them.

        Raises:
            ServiceUnavailable: the server does not answer.
            RegistryError: the version or its file is gone.
        """
        with self._server.client() as client, TemporaryDirectory() as directory:
            from mlflow.artifacts import download_artifacts, list_artifacts

            # Not `models:/...`: MLflow resolves that with the server of the process, which may be another one.
            folder = client.get_model_version_download_uri(version.model, version.version)
            files = [Path(file.path).name for file in list_artifacts(folder, tracking_uri=self._server.uri)]
            _require_model_file(version, folder, files)
            uri = f"{folder.rstrip('/')}/{MODEL_FILE}"
            return Path(download_artifacts(uri, dst_path=directory, tracking_uri=self._server.uri)).read_bytes()

    def _create_version(self, client: MlflowClient, model: str, tracked: TrackedModel, tags: dict[str, str]) -> Any:
        logged = checked(client.get_logged_model(_model_id(tracked)), model_id=_model_id(tracked))
        created = client.create_model_version(
            model,
            # A database client resolves `models:/...` with the server of the process, which may be another one.
            tracked.model_uri if self._server.remote else logged.artifact_location,
            run_id=tracked.run_id,
            tags=tags,
            model_id=logged.model_id,
        )
        return checked(created, name=model)

    def _version(self, version: Any) -> ModelVersion:
        return ModelVersion(
            model=version.name,
            version=str(version.version),
            artifact=_artifact(version.tags.get(_ARTIFACT)),
            tags=dict(version.tags),
            aliases=tuple(version.aliases),
            url=self._server.page("models", version.name, "versions", str(version.version)),
        )


def _require_model_file(version: ModelVersion, folder: str, names: list[str]) -> None:
    if MODEL_FILE not in names:
        raise RegistryError(
            f"the file of version {version.version} of {version.model} is gone",
            where=folder,
            expected=MODEL_FILE,
            got=", ".join(sorted(names)) or "an empty folder",
            fix="restore MLflow's artifacts, or promote another version",
        )


def _get_version(client: MlflowClient, model: str, version: str) -> Any:
    return checked(client.get_model_version(model, version), name=model, version=version)


def _model_id(tracked: TrackedModel) -> str:
    return tracked.model_uri.removeprefix("models:/")


def _aliases(client: MlflowClient, model: str) -> dict[str, str]:
    """Return the version of each alias; empty for a model that is not registered."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(checked(client.get_registered_model(model), name=model).aliases)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _create_model(client: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _versions(client: MlflowClient, model: str, model_uri: str) -> list[Any]:
    query = f"name = '{model}' and tags.`{_MODEL_URI}` = '{model_uri}'"
    versions = all_pages(lambda token: client.search_model_versions(query, page_token=token))
    return sorted(versions, key=lambda version: int(version.version))


def _link(client: MlflowClient, tracked: TrackedModel, version: Any) -> None:
    """Show the version on MLflow's page of the logged model. An MLflow server does this automatically."""
    links = json.loads(client.get_logged_model(_model_id(tracked)).tags.get(_VERSIONS, "[]"))
    link = {"name": version.name, "version": version.version}
    if link not in links:
        client.set_logged_model_tags(_model_id(tracked), {_VERSIONS: json.dumps([*links, link])})


def _artifact(text: str | None) -> ArtifactRef | None:
    try:
        return ArtifactRef.model_validate_json(text) if text else None
    except ValidationError:
        return None
