"""A simulated MLflow server, behind the parts of `MlflowClient` that the adapters use.

It keeps the rules of MLflow that the protocol depends on. Tags are not unique. A search and a write are two requests.
A run starts at the time of its client. A parameter never changes. Each file is one upload.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from types import SimpleNamespace
from typing import Any, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST
from tests.simulation.clock import Clock
from tests.simulation.scheduler import Scheduler

from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.adapters.mlflow.tracking import MlflowTracking
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.ports import ModelVersion, Training

__all__ = ["IDENTITY_TAG", "KEY_TAG", "SimulatedRegistry", "SimulatedTracking", "TrackingServer"]

_Result = TypeVar("_Result")
_TERM = re.compile(r"(?:tags\.`([^`]+)`|(\w+)) = '([^']*)'")
MODEL_FILE = "model.skops"
IDENTITY_TAG, KEY_TAG = "ml_pipelines.identity", "ml_pipelines.key"


class Page(list[Any]):
    """The only page of a search."""

    token = None


class TrackingServer:
    """Runs, logged models, versions and aliases.

    Attributes:
        runs: by id, deleted ones too.
        models: logged models by id, deleted ones too.
        files: uploaded files by model id and name.
        versions: by model and number, deleted ones too.
        aliases: number by model and alias.
        on_alias: called with model, alias and the new number after each change of an alias.
    """

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self.scheduler, self.clock = scheduler, clock
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Any] = {}
        self.models: dict[str, Any] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.registered: set[str] = set()
        self.versions: dict[tuple[str, str], Any] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.on_alias: Callable[[str, str, str | None], None] = lambda model, alias, version: None
        self._ids = 0

    def new_id(self, kind: str) -> str:
        """Return a new id. Ids have no order, as in MLflow."""
        self._ids += 1
        return f"{kind}{self.scheduler.random.getrandbits(32):08x}{self._ids}"

    def live_runs(self) -> list[Any]:
        """Return the runs that are not deleted."""
        return [run for run in self.runs.values() if not run.deleted]

    def served_files(self, model: str, version: str) -> dict[str, bytes]:
        """Return all files of a version by name. The description is the name of the file that it describes."""
        number = self.versions[model, version].model_id
        return {
            name: data if name == MODEL_FILE else b"description"
            for (of, name), data in self.files.items()
            if of == number
        }

    def served_bytes(self, model: str, version: str) -> bytes | None:
        """Return the model file that a client of a version would load."""
        entry = self.versions[model, version]
        return self.files.get((entry.model_id, MODEL_FILE))


class Client:
    """`MlflowClient` on the simulated server; each method is one request."""

    def __init__(self, server: TrackingServer) -> None:
        self.server = server

    def _request(self, label: str, effect: Callable[[], _Result], *, repeat: bool = True) -> _Result:
        return self.server.scheduler.request(label, effect, ServiceUnavailable, repeat=repeat)

    # Experiments and runs

    def get_experiment_by_name(self, name: str) -> Any:
        server = self.server
        number = self._request("get experiment", lambda: server.experiments.get(name))
        return SimpleNamespace(experiment_id=number, name=name, lifecycle_stage="active") if number else None

    def create_experiment(self, name: str, location: str | None = None) -> str:
        def effect() -> str:
            if name in self.server.experiments:
                raise _error("the experiment exists", RESOURCE_ALREADY_EXISTS)
            self.server.experiments[name] = str(len(self.server.experiments) + 1)
            return self.server.experiments[name]

        return self._request("create experiment", effect)

    def search_experiments(self, **_: Any) -> Page:
        numbers = self._request("search experiments", self.server.experiments.values)
        return Page(SimpleNamespace(experiment_id=number) for number in numbers)

    def search_runs(self, experiments: list[str], query: str, **_: Any) -> Page:
        return self._request("search runs", lambda: Page(_run(run) for run in self._matching_runs(experiments, query)))

    def _matching_runs(self, experiments: list[str], query: str) -> Iterator[Any]:
        tags, fields = _terms(query)
        for run in self.server.live_runs():
            status = fields.get("status", run.status)
            if run.experiment in experiments and run.status == status and tags.items() <= run.tags.items():
                yield run

    def create_run(self, experiment: str, *, tags: dict[str, str], run_name: str) -> Any:
        started = self.server.clock.time_ns() // 1_000_000

        def effect() -> Any:
            run = SimpleNamespace(
                id=self.server.new_id("r"), experiment=experiment, tags=dict(tags), start=started, status="RUNNING",
                params={}, metrics={}, outputs=[], deleted=False,
            )  # fmt: skip
            self.server.runs[run.id] = run
            return _run(run)

        return self._request(f"create run {run_name}", effect)

    def get_run(self, run_id: str) -> Any:
        return self._request("get run", lambda: _run(self._run(run_id)))

    def delete_run(self, run_id: str) -> None:
        self._request("delete run", lambda: setattr(self.server.runs[run_id], "deleted", True))

    def update_run(self, run_id: str, *, status: str) -> None:
        self._request(f"update run to {status}", lambda: setattr(self._run(run_id), "status", status))

    def set_terminated(self, run_id: str, status: str) -> None:
        self._request(f"terminate run as {status}", lambda: setattr(self._run(run_id), "status", status))

    def log_batch(self, run_id: str, *, tags: Any = (), params: Any = (), metrics: Any = ()) -> None:
        def effect() -> None:
            run = self._run(run_id)
            run.tags |= {tag.key: tag.value for tag in tags}
            for param in params:
                if run.params.setdefault(param.key, param.value) != param.value:
                    raise _error("a parameter can't change", RESOURCE_ALREADY_EXISTS)
            for metric in metrics:
                run.metrics[metric.key] = metric.value
                if metric.model_id in self.server.models:
                    self.server.models[metric.model_id].metrics[metric.key] = metric.value

        self._request("log batch", effect)

    def log_inputs(self, run_id: str, inputs: Any) -> None:
        self._request("log inputs", lambda: self._run(run_id) and None)

    def log_outputs(self, run_id: str, outputs: Any) -> None:
        ids = [output.model_id for output in outputs]
        self._request("log outputs", lambda: self._run(run_id).outputs.extend(ids))

    def log_artifacts(self, run_id: str, directory: str, folder: str) -> None:
        self._request("log artifacts", lambda: self._run(run_id) and None)

    def _run(self, run_id: str) -> Any:
        run = self.server.runs.get(run_id)
        if run is None or run.deleted:
            raise _error("there is no such run", RESOURCE_DOES_NOT_EXIST)
        return run

    # Logged models

    def search_logged_models(self, experiments: list[str], query: str, **_: Any) -> Page:
        tags, fields = _terms(query)

        def effect() -> Page:
            return Page(
                _logged(model)
                for model in self.server.models.values()
                if not model.deleted
                and model.source_run_id == fields["source_run_id"]
                and tags.items() <= model.tags.items()
            )

        return self._request("search logged models", effect)

    def create_logged_model(
        self, experiment: str, *, name: str, source_run_id: str, tags: dict[str, str], params: dict[str, str]
    ) -> Any:
        created = self.server.clock.time_ns() // 1_000_000

        def effect() -> Any:
            number = self.server.new_id("m-")
            model = SimpleNamespace(
                model_id=number, source_run_id=source_run_id, tags=dict(tags), status="PENDING", deleted=False,
                creation_timestamp=created, metrics={}, artifact_location=f"mlflow/{number}",
                model_uri=f"models:/{number}",
            )  # fmt: skip
            self.server.models[number] = model
            return _logged(model)

        return self._request(f"create logged model {name}", effect)

    def get_logged_model(self, number: str) -> Any:
        return self._request("get logged model", lambda: _logged(self._model(number)))

    def delete_logged_model(self, number: str) -> None:
        self._request("delete logged model", lambda: setattr(self.server.models[number], "deleted", True))

    def finalize_logged_model(self, number: str, status: Any) -> None:
        self._request("finalize logged model", lambda: setattr(self._model(number), "status", str(status)))

    def set_logged_model_tags(self, number: str, tags: dict[str, str]) -> None:
        self._request("tag logged model", lambda: self._model(number).tags.update(tags))

    def log_model_artifacts(self, number: str, directory: str) -> None:
        # One request for each file: a killed client leaves some of them.
        for name in ("MLmodel", MODEL_FILE):
            self._request(f"upload {name}", lambda name=name: self._upload(number, name))  # type: ignore[misc]

    def _upload(self, number: str, name: str) -> None:
        model = self._model(number)
        self.server.files[number, name] = self.server.scheduler.process.written[number]
        model.files = name

    def _model(self, number: str) -> Any:
        model = self.server.models.get(number)
        if model is None or model.deleted:
            raise _error("there is no such model", RESOURCE_DOES_NOT_EXIST)
        return model

    # Versions and aliases

    def create_registered_model(self, model: str) -> None:
        def effect() -> None:
            if model in self.server.registered:
                raise _error("the model exists", RESOURCE_ALREADY_EXISTS)
            self.server.registered.add(model)

        self._request("create registered model", effect)

    def get_registered_model(self, model: str) -> Any:
        def effect() -> Any:
            if model not in self.server.registered:
                raise _error("there is no such model", RESOURCE_DOES_NOT_EXIST)
            aliases = {alias: version for (of, alias), version in self.server.aliases.items() if of == model}
            return SimpleNamespace(name=model, aliases=aliases)

        return self._request("get registered model", effect)

    def get_model_version(self, model: str, version: str) -> Any:
        return self._request(f"get version {version}", lambda: self._version(self._entry(model, version)))

    def search_model_versions(self, query: str, **_: Any) -> Page:
        tags, fields = _terms(query)

        def effect() -> Page:
            return Page(
                self._version(entry)
                for entry in self.server.versions.values()
                if not entry.deleted and entry.name == fields["name"] and tags.items() <= entry.tags.items()
            )

        return self._request("search versions", effect)

    def create_model_version(self, model: str, source: str, *, run_id: str, tags: dict[str, str], model_id: str) -> Any:
        def effect() -> Any:
            number = str(sum(of == model for of, _ in self.server.versions) + 1)
            entry = SimpleNamespace(
                name=model, version=number, tags=dict(tags), model_id=model_id, status="READY", deleted=False,
                run_id=run_id,
            )  # fmt: skip
            self.server.versions[model, number] = entry
            return self._version(entry)

        return self._request("create version", effect)

    def delete_model_version(self, model: str, version: str) -> None:
        def effect() -> None:
            self.server.versions[model, version].deleted = True
            for key in [key for key, number in self.server.aliases.items() if (key[0], number) == (model, version)]:
                del self.server.aliases[key]

        self._request(f"delete version {version}", effect)

    def set_registered_model_alias(self, model: str, alias: str, version: str) -> None:
        def effect() -> None:
            self._entry(model, version)
            self.server.aliases[model, alias] = version
            self.server.on_alias(model, alias, version)

        self._request(f"alias {alias} -> {version}", effect)

    def delete_registered_model_alias(self, model: str, alias: str) -> None:
        def effect() -> None:
            self.server.aliases.pop((model, alias), None)
            self.server.on_alias(model, alias, None)

        self._request(f"drop alias {alias}", effect)

    def _entry(self, model: str, version: str) -> Any:
        entry = self.server.versions.get((model, str(version)))
        if entry is None or entry.deleted:
            raise _error("there is no such version", RESOURCE_DOES_NOT_EXIST)
        return entry

    def _version(self, entry: Any) -> Any:
        shown = copy(entry)
        shown.tags = dict(entry.tags)
        shown.aliases = sorted(
            alias for (model, alias), number in self.server.aliases.items()
            if (model, number) == (entry.name, entry.version)
        )  # fmt: skip
        return shown


class Server:
    """:class:`ml_pipelines.adapters.mlflow.client.MlflowServer` in front of the simulated server."""

    uri = where = "http://mlflow.simulated"
    remote = True

    def __init__(self, server: TrackingServer) -> None:
        self.variables: dict[str, str] = {}
        self._client = Client(server)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Return the client; MLflow's errors become errors of the package."""
        from ml_pipelines.errors import RegistryError

        try:
            yield self._client
        except MlflowException as exc:
            raise RegistryError(str(exc)) from exc

    def page(self, *parts: str) -> None:
        """Return no page."""

    def artifact_location(self, experiment: str) -> None:
        """Return no location."""


