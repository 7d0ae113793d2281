from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient
from tests.html_document import parse_html

from ml_pipelines.contracts import Finding, Identity, Interval, StepResult
from ml_pipelines.ports import TaskRecord
from ml_pipelines.reporting.rendering import stylesheet
from ml_pipelines_airflow.ui import queries
from ml_pipelines_airflow.ui.app import STATIC_FILES, create_app

RUN = "/run?dag_id=churn_dag&run_id=monday"
REPORT = "/report?dag_id=churn_dag&run_id=monday"
MODEL = "/model?model=churn"
PATHS = ("/", "/dag?dag_id=churn_dag", MODEL, RUN, REPORT, *(f"/static/{name}" for name in STATIC_FILES))
HOSTILE = "<script>alert(1)</script>\"'"


def test_paths_cover_all_routes() -> None:
    paths = {route.path for route in create_app().routes}  # type: ignore[attr-defined]  # every route has a path
    assert paths == {path.partition("?")[0] for path in PATHS if "/static/" not in path} | {"/static/{name}"}


@pytest.mark.parametrize("path", PATHS)
def test_page_without_a_token_is_unauthorized(site: Any, path: str) -> None:
    site.record("monday")
    del site.app.dependency_overrides[get_user]
    answer = TestClient(site.app).get(path)
    assert answer.status_code == 401
    assert "churn" not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_page_hides_dags_that_the_user_may_not_read(site: Any, client: TestClient, path: str) -> None:
    site.record("monday")
    site.deploy("champion")
    site.readable = {"another_dag"}
    answer = client.get(path)
    assert answer.status_code == (200 if path == "/" or "/static/" in path else 404)
    assert "the reason of monday" not in answer.text
    assert "version 1" not in answer.text
    assert "hidden report" not in answer.text
    if path == "/":
        assert "churn" not in answer.text


def test_model_hides_the_decisions_of_an_unreadable_dag(site: Any, client: TestClient) -> None:
    site.record("monday")
    site.record("secret", dag="other_dag")
    site.deploy("champion", dag="other_dag")
    page = client.get(MODEL).text
    assert "the reason of monday" in page
    assert "secret" not in page
    assert "No version is deployed" in page


@pytest.mark.parametrize("path", PATHS)
def test_page_has_security_headers_and_no_inline_code(site: Any, client: TestClient, path: str) -> None:
    site.record("monday")
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'self'" in policy
    assert ("sandbox" in policy) == (path == REPORT)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for element in parse_html(answer.text).all() if "html" in answer.headers["content-type"] else ():
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
        if element.tag in ("script", "link", "iframe"):
            address = element.attributes.get("src") or element.attributes.get("href") or ""
            assert address.startswith("/ml-models/")


def test_models_reports_that_there_are_no_decisions(client: TestClient) -> None:
    assert "No decisions yet" in client.get("/").text
    assert client.get(MODEL).status_code == 404


def test_models_lists_models_with_their_aliases(site: Any, client: TestClient) -> None:
    site.record("monday", version="2", previous_version="1")
    document = parse_html(client.get("/").text)
    champion, previous = (element.text for element in document.all("div") if "alias" in element.classes)
    assert champion.startswith("champion version 2 since 20")
    assert previous.startswith("previous version 1")
    assert document.one("h2").one("a").attributes["href"] == "/ml-models/model?model=churn"
    assert "the reason of monday" in document.text


def test_models_does_not_query_the_registry(site: Any, client: TestClient) -> None:
    site.record("monday")
    site.services.registry.down = True
    answer = client.get("/")
    assert answer.status_code == 200


def test_model_shows_aliases_history_and_decisions(site: Any, client: TestClient) -> None:
    site.record("sunday", "rejected")
    site.record("monday", version="1")
    for alias in ("champion", "challenger", "previous"):
        site.deploy(alias)
    document = parse_html(client.get(MODEL).text)
    for fact in ("champion", "challenger", "previous", "Promoted", "Rejected", "0.9100", "0.8800 to 0.9400"):
        assert fact in document.text, fact
    drawing = document.one("svg")
    assert drawing.all("polyline")
    assert drawing.all("polygon")
    assert drawing.one("desc").text.startswith("2 runs, 1 of them deployed a new model.")
    assert document.texts("summary") == ["1 of 1 rules passed"] * 2
    links = {link.attributes["href"] for link in document.all("a")}
    assert {"/ml-models/run?dag_id=churn_dag&run_id=monday", "/dags/churn_dag/runs/monday"} <= links


def test_model_shows_the_thresholds_of_versions_and_decisions(site: Any, client: TestClient) -> None:
    version = site.deploy("champion", tags={"ml_pipelines.threshold": "0.1407"})
    site.record("tuned", version=version, threshold=0.1407)
    text = client.get("/model", params={"model": "churn"}).text
    assert "threshold 0.141" in text
    assert "0.141 of the probability; champion 0.5" in text


