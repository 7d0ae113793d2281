"""The invariants of the protocol."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from tests.simulation import steps
from tests.simulation.database import holder_of
from tests.simulation.operators import Operator
from tests.simulation.tracking_server import IDENTITY_TAG, KEY_TAG
from tests.simulation.training_runs import Run
from tests.simulation.world import World

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.promotion import hash_chain as chain
from ml_pipelines.promotion.history import is_transition
from ml_pipelines.store.layout import Manifest, object_name, parse_document

__all__ = ["check_end", "check_kept", "check_operators", "check_store", "check_trained", "watch_aliases"]


def watch_aliases(world: World) -> None:
    """Check each move of the alias `champion`: by the holder of the lock, to a version that this process has proved."""

    def check(model: str, alias: str, version: str | None) -> None:
        if alias != "champion" or world.scheduler.current is None:
            return
        process = world.scheduler.process
        world.movers.add(process.name.partition("~")[0])
        if process.name.startswith("person"):
            return
        assert holder_of(world.database, model) is process, "unlocked: the alias was moved without the model lock"
        assert version is not None, "the alias champion was dropped"
        proof = world.proofs.get((process, model, version))
        assert proof is not None, f"unproven: version {version} serves without a smoke test"
        served = world.server.served_bytes(model, version) or b""
        assert hashlib.sha256(served).hexdigest() == proof, f"unproven: version {version} serves other bytes"

    world.server.on_alias = check


def check_store(world: World) -> None:
    """A manifest refers only to bytes that exist and have their digest."""
    for name, (data, _) in world.disk.files.items():
        if name.startswith("manifests/"):
            manifest = parse_document(data, Manifest)
            assert manifest is not None, f"store: {name} can't be read"
            for ref in manifest.outputs.values():
                _check_object(world, ref, name)


def _check_object(world: World, ref: ArtifactRef, name: str) -> None:
    data = world.disk.content(object_name(ref.sha256, ref.kind))
    assert data is not None, f"store: {name} refers to bytes that are gone"
    assert hashlib.sha256(data).hexdigest() == ref.sha256, f"store: {name} refers to altered bytes"


def check_end(world: World, runs: Iterable[Run]) -> None:
    """Check what must hold when every run has ended."""
    runs = list(runs)
    check_store(world)
    for run in runs:
        assert run.finished, f"liveness: {run.run_id} did not end: {run.error!r}"
        _check_convergence(run)
        _check_entry(world, run)
    for model in sorted({run.model for run in runs}):
        _check_chain(world, model)
        _check_alias(world, model)
    _check_tracking(world)


def check_trained(world: World, runs: Iterable[Run]) -> None:
    """Check what must hold when every run has trained."""
    for run in runs:
        assert run.finished, f"liveness: {run.run_id} did not end: {run.error!r}"
        _check_convergence(run)
    _check_tracking(world)


def check_kept(world: World, runs: Iterable[Run]) -> None:
    """Check that the results of the runs were not deleted."""
    for run in runs:
        assert run.finished, f"liveness: {run.run_id} did not end: {run.error!r}"
        _check_convergence(run)
        for result in run.results.values():
            for one in result if isinstance(result, list) else [result]:
                for name, ref in one.outputs.items():
                    _check_object(world, ref, f"{run.run_id} {one.step}.{name}")


def check_operators(world: World, operators: Iterable[Operator], faults: int) -> None:
    """Check that the ledger has what the operators returned, and no change from outside that did not happen."""
    hashes = {entry.hash for entry in world.database.entries}
    for operator in operators:
        assert operator.finished, f"liveness: {operator.name} did not end"
        if operator.entry is not None:
            assert operator.entry.hash in hashes, f"acknowledged: the entry of {operator.name} is lost"
    outside = [entry for entry in world.database.entries if entry.decision.outcome == "external_change"]
    assert world.persons or faults or not outside, f"external: entry {outside[0].seq} reports no real change"
    names = {operator.name for operator in operators}
    recorded = {entry.details.version for entry in world.database.entries if entry.run_id in names}
    for operator in operators:
        # An operator that is interrupted after the move, and another one that selected the same version, make one
        # change: the other one completes and records it.
        moved = operator.name in world.movers and not world.persons
        assert not moved or recorded & {*operator.selected}, (
            f"convergence: {operator.name} moved the champion, and no operator has an entry of its version"
        )


def _check_convergence(run: Run) -> None:
    expected = hashlib.sha256(steps.model_bytes(run.revision)).hexdigest()
    for step, result in run.results_seen:
        if step == "train":
            assert result.outputs["model"].sha256 == expected, "convergence: a retry trained another model"


def _check_entry(world: World, run: Run) -> None:
    """Check that the run has one entry, with the outcome of the run."""
    entries = [
        entry for entry in world.database.entries if (entry.pipeline, entry.run_id) == (run.pipeline, run.run_id)
    ]
    assert entries, f"acknowledged: {run.run_id} has no entry"
    superseded = {entry.supersedes for entry in entries}
    final = [entry for entry in entries if entry.seq not in superseded]
    assert len(final) == 1, f"one entry: {run.run_id} has {len(final)}"
    if not run.cleared:
        assert len(entries) == 1, f"one entry: {run.run_id} has {len(entries)}"
    deployed = run.results.get("deploy")
    decided = run.decision().outcome
    expected = "promoted" if deployed else decided
    assert final[0].decision.outcome == expected, f"entry: {run.run_id} is {final[0].decision.outcome}, not {expected}"
    recorded = run.results["record_decision"]
    assert isinstance(recorded, StepResult)
    assert recorded.values["outcome"] == expected, f"acknowledged: {run.run_id} returned another outcome"


def _check_chain(world: World, model: str) -> None:
    errors = list(chain.chain_errors(world.database.stored(model), world.database.heads.get(model)))
    assert not errors, f"chain: {errors[0]}"


def _check_alias(world: World, model: str) -> None:
    changes = [entry for entry in world.database.entries if entry.model == model and is_transition(entry)]
    last = changes[-1].details.version if changes else None
    actual = world.server.aliases.get((model, "champion"))
    assert actual == last, f"alias: champion is version {actual}, the ledger's last promotion is version {last}"
    replaced = {entry.details.version for entry in world.database.entries if entry.details.replaced_by}
    if not world.persons and not any(task.startswith("operator") for task in world.movers):
        outside = [entry for entry in world.database.entries if entry.decision.outcome == "external_change"]
        assert not outside, f"external: entry {outside[0].seq} reports no real change"
        for index, entry in enumerate(changes):
            again = entry.details.version in {before.details.version for before in changes[:index]}
            if not again and entry.decision.champion_version is not None:
                kept = entry.details.previous_version
                assert kept is not None, f"previous: entry {entry.seq} lost the champion before it"
    for index, entry in enumerate(changes):
        if entry.decision.candidate and entry.decision.outcome == "promoted":
            _check_order(entry, changes[:index], replaced)


def _check_order(entry: LedgerEntry, earlier: list[LedgerEntry], replaced: set[str | None]) -> None:
    """Check that a candidate was compared with the champion that it replaced. A run may replace its own version.

    A champion whose run died before its entry is in no entry of its own, only in the one of the run that replaced it.
    """
    own = {before.details.version for before in earlier if before.run_id == entry.run_id}
    others = [before for before in earlier if before.details.version not in own]
    champions = {entries[-1].details.version if entries else None for entries in (earlier, others)}
    compared = entry.decision.champion_version
    allowed = champions | replaced | {entry.details.previous_version}
    assert entry.details.version in champions or compared in allowed, (
        f"order: entry {entry.seq} replaced {champions}, compared with {compared}"
    )


def _check_tracking(world: World) -> None:
    server = world.server
    complete = [run for run in server.live_runs() if run.status == "FINISHED"]
    runs = Counter((run.tags[IDENTITY_TAG], run.tags[KEY_TAG]) for run in complete)
    assert all(number == 1 for number in runs.values()), "tracking: an identity has two complete runs"
    ready = Counter(
        (model.source_run_id, model.tags["ml_pipelines.artifact_sha256"])
        for model in server.models.values()
        if not model.deleted and model.status == "READY"
    )
    assert all(number == 1 for number in ready.values()), "tracking: a run has two models"
    uris = Counter(
        (version.name, version.tags["ml_pipelines.model_uri"])
        for version in server.versions.values()
        if not version.deleted
    )
    assert all(number == 1 for number in uris.values()), "registry: a model has two versions"
