from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient

from ml_pipelines.contracts import Identity, StepResult
from ml_pipelines.ports import TaskRecord
from ml_pipelines.reporting.training_report import style
from ml_pipelines_airflow.ui import queries
from ml_pipelines_airflow.ui.app import STATIC, create_app

RUN = "/run?dag_id=churn_dag&run_id=monday"
REPORT = "/report?dag_id=churn_dag&run_id=monday"
MODEL = "/model?model=churn"
EVERY = ("/", "/dag?dag_id=churn_dag", MODEL, RUN, REPORT, *(f"/static/{name}" for name in STATIC))
EVIL = "<script>alert(1)</script>\"'"


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_route_is_tried_here() -> None:
    paths = {route.path for route in create_app().routes}  # type: ignore[attr-defined]  # all of ours have one
    assert paths == {path.partition("?")[0] for path in EVERY if "/static/" not in path} | {"/static/{name}"}


@pytest.mark.parametrize("path", EVERY)
def test_without_a_token_there_is_nothing(world: Any, path: str) -> None:
    world.record("monday")
    del world.app.dependency_overrides[get_user]
    answer = TestClient(world.app).get(path)
    assert answer.status_code == 401
    assert "churn" not in answer.text


@pytest.mark.parametrize("path", EVERY)
def test_nothing_of_a_dag_that_the_user_may_not_read_is_shown(world: Any, client: TestClient, path: str) -> None:
    world.record("monday")
    world.serve("champion")
    world.readable = {"another_dag"}
    answer = client.get(path)
    assert answer.status_code == (200 if path == "/" or "/static/" in path else 404)
    assert "the reason of monday" not in answer.text
    assert "version 1" not in answer.text
    assert "the secret report" not in answer.text
    if path == "/":
        assert "churn" not in answer.text


def test_of_a_model_of_two_dags_only_one_side_is_shown(world: Any, client: TestClient) -> None:
    world.record("monday")
    world.record("secret", dag="other_dag")
    world.serve("champion", dag="other_dag")
    page = client.get(MODEL).text
    assert "the reason of monday" in page
    assert "secret" not in page
    assert "Nothing serves" in page


@pytest.mark.parametrize("path", EVERY)
def test_every_answer_says_what_it_may_do(world: Any, client: TestClient, path: str) -> None:
    world.record("monday")
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'self'" in policy
    assert ("sandbox" in policy) == (path == REPORT)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for tag, attributes in Tags(answer.text).found if "html" in answer.headers["content-type"] else ():
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag in ("script", "link", "iframe"):
            address = attributes.get("src") or attributes.get("href") or ""
            assert address.startswith("/ml-models/")


def test_without_decisions_the_first_page_says_so(client: TestClient) -> None:
    assert "No model has a decision yet" in client.get("/").text
    assert client.get(MODEL).status_code == 404


def test_models_are_listed_with_what_serves_and_since_when(world: Any, client: TestClient) -> None:
    world.record("monday", version="2", previous_version="1")
    page = client.get("/").text
    assert re.search(r"champion</span>\s*<span class=\"alias-version\">version 2</span>\s*<span.*since 20", page)
    assert re.search(r"previous</span>\s*<span class=\"alias-version\">version 1<", page)
    assert 'href="/ml-models/model?model=churn"' in page
    assert "the reason of monday" in page


def test_the_first_page_does_not_wait_for_mlflow(world: Any, client: TestClient) -> None:
    world.record("monday")
    world.services.registry.down = True
    answer = client.get("/")
    assert answer.status_code == 200
    assert "MLflow" not in answer.text


def test_a_models_page_has_its_aliases_curve_and_decisions(world: Any, client: TestClient) -> None:
    world.record("sunday", "rejected")
    world.record("monday", version="1")
    for alias in ("champion", "challenger", "previous"):
        world.serve(alias)
    page = client.get(MODEL).text
    for told in ("champion", "challenger", "previous", "Promoted", "Rejected", "0.9100", "0.8800 to 0.9400"):
        assert told in page, told
    assert "<polyline" in page
    assert "<polygon" in page
    assert "2 runs; a new model took over in 1." in page
    assert "1 of 1 rules passed" in page
    assert 'href="/ml-models/run?dag_id=churn_dag&amp;run_id=monday"' in page
    assert 'href="/dags/churn_dag/runs/monday"' in page