class SimulatedTracking(MlflowTracking):
    """The real adapter on the simulated server."""

    def __init__(self, server: TrackingServer) -> None:
        self._server = Server(server)  # type: ignore[assignment]


class SimulatedRegistry(MlflowRegistry):
    """The real adapter on the simulated server. Only the download of a file is simulated."""

    def __init__(self, server: TrackingServer) -> None:
        self._server = Server(server)  # type: ignore[assignment]
        self._simulated = server

    def fetch(self, version: ModelVersion) -> bytes:
        """Return the model file that the server serves."""
        return self.fetch_files(version)[MODEL_FILE]

    def fetch_files(self, version: ModelVersion) -> dict[str, bytes]:
        """Return the files that the server serves."""
        from ml_pipelines.errors import RegistryError

        server = self._simulated
        files: dict[str, bytes] = server.scheduler.request(
            f"download version {version.version}",
            lambda: server.served_files(version.model, version.version),
            ServiceUnavailable,
        )
        if MODEL_FILE not in files:
            raise RegistryError("the model has no file")
        return files


def write_model(scheduler: Scheduler, training: Training, logged: Any) -> None:
    """Keep the file of a model for the upload of the same process."""
    scheduler.process.written[logged.model_id] = training.model_bytes


def _terms(query: str) -> tuple[dict[str, str], dict[str, str]]:
    terms = _TERM.findall(query.replace("attributes.", ""))
    return {tag: value for tag, _, value in terms if tag}, {field: value for _, field, value in terms if field}


def _run(run: Any) -> Any:
    return SimpleNamespace(
        info=SimpleNamespace(
            run_id=run.id, start_time=run.start, status=run.status, experiment_id=run.experiment
        ),
        data=SimpleNamespace(tags=dict(run.tags), params=dict(run.params), metrics=dict(run.metrics)),
        outputs=SimpleNamespace(model_outputs=[SimpleNamespace(model_id=number) for number in run.outputs]),
    )  # fmt: skip


def _logged(model: Any) -> Any:
    shown = copy(model)
    shown.tags = dict(model.tags)
    shown.metrics = [SimpleNamespace(key=name, value=value, timestamp=0) for name, value in model.metrics.items()]
    return shown


def _error(text: str, code: int) -> MlflowException:
    return MlflowException(text, error_code=code)
