"""Check that this machine can run pipelines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from ml_pipelines.errors import LedgerError, MissingExtra, PipelineError, RequestError
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["Diagnostic", "run_diagnostics"]

_PACKAGES = ("polars", "pandas", "pandera", "scikit-learn", "skops", "mlflow", "dvc", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """The result of one check: its subject, whether it passed, and the details."""

    what: str
    ok: bool
    detail: str


def run_diagnostics(settings: Settings) -> list[Diagnostic]:
    """Check the packages, git, the artifact store, the ledger and the model registry."""
    checks: dict[str, Callable[[], str]] = {
        "packages": _packages,
        "git": _git,
        "artifact store": lambda: _store(settings.store),
        "ledger": lambda: _ledger(settings),
        "MLflow": lambda: _mlflow(settings),
    }
    return [_diagnose(what, check) for what, check in checks.items()]


def _diagnose(what: str, check: Callable[[], str]) -> Diagnostic:
    try:
        return Diagnostic(what, ok=True, detail=check())
    except PipelineError as error:
        return Diagnostic(what, ok=False, detail=str(error))


def _packages() -> str:
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise MissingExtra(
            f"not installed: {', '.join(missing)}", fix='pip install "airflow-provider-ml-pipelines[ml]"'
        )
    return ", ".join(versions)


def _git() -> str:
    path = shutil.which("git")
    if path is None:
        raise RequestError("git is not on the PATH", fix="install git: DVC sources are resolved with it")
    return path


def _store(uri: str) -> str:
    store = ArtifactStore(uri)
    ref = store.put_bytes(b"doctor", kind="html")
    store.read(ref)
    return f"wrote and read {ref.uri}"


def _ledger(settings: Settings) -> str:
    ledger = ConnectedServices(settings).ledger
    models = ledger.models()
    if damaged := [model for model in models if ledger.verify(model)]:
        raise LedgerError(
            f"the chain of {', '.join(damaged)} is broken",
            fix="run `ml-pipelines ledger verify`, which lists the errors",
        )
    return f"answers; {len(models)} models, every chain is intact"


def _mlflow(settings: Settings) -> str:
    ConnectedServices(settings).registry.by_alias("ml-pipelines-doctor", "champion")
    return "answers"
