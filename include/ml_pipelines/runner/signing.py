"""Sign the result of a step that ran in a process without the signing key."""

from __future__ import annotations

from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import ArtifactCorrupt
from ml_pipelines.pipeline.cache_key import components_match
from ml_pipelines.pipeline.step_table import find_step
from ml_pipelines.runner.step import validate_parameters
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key
from ml_pipelines.store.layout import Manifest

__all__ = ["sign_result"]


def sign_result(request: StepRequest, result: StepResult, store: ArtifactStore) -> None:
    """Sign the manifest that another process has committed for a request.

    Args:
        request: the request of the step.
        result: the result that the process returned. Only a computed result has a new manifest.
        store: the store of the request, with the signing key.

    Raises:
        ArtifactCorrupt: the manifest is not that of the request and of the result.
    """
    if result.status != "computed":
        return
    manifest = store.read_manifest(result.step, result.key)
    if manifest is None or not _belongs(manifest, request, result):
        raise ArtifactCorrupt(
            "a container returned a result that does not belong to its request, so it is not signed",
            where=f"step {request.step}",
            expected="the result of this step with the parameters and inputs of the request",
            got=f"the result {result.key[:12]} of step {result.step}",
            fix="check who can write to the store, and the image of the container",
        )
    store.save_manifest(manifest)


def _belongs(manifest: Manifest, request: StepRequest, result: StepResult) -> bool:
    step = find_step(request.step)
    parameters = validate_parameters(step, request)
    return (
        (manifest.step, manifest.key) == (request.step, result.key)
        and manifest.outputs == result.outputs
        and components_key(manifest.components) == result.key
        and components_match(
            manifest.components,
            step,
            parameters=parameters.model_dump(mode="json", exclude=set(parameters.not_in_key)),
            inputs=request.inputs,
            seed=request.seed,
        )
    )
