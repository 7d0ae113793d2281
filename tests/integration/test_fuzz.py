"""Generated inputs of each kind end in a result or in an error of this package, never in another exception.

`ML_PIPELINES_FUZZ_INPUTS` sets the number of inputs of each kind; by default some hundreds, and 10,000 for a release.
The seed of an input is its number, so that a failure can be repeated.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import requests
from typer.testing import CliRunner

from ml_pipelines.adapters.files.source import FileDataSource
from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.adapters.mlflow.tracking import MlflowTracking
from ml_pipelines.cli.app import app
from ml_pipelines.contracts import ArtifactRef, DataPin, Identity
from ml_pipelines.data.source_table import open_source
from ml_pipelines.data.table_writer import write_tables
from ml_pipelines.errors import PipelineError, ServiceUnavailable
from ml_pipelines.modeling.spec_checks import find_library_issues
from ml_pipelines.pipeline.step_parameters import IngestParameters
from ml_pipelines.ports import TrackedModel, Training
from ml_pipelines.spec.loader import load_drift, load_scoring, load_spec
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.steps.training.ingest import ingest

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.filterwarnings("ignore"),
]

INPUTS = int(os.environ.get("ML_PIPELINES_FUZZ_INPUTS", "0"))
DAGS = Path(__file__).parents[2] / "dags"
DECLARATIONS = sorted(DAGS.glob("*.yaml"))
ODD_TEXTS = (
    "", "0xfff" + "f" * 5000, "1" * 5000, "-1", ".nan", ".inf", "null", "~", "true", "[]", "{}", "{a: b}",
    "- x", "'", '"', "\0", "\x1b[31m", "\u202e", "\ud83d\ude00", "${HOME}", "&a", "*a",
    "!!python/object:os.system", "!!binary x", "<<: *a", "2026-99-99", "1e999", "\t", "\r", "|", ">", "%", "@",
    "`", "a: b: c", "? x", "--- ", "...", "0o9", "0b2", "1_0", "12:30:45",
)  # fmt: skip


def inputs(default: int) -> range:
    return range(INPUTS or default)


def mutated(text: str, rng: random.Random) -> str:
    """A text with some of its lines and characters changed."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(lines))
        line = lines[place] or "\n"
        match rng.randrange(8):
            case 0:
                lines[place] = line.partition(":")[0] + ": " + rng.choice(ODD_TEXTS) + "\n"
            case 1:
                del lines[place]
                lines = lines or ["\n"]
            case 2:
                lines.insert(place, line)
            case 3:
                lines[place] = " " * rng.randrange(6) + line.lstrip()
            case 4:
                at = rng.randrange(len(line))
                lines[place] = line[:at] + rng.choice(ODD_TEXTS) + line[at + rng.randrange(3) :]
            case 5:
                other = rng.choice(lines)
                lines[place] = line.partition(":")[0] + ":" + other.partition(":")[2]
            case 6:
                lines[place] = rng.choice(ODD_TEXTS) + "\n"
            case _:
                lines[place] = line.replace(rng.choice(line), rng.choice(ODD_TEXTS), 1)
    return "".join(lines)


def test_declarations(tmp_path: Path) -> None:
    texts = [path.read_text() for path in DECLARATIONS]
    loaders = (partial(load_spec, rules=find_library_issues), load_scoring, load_drift)
    file, rejected = tmp_path / "m.yaml", 0
    for number in inputs(300):
        rng = random.Random(number)
        content = mutated(rng.choice(texts), rng).encode(errors="surrogatepass")
        if number % 10 == 0:
            content = rng.randbytes(rng.randrange(200)) if number % 20 else damaged(content, rng)
        file.write_bytes(content)
        for load in loaders if number % 4 == 0 else loaders[:1]:
            try:
                load(file)
            except PipelineError:
                rejected += 1
            except Exception as error:
                raise AssertionError(f"input {number}: {content!r}") from error
    assert rejected > len(inputs(300)) / 2


def a_csv(rng: random.Random) -> bytes:
    cells = (
        "1",
        "2.5",
        "x",
        "",
        '"a"',
        '"a\nb"',
        'a"b',
        "NaN",
        "2026-01-01",
        "ä",
        "1,2",
        "\r",
        "\0",
        "1" * 400,
        "-",
        "true",
        ";",
    )
    header = "id,amount,label\n" if rng.random() < 0.8 else ",".join(rng.choices(cells, k=3)) + "\n"
    rows = (",".join(rng.choices(cells, k=rng.choice((3, 3, 3, 2, 4)))) + "\n" for _ in range(rng.randrange(6)))
    return (header + "".join(rows)).encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")