def test_model_shows_the_metrics_of_the_report(site: Any, client: TestClient) -> None:
    entry = site.record("monday", version="1")
    gain = "shop:gain higher labels"
    decision = entry.decision.model_copy(
        update={
            "metrics": {**entry.decision.metrics, gain: 12.5},
            "champion_metrics": {gain: 11.5},
            "dummy_metrics": {gain: 3.25},
            "intervals": {**entry.decision.intervals, gain: Interval(low=10.5, high=14.5, confidence=0.95)},
            "report": (gain,),
        }
    )
    identity = Identity(pipeline="churn_dag", run_id="monday", task_id="t")
    site.services.ledger.record(identity, decision, entry.details)
    text = " ".join(parse_html(client.get(MODEL).text).text.split())
    assert "12.50 10.50 to 14.50 · champion 11.50 · dummy baseline 3.2500" in text


def test_history_of_returns_the_metric_of_the_deployed_model() -> None:
    from tests.unit.ml_pipelines_airflow.ui.conftest import Site

    site = Site()
    entries = [site.record("a", "rejected"), site.record("b", "promoted"), site.record("c", "stopped")]
    history = queries.history_of(entries[::-1], "roc_auc")
    assert [(point.value, point.new) for point in history] == [(0.89, False), (0.91, True), (0.89, False)]
    assert queries.history_of(entries, "brier") == []


def test_dag_shows_its_only_model_or_a_list(site: Any, client: TestClient) -> None:
    assert "No decisions yet" in client.get("/dag?dag_id=churn_dag").text
    site.record("monday")
    assert "Decisions" in client.get("/dag?dag_id=churn_dag").text
    site.record("tuesday", model="other")
    assert client.get("/dag?dag_id=churn_dag").text.count("<h2>") == 2


def test_run_shows_its_report_in_a_sandboxed_frame(site: Any, client: TestClient) -> None:
    site.record("monday")
    frame = parse_html(client.get(RUN).text).one("iframe")
    assert frame.attributes == {"title": "Report of the run", "sandbox": None, "src": f"/ml-models{REPORT}"}
    assert client.get(REPORT).content == b"<!DOCTYPE html><title>hidden report</title>"


def test_run_without_a_decision_shows_the_report_of_its_step(site: Any, client: TestClient) -> None:
    page = b"<!DOCTYPE html><title>drift</title>"
    result = StepResult(
        step="measure_drift",
        key="0" * 64,
        status="computed",
        reason="",
        outputs={"drift": site.services.put(b"{}", kind="json"), "report": site.services.put(page, kind="html")},
    )
    for dag in ("churn_dag", "secret_dag"):
        identity = Identity(pipeline=dag, run_id="monday", task_id="measure_drift")
        site.services.done.append(TaskRecord(identity, result, datetime(2026, 1, 1, tzinfo=UTC)))
    for path in (RUN, REPORT):
        answer = client.get(path)
        assert answer.content == page
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert client.get(path.replace("churn_dag", "secret_dag")).status_code == 404
    site.record("monday")
    assert client.get(REPORT).content != page  # the report in the ledger has priority


def test_run_without_a_ledger_entry_is_not_found(client: TestClient) -> None:
    for path in (RUN, REPORT):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "no decision yet" in answer.text


def test_run_without_a_report_shows_the_reason(site: Any, client: TestClient) -> None:
    site.record("monday", report=None)
    assert "the reason of monday" in client.get(RUN).text
    assert "<iframe" not in client.get(RUN).text
    answer = client.get(REPORT)
    assert answer.status_code == 404
    assert "This run has no report" in answer.text


LEAK = Finding(check="leakage", column="a<b>\u202e", severity="hold", detail="predicts label", remedy="ignore it")


@pytest.mark.parametrize(("path", "query"), [("/model", {"model": "churn"}), (RUN, {})])
def test_pages_list_the_findings_of_a_decision(site: Any, client: TestClient, path: str, query: dict[str, str]) -> None:
    warning = LEAK.model_copy(update={"severity": "warn"})
    site.record("monday", "held", report=None, findings=(warning,) * 11 + (LEAK,))
    document = parse_html(client.get(path, params=query or None).text)
    lists = [element for element in document.all("ul") if "findings" in element.classes]
    items = [item.text for element in lists for item in element.all("li")]
    assert items[0] == "hold a<b>\\u202e: leakage predicts label Remedy: ignore it"
    assert len(items) == 12
    assert "more warnings" in document.text


def test_report_with_a_wrong_digest_is_not_shown(site: Any, client: TestClient) -> None:
    site.record("monday")
    (uri,) = site.services.blobs
    site.services.blobs[uri] = b"<script>alert(1)</script>"
    answer = client.get(REPORT)
    assert answer.status_code == 404
    assert "alert(1)" not in answer.text
    assert "digest" in answer.text


