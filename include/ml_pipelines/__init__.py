"""Train, evaluate and deploy models from one declaration, with or without an orchestrator.

This module is the public interface. Its names are imported on first use, so that `import ml_pipelines` is fast and an
installation without the machine-learning packages can read declarations.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_pipelines.contracts import (
        ArtifactKind,
        ArtifactRef,
        Comparison,
        DataPin,
        Decision,
        Finding,
        Identity,
        Interval,
        Outcome,
        Promote,
        RuleVerdict,
        SliceMetrics,
        StepRequest,
        StepResult,
    )
    from ml_pipelines.errors import (
        ArtifactCorrupt,
        ArtifactMissing,
        DataError,
        EstimatorError,
        ExtensionError,
        LedgerError,
        MissingExtra,
        ModelError,
        NoRows,
        PipelineError,
        RegistryError,
        RequestError,
        ServiceUnavailable,
        SourceError,
        SourceNotFound,
        SourceUnreadable,
        SpecError,
        SpecIssue,
        StoreError,
        StoreUnavailable,
        TransientError,
        UserCodeError,
        VerificationFailed,
    )
    from ml_pipelines.pipeline.step import (
        Publication,
        Resolution,
        Step,
        StepOutput,
    )
    from ml_pipelines.pipeline.step_parameters import (
        Parameters,
        RunOptions,
    )
    from ml_pipelines.ports import (
        DataSource,
        Ledger,
        ModelVersion,
        Registry,
        Services,
        TrackedModel,
        Tracking,
        Training,
    )
    from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails
    from ml_pipelines.runner.batch import (
        run_drift,
        run_scoring,
    )
    from ml_pipelines.runner.step import run_step
    from ml_pipelines.runner.training import run_pipeline
    from ml_pipelines.services.connected import ConnectedServices
    from ml_pipelines.services.settings import Settings
    from ml_pipelines.spec.batch import (
        DriftSpec,
        ScoringSpec,
    )
    from ml_pipelines.spec.loader import (
        load_drift,
        load_scoring,
        load_spec,
        parse_drift,
        parse_scoring,
        parse_spec,
    )
    from ml_pipelines.spec.metric_table import Metric
    from ml_pipelines.spec.sources import (
        DvcSource,
        FileSource,
        SourceSection,
        SqlSource,
    )
    from ml_pipelines.spec.training import PipelineSpec
    from ml_pipelines.testing import FakeServices

__all__ = [
    "ArtifactCorrupt",
    "ArtifactKind",
    "ArtifactMissing",
    "ArtifactRef",
    "Comparison",
    "ConnectedServices",
    "DataError",
    "DataPin",
    "DataSource",
    "Decision",
    "DriftSpec",
    "DvcSource",
    "EstimatorError",
    "ExtensionError",
    "FakeServices",
    "FileSource",
    "Finding",
    "Identity",
    "Interval",
    "Ledger",
    "LedgerEntry",
    "LedgerError",
    "Metric",
    "MissingExtra",
    "ModelError",
    "ModelVersion",
    "NoRows",
    "Outcome",
    "Parameters",
    "PipelineError",
    "PipelineSpec",
    "Promote",
    "Publication",
    "Registry",
    "RegistryError",
    "RequestError",
    "Resolution",
    "RuleVerdict",
    "RunDetails",
    "RunOptions",
    "ScoringSpec",
    "ServiceUnavailable",
    "Services",
    "Settings",
    "SliceMetrics",
    "SourceError",
    "SourceNotFound",
    "SourceSection",
    "SourceUnreadable",
    "SpecError",
    "SpecIssue",
    "SqlSource",
    "Step",
    "StepOutput",
    "StepRequest",
    "StepResult",
    "StoreError",
    "StoreUnavailable",
    "TrackedModel",
    "Tracking",
    "Training",
    "TransientError",
    "UserCodeError",
    "VerificationFailed",
    "__version__",
    "load_drift",
    "load_scoring",
    "load_spec",
    "parse_drift",
    "parse_scoring",
    "parse_spec",
    "run_drift",
    "run_pipeline",
    "run_scoring",
    "run_step",
]

__version__ = "0.2.0"

# Submodule -> the public names that it defines. A test compares this table with the imports above.
_MODULES: dict[str, tuple[str, ...]] = {
    "contracts": (
        "ArtifactKind",
        "ArtifactRef",
        "Comparison",
        "DataPin",
        "Decision",
        "Finding",
        "Identity",
        "Interval",
        "Outcome",
        "Promote",
        "RuleVerdict",
        "SliceMetrics",
        "StepRequest",
        "StepResult",
    ),
    "errors": (
        "ArtifactCorrupt",
        "ArtifactMissing",
        "DataError",
        "EstimatorError",
        "ExtensionError",
        "LedgerError",
        "MissingExtra",
        "ModelError",
        "NoRows",
        "PipelineError",
        "RegistryError",
        "RequestError",
        "ServiceUnavailable",
        "SourceError",
        "SourceNotFound",
        "SourceUnreadable",
        "SpecError",
        "SpecIssue",
        "StoreError",
        "StoreUnavailable",
        "TransientError",
        "UserCodeError",
        "VerificationFailed",
    ),
    "pipeline.step_parameters": (
        "Parameters",
        "RunOptions",
    ),
    "pipeline.step": (
        "Publication",
        "Resolution",
        "Step",
        "StepOutput",
    ),
    "ports": (
        "DataSource",
        "Ledger",
        "ModelVersion",
        "Registry",
        "Services",
        "TrackedModel",
        "Tracking",
        "Training",
    ),
    "ports.ledger_entry": ("LedgerEntry", "RunDetails"),
    "runner.batch": (
        "run_drift",
        "run_scoring",
    ),
    "runner.step": ("run_step",),
    "runner.training": ("run_pipeline",),
    "services.connected": ("ConnectedServices",),
    "services.settings": ("Settings",),
    "spec.batch": (
        "DriftSpec",
        "ScoringSpec",
    ),
    "spec.loader": (
        "load_drift",
        "load_scoring",
        "load_spec",
        "parse_drift",
        "parse_scoring",
        "parse_spec",
    ),
    "spec.metric_table": ("Metric",),
    "spec.sources": (
        "DvcSource",
        "FileSource",
        "SourceSection",
        "SqlSource",
    ),
    "spec.training": ("PipelineSpec",),
    "testing": ("FakeServices",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return __all__
