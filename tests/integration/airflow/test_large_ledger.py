"""The pages about models with a ledger of 10,000 decisions: their size, and the number of entries that they read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient
from tests.integration.ledgers import fill

from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.contracts import ArtifactRef, Comparison, Decision, Identity, Interval, RuleVerdict
from ml_pipelines.ports import TrackedModel
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.testing import FakeServices
from ml_pipelines_airflow.ui import app as ui
from ml_pipelines_airflow.ui import queries

pytestmark = pytest.mark.xdist_group("large-ledger")

ENTRIES = 10_000
MODELS = ("churn", "credit")
DAGS = ("weekly", "daily")  # the first has every twentieth entry; only some users may read the second
RULES = ("threshold roc_auc", "beats dummy", "not worse than champion", "beats champion")
INTERVAL = Interval(low=0.85, high=0.95, confidence=0.95)
MIDDLE = 2500  # number of an entry; each model has 5000
RUN = f"dag_id={DAGS[1]}&run_id=run-{ENTRIES // 2 + 3}"
ROUTES = (
    "/",
    f"/dag?dag_id={DAGS[0]}",
    f"/dag?dag_id={DAGS[1]}",
    "/model?model=churn",
    f"/model?model=churn&before={MIDDLE}",
    "/model?model=credit&before=2",
    f"/run?{RUN}",
    f"/report?{RUN}",
    *(f"/static/{name}" for name in ui.STATIC_FILES),
)
MAX_PAGE_BYTES = 200_000  # twenty decisions have less than 100,000


def decisions(report: ArtifactRef) -> Iterator[tuple[Identity, Decision, RunDetails]]:
    for number in range(ENTRIES):
        promoted = number % 10 < 2
        decision = Decision(
            outcome="promoted" if promoted else "rejected",
            model=MODELS[number % 2],
            candidate="linear",
            candidate_index=0,
            reason=f"the reason of run {number}",
            metric="roc_auc",
            metrics={"roc_auc": 0.9, "accuracy": 0.8},
            champion_metrics={"roc_auc": 0.89, "accuracy": 0.79},
            rules=tuple(RuleVerdict(rule=rule, passed=promoted, value=0.1, limit=0.0, detail="so") for rule in RULES),
            intervals={"roc_auc": INTERVAL},
            champion_intervals={"roc_auc": INTERVAL},
            comparison=Comparison(metric="roc_auc", difference=0.01, interval=INTERVAL, draws=1000, rows=1000),
        )
        versions = {"version": str(number // 10 + 1), "previous_version": str(number // 10)} if promoted else {}
        details = RunDetails(report=report, parts={"train": 1000}, **versions)
        dag = DAGS[0] if number % 40 < 2 else DAGS[1]
        yield Identity(pipeline=dag, run_id=f"run-{number}", task_id="t"), decision, details


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: Callable[..., AbstractContextManager[str]],
) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
        return
    with postgres_server() as address:
        yield address


@pytest.fixture(scope="module")
def services(url: str) -> Any:
    """Services with a real ledger; registry and store are in memory."""
    services: Any = FakeServices()
    report = services.put(b"<!DOCTYPE html><title>a report</title>", kind="html")
    fill(url, decisions(report))
    services.ledger = SqlLedger(url)
    assert {model: services.ledger.verify(model) for model in services.ledger.models()} == dict.fromkeys(MODELS, ())
    identity = Identity(pipeline=DAGS[1], run_id="r", task_id="t")
    artifact = ArtifactRef(uri="memory://m", sha256="0" * 64, bytes=1, kind="model")
    version = services.registry.register("churn", TrackedModel("r", "models:/m"), artifact, identity, {})
    services.registry.set_alias("churn", version.version, "champion")
    return services


@pytest.fixture(params=[DAGS, DAGS[:1]], ids=["all", "few"])
def client(services: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The clients of a user who may read both DAGs, and of one who may read few entries."""

    class AuthManager:
        def get_authorized_dag_ids(self, **_: Any) -> set[str]:
            return set(request.param)

    monkeypatch.setattr(ui, "get_auth_manager", AuthManager)
    monkeypatch.setattr(ui, "import_object", lambda name: None)  # without MLflow
    app = ui.create_app()
    app.dependency_overrides |= {ui.services: lambda: services, get_user: lambda: "somebody"}
    with TestClient(app, root_path="/ml-models") as client:
        yield client


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements on entries, with their parameters."""
    executed: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "ml_ledger_entries" in statement:
            executed.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        yield executed
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", listen)


def entries_read(url: str, executed: list[tuple[str, Any]]) -> int:
    """Return how many entries the database reads for statements, including index entries and filtered rows."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    total = 0
    with engine.connect() as connection:
        for statement, parameters in executed:
            if engine.dialect.name == "sqlite":
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                assert not [row for row in plan if re.match(r"SCAN .*(ml_ledger_entries|later)\b", row[3])], plan
                total += len(connection.exec_driver_sql(statement, parameters).all())
            else:
                explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
                plans = connection.exec_driver_sql(explain, parameters).scalar()
                plans = json.loads(plans) if isinstance(plans, str) else plans
                total += sum(rows_read(row["Plan"]) for row in plans)
    return total


def rows_read(plan: dict[str, Any]) -> int:
    """Return the number of table rows that a node of a PostgreSQL plan has read."""
    below = sum(rows_read(node) for node in plan.get("Plans", ()))
    if plan.get("Relation Name") != "ml_ledger_entries":
        return below
    return below + round((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])


def test_routes_include_every_page() -> None:
    assert {path.partition("?")[0] for path in ROUTES if "/static/" not in path} == set(ui._PAGES)


@pytest.mark.parametrize("path", ROUTES)
def test_page_is_small_and_reads_few_entries(url: str, client: TestClient, path: str, request: Any) -> None:
    few = "few" in request.node.callspec.id
    most = 2 * queries.HISTORY_SIZE + 4 * queries.PAGE_SIZE
    if few or path.startswith("/dag"):  # a filter on few entries reads more of them, but never all
        most = 2 * (queries.MAX_READ + queries.CHUNK_SIZE)
    started = time.perf_counter()
    with statements() as executed:
        answer = client.get(path)
    seconds = time.perf_counter() - started
    forbidden = few and DAGS[1] in path
    assert answer.status_code == (404 if forbidden else 200), answer.text
    read = entries_read(url, executed)
    request.node.user_properties.append(("page", (path, len(answer.content), read, round(1000 * seconds, 1))))
    assert len(answer.content) < MAX_PAGE_BYTES
    assert answer.text.count("<article") <= queries.PAGE_SIZE
    assert read <= most
    if path == "/model?model=churn&before=2500":
        assert answer.text.count("<article") == queries.PAGE_SIZE
        assert ("#2499" in answer.text) is not few
    if "/static/" not in path and not forbidden:
        assert read > 0


def test_list_of_models_reads_few_entries(url: str, services: Any) -> None:
    with statements() as executed:
        assert services.ledger.models() == MODELS
    assert entries_read(url, executed) <= 2 * len(MODELS) + 1


def test_pages_of_older_entries_have_every_decision_once(services: Any) -> None:
    seen: list[int] = []
    before: int | None = None
    for _ in range(5):
        entries, before = queries.readable_entries(
            services.ledger, "churn", DAGS, limit=queries.PAGE_SIZE, before=before
        )
        seen += [entry.seq for entry in entries]
    assert seen == list(range(ENTRIES // 2, ENTRIES // 2 - 5 * queries.PAGE_SIZE, -1))