def test_report_that_is_missing_is_not_found(site: Any, client: TestClient) -> None:
    site.record("monday")
    site.services.blobs.clear()
    answer = client.get(REPORT)
    assert answer.status_code == 404
    assert "does not exist" in answer.text


@pytest.mark.parametrize("path", ["/", MODEL, RUN, REPORT])
def test_page_reports_an_unavailable_ledger(site: Any, client: TestClient, path: str) -> None:
    site.services.ledger.down = True
    answer = client.get(path)
    assert answer.status_code == 503
    assert "The ledger does not answer" in answer.text
    assert "start it, then try again" in answer.text


def test_model_shows_the_ledgers_aliases_without_the_registry(site: Any, client: TestClient) -> None:
    site.record("monday", version="2", previous_version="1")
    site.services.registry.down = True
    answer = client.get(MODEL)
    assert answer.status_code == 200
    assert "The model registry could not be queried" in answer.text
    assert "version 2" in answer.text
    assert "Decisions" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/model", "/model?model=", "/model?model=%00", "/run?dag_id=churn_dag", f"{MODEL}&before=0", f"{MODEL}&before=x"],
)
def test_page_reports_an_invalid_address(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert "The address of this page is incomplete" in answer.text


def test_page_of_an_unknown_address_is_not_found(client: TestClient) -> None:
    assert client.get("/static/app.py").status_code == 404
    assert "This file does not exist" in client.get("/static/app.py").text
    assert client.get("/nowhere").status_code == 404
    assert client.post("/").status_code == 405


def test_page_escapes_all_texts_from_outside(site: Any, client: TestClient) -> None:
    site.readable = {HOSTILE}
    site.record(HOSTILE, dag=HOSTILE, model=HOSTILE)
    for path, query in (
        ("/", {}),
        ("/model", {"model": HOSTILE}),
        ("/run", {"dag_id": HOSTILE, "run_id": HOSTILE}),
        ("/run", {"dag_id": HOSTILE, "run_id": f"no {HOSTILE}"}),
        ("/model", {"model": f"no {HOSTILE}"}),
    ):
        page = client.get(path, params=query).text
        assert "<script>alert" not in page
        assert len(parse_html(page).all("script")) == 1


def test_static_style_sheet_extends_that_of_the_report(client: TestClient) -> None:
    answer = client.get("/static/style.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.text.startswith(stylesheet())
    assert ".aliases" in answer.text
    assert client.get("/static/frame.js").headers["content-type"].startswith("text/javascript")


def test_model_links_include_the_path_of_a_proxy(site: Any) -> None:
    site.record("monday")
    with TestClient(site.app, root_path="/airflow/ml-models") as client:
        page = client.get(MODEL).text
    assert 'href="/airflow/ml-models/run?' in page
    assert 'href="/airflow/dags/churn_dag/runs/monday"' in page


def test_model_shows_ten_thousand_decisions_in_pages(site: Any, client: TestClient, monkeypatch: Any) -> None:
    from ml_pipelines.promotion import hash_chain as chain

    first = site.record("run 1")
    entries = [first.model_copy(update={"seq": seq, "run_id": f"run {seq}"}) for seq in range(1, 10_001)]
    limits: list[int] = []

    def newest(model: str, *, limit: int = 100, before: int | None = None) -> tuple[Any, ...]:
        limits.append(limit)
        end = len(entries) if before is None else min(before - 1, len(entries))
        return tuple(entries[max(0, end - limit) : end][::-1])

    assert chain.START.seq == 0  # numbers are from 1
    monkeypatch.setattr(site.services.ledger, "entries", newest)
    for path in ("/", MODEL, f"{MODEL}&before=5000"):
        limits.clear()
        page = client.get(path)
        assert sum(limits) < 500
        assert len(page.content) < 200_000
    assert page.text.count('<article class="card"') == 20
    assert "#4999<" in page.text
    assert "before=4980" in page.text
    last = client.get(f"{MODEL}&before=5").text
    assert last.count('<article class="card"') == 4
    assert "Older" not in last


def test_model_reads_a_limited_number_of_entries(site: Any, client: TestClient, monkeypatch: Any) -> None:
    hidden = site.record("run 1", dag="other_dag")
    limits: list[int] = []

    def newest(model: str, *, limit: int = 100, before: int | None = None) -> tuple[Any, ...]:
        limits.append(limit)
        start = 1_000_000 if before is None else before - 1
        return tuple(hidden.model_copy(update={"seq": start - offset}) for offset in range(limit))

    monkeypatch.setattr(site.services.ledger, "entries", newest)
    assert client.get(MODEL).status_code == 404
    assert sum(limits) < queries.MAX_READ + 500