def test_the_curve_is_of_what_served_after_each_run() -> None:
    from tests.unit.ml_pipelines_airflow.ui.conftest import World

    world = World()
    entries = [world.record("a", "rejected"), world.record("b", "promoted"), world.record("c", "stopped")]
    moments = queries.history_of(entries[::-1], "roc_auc")
    assert [(each.value, each.new) for each in moments] == [(0.89, False), (0.91, True), (0.89, False)]
    assert queries.history_of(entries, "brier") == []


def test_a_dag_of_one_model_shows_it_at_once_and_of_two_the_list(world: Any, client: TestClient) -> None:
    assert "No model has a decision yet" in client.get("/dag?dag_id=churn_dag").text
    world.record("monday")
    assert "Decisions" in client.get("/dag?dag_id=churn_dag").text
    world.record("tuesday", model="other")
    assert client.get("/dag?dag_id=churn_dag").text.count("<h2>") == 2


def test_a_run_shows_its_report_in_a_frame_that_may_do_nothing(world: Any, client: TestClient) -> None:
    world.record("monday")
    frames = [attributes for tag, attributes in Tags(client.get(RUN).text).found if tag == "iframe"]
    assert frames == [{"title": "Report of the run", "sandbox": None, "src": f"/ml-models{REPORT.replace('&', '&')}"}]
    assert client.get(REPORT).content == b"<!DOCTYPE html><title>the secret report</title>"


def test_a_run_that_decides_nothing_shows_the_report_that_it_has_made_to_who_may_read_it(
    world: Any, client: TestClient
) -> None:
    page = b"<!DOCTYPE html><title>drift</title>"
    result = StepResult(
        step="measure_drift",
        key="0" * 64,
        status="computed",
        reason="",
        outputs={"drift": world.services.put(b"{}", kind="json"), "report": world.services.put(page, kind="html")},
    )
    for dag in ("churn_dag", "secret_dag"):
        whose = Identity(pipeline=dag, run_id="monday", task_id="measure_drift")
        world.services.done.append(TaskRecord(whose, result, datetime(2026, 1, 1, tzinfo=UTC)))
    for path in (RUN, REPORT):
        answer = client.get(path)
        assert answer.content == page
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert client.get(path.replace("churn_dag", "secret_dag")).status_code == 404
    world.record("monday")
    assert client.get(REPORT).content != page  # what is on record comes first


def test_a_run_without_an_entry_is_not_decided_yet(client: TestClient) -> None:
    for path in (RUN, REPORT):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "Nothing is decided yet" in answer.text


def test_an_entry_without_a_report_shows_its_reason(world: Any, client: TestClient) -> None:
    world.record("monday", report=None)
    assert "the reason of monday" in client.get(RUN).text
    assert "<iframe" not in client.get(RUN).text
    answer = client.get(REPORT)
    assert answer.status_code == 404
    assert "This run has no report" in answer.text


def test_a_report_that_was_altered_is_not_shown(world: Any, client: TestClient) -> None:
    world.record("monday")
    (uri,) = world.services.blobs
    world.services.blobs[uri] = b"<script>alert(1)</script>"
    answer = client.get(REPORT)
    assert answer.status_code == 404
    assert "alert(1)" not in answer.text
    assert "bytes are not those that the reference promises" in answer.text


def test_a_report_that_is_gone_is_told(world: Any, client: TestClient) -> None:
    world.record("monday")
    world.services.blobs.clear()
    answer = client.get(REPORT)
    assert answer.status_code == 404
    assert "There are no bytes at this address" in answer.text


@pytest.mark.parametrize("path", ["/", MODEL, RUN, REPORT])
def test_a_ledger_that_is_down_is_told_on_a_page(world: Any, client: TestClient, path: str) -> None:
    world.services.ledger.down = True
    answer = client.get(path)
    assert answer.status_code == 503
    assert "The ledger does not answer" in answer.text
    assert "start it, then try again" in answer.text