def damaged(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 2, 20))):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 40)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                del data[at:]
    return bytes(data)


def a_file(rng: random.Random, parquet: bytes) -> tuple[str, bytes]:
    match rng.randrange(6):
        case 0:
            return "a.parquet", damaged(parquet, rng)
        case 1:
            return "a.csv.gz", damaged(gzip.compress(a_csv(rng)), rng)
        case 2:
            return rng.choice(("a.csv", "a.parquet", "a.csv.gz")), rng.randbytes(rng.randrange(300))
        case 3:
            return "a.csv", damaged(a_csv(rng), rng)
        case _:
            return "a.csv", a_csv(rng)


def read_source(path: Path, folder: Path) -> None:
    declared = FileSource(path=str(path))
    source = FileDataSource(declared, {})
    pin = source.pin()
    table = open_source(source.fetch(pin, str(folder)), pin.location, str(folder))
    parameters = IngestParameters.model_construct(source=declared, ignore=(), types={}, key=None, target="label")
    output = ingest(source=table, parameters=parameters, seed=0)
    tables = {"table": output.outputs["table"]}
    write_tables(tables, {"table": str(folder / "out.parquet")}, cells_per_group=1000, log=lambda _: None)


def test_data_files(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"id": [1, 2, 3], "amount": [1.5, None, 2.5], "label": ["a", "b", "a"]}).write_parquet(buffer)
    for number in inputs(300):
        rng = random.Random(number)
        name, content = a_file(rng, buffer.getvalue())
        folder = tmp_path / str(number)
        (folder / "out").mkdir(parents=True)
        (folder / name).write_bytes(content)
        try:
            read_source(folder / name, folder / "out")
        except PipelineError:
            pass
        except BaseException as error:  # a panic of polars is no Exception
            raise AssertionError(f"input {number}: {name} {content[:300]!r}") from error
        shutil.rmtree(folder)


COMMANDS = (
    "validate", "run", "run-step", "show", "score", "drift", "why", "history", "rollback", "ledger",
    "ledger verify", "gate", "gate backtest", "store", "store prune", "nonsense", "",
)  # fmt: skip
OPTIONS = (
    "--help", "--store", "--run-id", "--force", "--candidate", "--promote", "--to", "--reason", "--limit",
    "--at", "--dry-run", "--keep-days", "--request", "--result", "--pipeline", "--rules", "--data-revision",
    "--shard-rows", "--model-version", "-x",
)  # fmt: skip
VALUES = (
    "", "1", "-1", "nan", "1e308", "churn", "churn:1", "churn@champion", "a/b", "..", "/dev/null",
    "/nowhere/a.yaml", "s3://", "http://127.0.0.1:9/x", "file://", "gopher://x", "[red]x[/]", "[/", "\x1b[31m",
    "2026-01-01", "99999-01-01", "ä", "a b", "%", "${HOME}", "9" * 400, "a" * 5000, "2026-01-01T00:00+99:00",
    "--", "0001-01-01T00:00:00+23:59", "a\nb", "auto", "m.yaml",
)  # fmt: skip


def test_arguments_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ML_PIPELINES_STORE": f"file://{tmp_path}/store",
        "ML_PIPELINES_LEDGER": f"sqlite:///{tmp_path}/ledger.db",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    runner = CliRunner()
    text = DECLARATIONS[0].read_text()
    for number in inputs(1000):
        rng = random.Random(number)
        (tmp_path / "m.yaml").write_text(mutated(text, rng), errors="replace")
        words = [*rng.choice(COMMANDS).split(), *rng.choices((*VALUES, *OPTIONS), k=rng.randrange(5))]
        result = runner.invoke(app, words)
        if result.exception is not None and not isinstance(result.exception, (SystemExit, PipelineError)):
            raise AssertionError(f"input {number}: {words!r}") from result.exception


