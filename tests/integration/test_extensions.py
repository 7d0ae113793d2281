"""A package outside the project adds a data source, a step, a tracking server and a registry, and trains with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines._utils.entry_points import find_entry_points
from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.runner.training import run_pipeline
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines.store.artifact_store import ArtifactStore

FILES = {
    "acme_ml/__init__.py": "",
    "acme_ml/source.py": """
import random
from typing import ClassVar
from ml_pipelines import DataPin, SourceSection

class GeneratedSource(SourceSection):
    kind: ClassVar[str] = "generated"
    adapter: ClassVar[str] = "acme_ml.source:GeneratedData"
    rows: int

class GeneratedData:
    def __init__(self, declared, *, environment, connections):
        self.rows = declared.rows

    def pin(self):
        return DataPin(source="generated", location="memory", digest=f"rows:{self.rows}")

    def fetch(self, pin, directory):
        generator = random.Random(0)
        lines = ["id,x,label"]
        for number in range(self.rows):
            x = generator.random()
            lines.append(f"k{number},{x},{int(x + generator.gauss(0, 0.2) > 0.5)}")
        path = f"{directory}/generated.csv"
        with open(path, "w") as file:
            file.write("\\n".join(lines) + "\\n")
        return path
""",
    "acme_ml/summary.py": """
from acme_ml.words import TITLE
from ml_pipelines import Parameters, Step, StepOutput

class SummaryParameters(Parameters):
    model: str

    @classmethod
    def of(cls, spec):
        return cls(model=spec.model.name)

SUMMARIZE = Step(
    name="summarize",
    task="evaluate_model",
    parameters="acme_ml.summary:SummaryParameters",
    compute="acme_ml.summary:summarize",
    inputs={"evaluation": "evaluate.evaluation"},
    outputs={"summary": "json"},
)

def summarize(*, parameters, seed, evaluation):
    summary = {"title": f"{TITLE} {parameters.model}", "rows": evaluation["rows"]["test"]}
    return StepOutput(outputs={"summary": summary}, values={"rows": summary["rows"]})
""",
    "acme_ml/words.py": 'TITLE = "Evaluation of"\n',
    "acme_ml/server.py": """
from ml_pipelines.testing import FakeRegistry, FakeTracking

_TRACKING = FakeTracking()
_REGISTRY = FakeRegistry(_TRACKING.files)

def tracking(address, *, ui_url, variables):
    return _TRACKING

def registry(address, *, ui_url, variables):
    return _REGISTRY
""",
    "acme_ml-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-ml\nVersion: 1.0\n",
    "acme_ml-1.0.dist-info/entry_points.txt": """
[ml_pipelines.sources]
generated = acme_ml.source:GeneratedSource
[ml_pipelines.steps]
summarize = acme_ml.summary:SUMMARIZE
[ml_pipelines.tracking]
memory = acme_ml.server:tracking
[ml_pipelines.registry]
memory = acme_ml.server:registry
""",
}
DECLARATION = """
model: {name: acme, task: classification}
data: {generated: {rows: 400}, key: id, target: label}
candidates: [{name: linear, estimator: sklearn.linear_model.LogisticRegression}]
gate: {metric: roc_auc}
"""
Run = Callable[..., dict[str, StepResult]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    find_entry_points.cache_clear()
    yield tmp_path / "site" / "acme_ml"
    find_entry_points.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_ml"]:
        del sys.modules[name]


@pytest.fixture
def spec(package: Path) -> PipelineSpec:
    return parse_spec(DECLARATION, path="acme.yaml")


@pytest.fixture
def services(package: Path, tmp_path: Path) -> ConnectedServices:
    return ConnectedServices(
        Settings(
            store=f"file://{tmp_path}/store",
            tracking_uri="memory://",
            tracking="memory",
            registry="memory",
            ledger=f"sqlite:///{tmp_path}/ledger.db",
        )
    )


@pytest.fixture
def run(spec: PipelineSpec, services: ConnectedServices) -> Run:
    def run_once(run_id: str, options: RunOptions | None = None) -> dict[str, StepResult]:
        results = run_pipeline(spec, services, store=services.settings.store, run_id=run_id, options=options)
        return {name: result for name, result in results.items() if isinstance(result, StepResult)}

    return run_once


def test_training_uses_the_source_step_and_servers_of_an_installed_package(
    run: Run, services: ConnectedServices
) -> None:
    results = run("first")
    assert results["ingest"].outputs["table"].rows == 400
    champion = services.registry.by_alias("acme", "champion")
    assert champion is not None
    assert champion.version == "1"
    summary = ArtifactStore(services.settings.store).read(results["summarize"].outputs["summary"])
    assert load_json(summary)["title"] == "Evaluation of acme"
    records = {record.result.step: record.result for record in services.store.run("acme", "first")}
    assert records["summarize"].values == results["summarize"].values


def test_the_result_of_an_installed_step_is_cached_until_its_code_changes(run: Run, package: Path) -> None:
    # Nothing is promoted, so that no champion ends the later runs before training.
    never = RunOptions(promote="never")
    assert run("first", never)["summarize"].status == "computed"
    assert run("second", never)["summarize"].status == "cached"
    (package / "words.py").write_text('TITLE = "Summary of"\n')
    results = run("third", never)
    assert results["evaluate"].status == "cached"
    assert (results["summarize"].status, results["summarize"].reason) == (
        "computed",
        "miss: code of acme_ml.words changed",
    )


def test_an_unknown_kind_of_server_is_a_request_error(services: ConnectedServices) -> None:
    settings = Settings(store=services.settings.store, tracking_uri="memory://", tracking="no-such-server")
    with pytest.raises(RequestError) as error:
        _ = ConnectedServices(settings).tracking
    assert (error.value.where, error.value.expected) == ("ML_PIPELINES_TRACKING", "one of memory, mlflow")
