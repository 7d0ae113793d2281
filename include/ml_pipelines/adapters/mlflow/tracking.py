"""Track trainings in MLflow: one run and one logged model for each identity, also after killed attempts."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ml_pipelines.adapters.mlflow.client import MlflowServer, all_pages, checked, first_or_create, retry_on_conflict
from ml_pipelines.adapters.mlflow.model_format import write_model
from ml_pipelines.adapters.mlflow.tags import (
    IDENTITY,
    KEY,
    OPENED,
    dataset_input,
    identity_digest,
    run_params,
    run_tags,
)
from ml_pipelines.contracts import Identity
from ml_pipelines.errors import PipelineError
from ml_pipelines.ports import TrackedModel, Training

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

__all__ = ["MlflowTracking"]

_SHA256 = "ml_pipelines.artifact_sha256"
_PARAMS_PER_CALL = 100  # as many as MLflow takes


class MlflowTracking:
    """:class:`ml_pipelines.ports.Tracking` with MLflow behind it.

    A run is FINISHED once everything is written, so a finished run of the same key is left as it is.

    Args:
        tracking_uri: of the server or the database.
        server: what else :class:`MlflowServer` takes.
    """

    def __init__(self, tracking_uri: str, **server: Any) -> None:
        self._server = MlflowServer(tracking_uri, **server)

    def log_training(self, identity: Identity, training: Training) -> TrackedModel:
        """One run and one logged model, found by tags, reopened and completed if an earlier attempt was killed.

        MLflow never changes a parameter: if the same identity comes with other parameters, it gets a new run with the
        tag `ml_pipelines.supersedes`.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        with self._server.client() as client:
            experiment_id = self._experiment(client, training.model)
            run_id, model_uri = _log(client, experiment_id, identity, training)
        return TrackedModel(run_id, model_uri, self._server.page("experiments", experiment_id, "runs", run_id))

    def log_evaluation(
        self, tracked: TrackedModel, metrics: dict[str, float], figures: dict[str, bytes], documents: dict[str, str]
    ) -> None:
        """Add metrics to the run and its model, and files below `evaluation/` to the run.

        Raises:
            ServiceUnavailable: the server does not answer.
            RegistryError: there is no such run.
        """
        files = figures | {name: text.encode() for name, text in documents.items()}
        with self._server.client() as client, TemporaryDirectory() as directory:
            _log_metrics(client, tracked.run_id, tracked.model_uri.removeprefix("models:/"), metrics)
            for name, content in files.items():
                (Path(directory) / name).write_bytes(content)
            if files:
                client.log_artifacts(tracked.run_id, directory, "evaluation")

    def close_abandoned(self, pipeline: str, older_than_seconds: float) -> int:
        """End the runs of a pipeline that were opened longer ago and are still running, as KILLED.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        opened_before = time.time() - older_than_seconds
        query = f"attributes.status = 'RUNNING' and tags.`ml_pipelines.pipeline` = '{pipeline}'"
        with self._server.client() as client:
            experiments = all_pages(lambda token: client.search_experiments(page_token=token))
            ids = [experiment.experiment_id for experiment in experiments]
            running = all_pages(lambda token: client.search_runs(ids, query, page_token=token))
            abandoned = [run for run in running if float(run.data.tags.get(OPENED, 0)) < opened_before]
            for run in abandoned:
                client.set_terminated(run.info.run_id, "KILLED")
        return len(abandoned)

    def _experiment(self, client: MlflowClient, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, self._server.artifact_location(name)))
            except MlflowException as exc:
                if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = client.get_experiment_by_name(name)  # another process was faster
        if experiment is not None:
            checked(experiment, name=name)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise PipelineError(
                f"the experiment {name!r} was deleted",
                where=self._server.where,
                fix="restore it with `mlflow experiments restore`, or remove it permanently with `mlflow gc`",
            )
        return str(experiment.experiment_id)


def _log(client: MlflowClient, experiment_id: str, identity: Identity, training: Training) -> tuple[str, str]:
    """Log a training and return the run id and the model URI. Existing entries are kept or written again.

    Two processes with one identity may both create a run, because neither the clock nor the database orders them. So
    each process searches again before it completes its run. It uses a run that is complete or older instead of its own.
    """
    from mlflow.entities import LoggedModelStatus

    find = partial(_runs, client, experiment_id, identity, training)
    create = partial(_create_run, client, experiment_id, identity, training)
    run: Run = first_or_create(find, create, lambda run: client.delete_run(_id(run)), key=_id)
    models = _models(client, run, training)
    if _is_complete(run, training) and models and _is_ready(models[0]):
        return _id(run), models[0].model_uri
    retry_on_conflict(partial(_describe, client, run, identity, training))
    logged = _logged_model(client, run, training)
    if (late := _id(find()[0]) != _id(run)) or _models(client, run, training)[0].model_id != logged.model_id:
        client.delete_logged_model(logged.model_id)
        if late:
            client.delete_run(_id(run))
        return _log(client, experiment_id, identity, training)
    retry_on_conflict(partial(_link, client, run, logged))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.set_terminated(_id(run), "FINISHED")
    return _id(run), logged.model_uri


def _id(run: Run) -> str:
    return str(run.info.run_id)


def _runs(client: MlflowClient, experiment_id: str, identity: Identity, training: Training) -> list[Run]:
    """The runs that this training may write to, the best one first.

    Those of the same key, complete ones before others, then by age; else the latest of the identity. None that has
    another value for a parameter.
    """
    params = run_params(training)
    usable = [
        run
        for run in _runs_of(client, experiment_id, identity, training)
        if all(run.data.params.get(name, value) == value for name, value in params.items())
    ]
    same = [run for run in usable if run.data.tags.get(KEY) == training.key]
    return sorted(same, key=lambda run: not _is_complete(run, training)) or usable[-1:]


def _runs_of(client: MlflowClient, experiment_id: str, identity: Identity, training: Training) -> list[Run]:
    """All runs of an identity, oldest first."""
    query = f"tags.`{IDENTITY}` = '{identity_digest(identity, training)}'"
    runs = all_pages(lambda token: client.search_runs([experiment_id], query, page_token=token))
    return sorted(runs, key=lambda run: (run.info.start_time, _id(run)))


def _create_run(client: MlflowClient, experiment_id: str, identity: Identity, training: Training) -> Run:
    tags = run_tags(identity, training)
    if earlier := _runs_of(client, experiment_id, identity, training):
        tags["ml_pipelines.supersedes"] = _id(earlier[-1])
    run = client.create_run(experiment_id, tags=tags, run_name=training.candidate)
    checked(run.info, experiment_id=experiment_id)
    return run


def _is_complete(run: Run, training: Training) -> bool:
    return bool(run.info.status == "FINISHED" and run.data.tags.get(KEY) == training.key)


def _is_ready(model: LoggedModel) -> bool:
    return str(model.status) == "READY"


def _describe(client: MlflowClient, run: Run, identity: Identity, training: Training) -> None:
    """Open the run, and say what went into the training."""
    from mlflow.entities import Param, RunTag

    client.update_run(_id(run), status="RUNNING")
    client.log_batch(_id(run), tags=[RunTag(name, value) for name, value in run_tags(identity, training).items()])
    params = [Param(name, value) for name, value in run_params(training).items()]
    for start in range(0, len(params), _PARAMS_PER_CALL):
        client.log_batch(_id(run), params=params[start : start + _PARAMS_PER_CALL])
    client.log_inputs(_id(run), [dataset_input(training)])


def _models(client: MlflowClient, run: Run, training: Training) -> list[LoggedModel]:
    """The logged models of a run that hold these bytes: those that are ready first, then the oldest."""
    query = f"source_run_id = '{_id(run)}' and tags.`{_SHA256}` = '{training.model_ref.sha256}'"
    ids = [run.info.experiment_id]
    models = all_pages(lambda token: client.search_logged_models(ids, query, page_token=token))
    return sorted(models, key=lambda model: (not _is_ready(model), model.creation_timestamp, model.model_id))


def _logged_model(client: MlflowClient, run: Run, training: Training) -> LoggedModel:
    """The model's entry, which a killed attempt may have made, with its metrics and files."""
    logged = first_or_create(
        partial(_models, client, run, training),
        lambda: client.create_logged_model(
            run.info.experiment_id,
            name=training.candidate,
            source_run_id=_id(run),
            tags={_SHA256: training.model_ref.sha256, KEY: training.key},
            params=run_params(training),
        ),
        lambda model: client.delete_logged_model(model.model_id),
        key=lambda model: model.model_id,
    )
    checked(logged, source_run_id=_id(run))
    _log_metrics(client, _id(run), logged.model_id, training.metrics)
    if not _is_ready(logged):
        with TemporaryDirectory() as directory:
            write_model(training, logged, Path(directory) / "model")
            client.log_model_artifacts(logged.model_id, str(Path(directory) / "model"))
    return logged


def _link(client: MlflowClient, run: Run, logged: LoggedModel) -> None:
    """Show the model as the run's output."""
    from mlflow.entities import LoggedModelOutput

    outputs = client.get_run(_id(run)).outputs
    if logged.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(_id(run), [LoggedModelOutput(logged.model_id, step=0)])


def _log_metrics(client: MlflowClient, run_id: str, model_id: str, metrics: dict[str, float]) -> None:
    """Log to the run and its model what is not their latest value already."""
    from mlflow.entities import Metric

    on_run = client.get_run(run_id).data.metrics
    of_model = sorted(client.get_logged_model(model_id).metrics or [], key=lambda metric: metric.timestamp)
    on_model = {metric.key: metric.value for metric in of_model}
    now = time.time_ns() // 1_000_000
    new = [
        Metric(name, value, now, 0, model_id=model_id)
        for name, value in metrics.items()
        if not on_run.get(name) == on_model.get(name) == value
    ]
    if new:
        client.log_batch(run_id, metrics=new)