@pytest.mark.parametrize(
    "words",
    [
        ["validate", "\udcff.yaml"],
        ["show", "\udcff\x1b[31m"],
        ["store", "prune", "--keep-days", "nan"],
        ["run-step", "--request", "s3://"],
        ["history", "[/"],
        ["run", "m.yaml", "--store", "gopher://x"],
    ],
    ids=ascii,
)
def test_arguments_of_a_process(tmp_path: Path, words: list[str]) -> None:
    """An argument of a process can have bytes that are no text."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "ML_PIPELINES_STORE": f"file://{tmp_path}",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from ml_pipelines.cli.app import main; main()", *words],
        cwd=tmp_path, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2), done
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")


STATUSES = (200, 200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 404, 408, 409, 418, 429, 500, 502, 503, 504, 599)
NAMES = (
    "registered_model", "model_version", "model_versions", "experiment", "experiments", "run", "runs", "info",
    "data", "name", "version", "aliases", "alias", "tags", "key", "value", "error_code", "message",
    "next_page_token", "status", "run_id", "model",
)  # fmt: skip
CODES = ("RESOURCE_DOES_NOT_EXIST", "INTERNAL_ERROR", "PERMISSION_DENIED", "x", None, 404, [], {"a": 1})
SCALARS: tuple[Any, ...] = (None, "", "churn", "1", 1, -1, 1e300, True, "READY", "champion", "\0", "x" * 2000)
IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")
REFERENCE = ArtifactRef(uri="file:///a", sha256="0" * 64, bytes=1, kind="model")


def a_document(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(4) if depth < 5 else 3
    if kind in (0, 1):
        return {rng.choice(NAMES): a_document(rng, depth + 1) for _ in range(rng.randrange(4))}
    if kind == 2:
        return [a_document(rng, depth + 1) for _ in range(rng.randrange(3))]
    return rng.choice(SCALARS)


def a_body(rng: random.Random) -> bytes:
    match rng.randrange(7):
        case 0:
            return rng.choice(
                (b"null", b"{}", b"[]", b"", b"<html>login</html>", b'"x"', b"\xff\xfe", b"{", b"[" * 3000)
            )
        case 1:
            return json.dumps({"error_code": rng.choice(CODES), "message": rng.choice(SCALARS)}).encode()
        case 2:
            version = {
                "name": rng.choice(("churn", "x")),
                "version": rng.choice(("1", "x", 1, None)),
                "tags": a_document(rng),
            }
            return json.dumps({"model_version": version}).encode()
        case 3:
            aliases = [{"alias": rng.choice(("champion", 1)), "version": rng.choice(("1", None, [], "x"))}]
            return json.dumps({"registered_model": {"name": "churn", "aliases": aliases}}).encode()
        case 4:
            return rng.randbytes(rng.randrange(60))
        case _:
            return json.dumps(a_document(rng)).encode()


def training() -> Training:
    return Training(
        model="churn",
        candidate="c",
        key="0" * 64,
        params={"a": 1},
        metrics={"rows": 1.0},
        pin=DataPin(source="file", location="a.csv"),
        model_ref=REFERENCE,
        model_bytes=b"x",
        requirements=[],
        trusted_types=[],
        features=[],
        example=[],
        predictions=[],
    )


def calls(uri: str) -> tuple[Callable[[], object], ...]:
    registry, tracking = MlflowRegistry(uri), MlflowTracking(uri)
    tracked = TrackedModel("r", "models:/m-1", None)
    return (
        lambda: registry.by_alias("churn", "champion"),
        lambda: registry.by_alias("churn", "champion"),
        lambda: registry.by_version("churn", "1"),
        lambda: registry.set_alias("churn", "1", "champion"),
        lambda: registry.drop_alias("churn", "champion"),
        lambda: registry.register("churn", tracked, REFERENCE, IDENTITY, {}),
        lambda: tracking.log_training(IDENTITY, training()),
        lambda: tracking.log_evaluation(tracked, {"auc": 0.5}, {}, {}),
        lambda: tracking.close_abandoned("p", 10.0),
    )


def test_answers_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers at the level of HTTP; each request of one input gets another one."""
    state: dict[str, Any] = {"rng": random.Random(0), "requests": 0}

    def send(adapter: Any, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        state["requests"] += 1
        if state["requests"] > 40:
            raise requests.ConnectionError("cut off")  # endless pages
        response = requests.Response()
        response.status_code = state["rng"].choice(STATUSES)
        response._content = a_body(state["rng"])
        response.headers["Content-Type"] = state["rng"].choice(("application/json", "text/html"))
        response.request, response.url = request, request.url or ""
        return response

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    operations = calls("http://mlflow.example:5000")
    for number in inputs(3000):
        state.update(rng=random.Random(number), requests=0)
        try:
            operations[number % len(operations)]()
        except PipelineError:
            continue
        except Exception as error:
            raise AssertionError(f"input {number}") from error
    assert state["requests"]


@pytest.mark.parametrize(
    "body",
    [b"{}", b"null", b"[]", b"<html>", b'{"registered_model": {}}', b'{"registered_model": null}', b"[" * 9000],
    ids=len,
)
def test_an_answer_of_another_form_never_means_that_there_is_no_champion(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    def send(adapter: Any, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response._content, response.request = 200, body, request
        response.url = request.url or ""
        return response

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    with pytest.raises(ServiceUnavailable):
        MlflowRegistry("http://mlflow.example:5000").by_alias("churn", "champion")