def test_a_registry_that_is_down_costs_only_what_it_knows(world: Any, client: TestClient) -> None:
    world.record("monday", version="2", previous_version="1")
    world.services.registry.down = True
    answer = client.get(MODEL)
    assert answer.status_code == 200
    assert "MLflow can&#39;t be asked" in answer.text or "MLflow can't be asked" in answer.text
    assert "version 2" in answer.text
    assert "Decisions" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/model", "/model?model=", "/model?model=%00", "/run?dag_id=churn_dag", f"{MODEL}&before=0", f"{MODEL}&before=x"],
)
def test_an_incomplete_address_is_told_on_a_page(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert "The address of this page is not complete" in answer.text


def test_other_addresses_are_told_on_a_page(client: TestClient) -> None:
    assert client.get("/static/app.py").status_code == 404
    assert "There is no such file" in client.get("/static/app.py").text
    assert client.get("/nowhere").status_code == 404
    assert client.post("/").status_code == 405


def test_what_people_named_is_escaped(world: Any, client: TestClient) -> None:
    world.readable = {EVIL}
    world.record(EVIL, dag=EVIL, model=EVIL)
    for path, query in (
        ("/", {}),
        ("/model", {"model": EVIL}),
        ("/run", {"dag_id": EVIL, "run_id": EVIL}),
        ("/run", {"dag_id": EVIL, "run_id": f"no {EVIL}"}),
        ("/model", {"model": f"no {EVIL}"}),
    ):
        page = client.get(path, params=query).text
        assert "<script>alert" not in page
        assert len([tag for tag, _ in Tags(page).found if tag == "script"]) == 1


def test_the_style_is_the_reports_and_more(client: TestClient) -> None:
    answer = client.get("/static/style.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.text.startswith(style())
    assert ".aliases" in answer.text
    assert client.get("/static/frame.js").headers["content-type"].startswith("text/javascript")


def test_behind_a_proxys_path_all_addresses_have_it(world: Any) -> None:
    world.record("monday")
    with TestClient(world.app, root_path="/airflow/ml-models") as client:
        page = client.get(MODEL).text
    assert 'href="/airflow/ml-models/run?' in page
    assert 'href="/airflow/dags/churn_dag/runs/monday"' in page


def test_ten_thousand_decisions_are_shown_in_pages(world: Any, client: TestClient, monkeypatch: Any) -> None:
    from ml_pipelines.promotion import hash_chain as chain

    first = world.record("run 1")
    entries = [first.model_copy(update={"seq": seq, "run_id": f"run {seq}"}) for seq in range(1, 10_001)]
    asked: list[int] = []

    def newest(model: str, *, limit: int = 100, before: int | None = None) -> tuple[Any, ...]:
        asked.append(limit)
        end = len(entries) if before is None else min(before - 1, len(entries))
        return tuple(entries[max(0, end - limit) : end][::-1])

    assert chain.START.seq == 0  # numbers are from 1
    monkeypatch.setattr(world.services.ledger, "entries", newest)
    for path in ("/", MODEL, f"{MODEL}&before=5000"):
        asked.clear()
        page = client.get(path)
        assert sum(asked) < 500
        assert len(page.content) < 200_000
    assert page.text.count('<article class="card"') == 20
    assert "#4999<" in page.text
    assert "before=4980" in page.text
    last = client.get(f"{MODEL}&before=5").text
    assert last.count('<article class="card"') == 4
    assert "Older" not in last


def test_a_user_who_may_see_few_of_many_is_answered_soon(world: Any, client: TestClient, monkeypatch: Any) -> None:
    hidden = world.record("run 1", dag="other_dag")
    asked: list[int] = []

    def newest(model: str, *, limit: int = 100, before: int | None = None) -> tuple[Any, ...]:
        asked.append(limit)
        start = 1_000_000 if before is None else before - 1
        return tuple(hidden.model_copy(update={"seq": start - place}) for place in range(limit))

    monkeypatch.setattr(world.services.ledger, "entries", newest)
    assert client.get(MODEL).status_code == 404
    assert sum(asked) < queries.MOST_READ + 500
