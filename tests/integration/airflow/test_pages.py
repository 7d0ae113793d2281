"""The pages about models in a real browser, through the real api-server, embedded in Airflow's UI."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.integration.airflow.server import Server, run_id_of, standalone

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page

DAG = "small"
ROUTES = ("/", f"/dag?dag_id={DAG}", "/model?model=small-model", f"/run?dag_id={DAG}&run_id=r")
MILLISECONDS = 300_000  # for anything to appear, on a busy machine
SWITCHES = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # it runs as root in CI, and opens nothing but our own pages
]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800), pytest.mark.xdist_group("pages")]


@pytest.fixture(scope="module")
def server(make_airflow: Callable[..., Any]) -> Iterator[Server]:
    airflow = make_airflow()
    airflow.add_pipeline(DAG)
    with standalone(airflow, DAG) as made:
        yield made


@pytest.fixture(scope="module")
def empty(server: Server) -> requests.Response:
    """The first page before any run."""
    return server.session.get(f"{server.url}/ml-models/", timeout=120)


@pytest.fixture(scope="module")
def run(server: Server, empty: requests.Response) -> str:
    """The path of a run that has promoted a model."""
    server.unpause(DAG)
    path = server.trigger(DAG)
    assert server.end_of(path) == "success"
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    assert found, "there is no chromium on the PATH; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        yield made
        made.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window of somebody who has logged in by the form; anything that a page may not do fails the test."""
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(MILLISECONDS)
    made = context.new_page()
    refused: list[str] = []
    made.on("console", lambda told: refused.append(told.text) if "Content Security Policy" in told.text else None)
    passwords = json.loads((server.root / "home" / "simple_auth_manager_passwords.json.generated").read_text())
    made.goto(server.url)
    made.fill("input[name=username]", "admin")
    made.fill("input[name=password]", passwords["admin"])
    made.keyboard.press("Enter")
    made.wait_for_url(lambda url: "/auth/login" not in url)
    yield made
    assert refused == []
    context.close()


def frame_from_records(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title='ML models'], iframe[title='ML report']")


def looks_like_something(page: Page, name: str, server: Server) -> None:
    """A picture of the page, which is kept for people, has more than a few colours."""
    import io

    from matplotlib.image import imread

    picture = page.screenshot()
    (server.root / f"{name}.png").write_bytes(picture)
    if folder := os.environ.get("ML_PIPELINES_SCREENSHOTS"):
        with open(os.path.join(folder, f"{name}.png"), "wb") as file:  # noqa: PTH118, PTH123  one line
            file.write(picture)
    pixels = imread(io.BytesIO(picture))[..., :3]
    assert len({tuple(pixel) for pixel in pixels[::7, ::7].reshape(-1, 3).tolist()}) > 20


@pytest.mark.parametrize("route", [*ROUTES, "/report?dag_id=small&run_id=r", "/static/style.css"])
def test_without_a_token_there_is_nothing(server: Server, route: str) -> None:
    assert requests.get(f"{server.url}/ml-models{route}", timeout=120).status_code == 401


def test_before_any_run_the_first_page_says_so(empty: requests.Response) -> None:
    assert empty.status_code == 200
    assert "No decisions yet" in empty.text


def test_from_the_navigation_to_a_model_a_report_and_the_run(server: Server, run: str, page: Page) -> None:
    theme = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    page.goto(f"{server.url}/plugin/ml-models")
    frame = frame_from_records(page)
    frame.get_by_role("link", name="small-model").wait_for()
    looks_like_something(page, f"models-{theme}", server)
    frame.get_by_role("link", name="small-model").click()
    frame.get_by_role("heading", name="Decisions").wait_for()
    frame.get_by_text("version 1", exact=True).first.wait_for()
    looks_like_something(page, f"model-{theme}", server)
    frame.get_by_role("link", name="Report").click()
    frame.frame_locator("iframe").get_by_role("heading", name="Promoted").wait_for()
    looks_like_something(page, f"run-{theme}", server)
    frame.get_by_role("link", name=f"Run {run_id_of(run)}").click()
    page.wait_for_url(lambda url: url.startswith(f"{server.url}/dags/{DAG}/runs/"))


def test_the_tabs_of_the_dag_and_of_the_run(server: Server, run: str, page: Page) -> None:
    page.goto(f"{server.url}/dags/{DAG}")
    page.get_by_role("link", name="ML models").last.click()
    frame_from_records(page).get_by_role("heading", name="small-model").wait_for()
    page.goto(f"{server.url}/dags/{DAG}/runs/{run_id_of(run)}")
    page.get_by_role("link", name="ML report").click()
    frame_from_records(page).frame_locator("iframe").get_by_role("heading", name="Promoted").wait_for()


@pytest.mark.parametrize("task", ["evaluate_model", "record_decision"])
def test_the_tasks_link_to_the_report(server: Server, run: str, task: str) -> None:
    links = server.call("GET", f"{run}/taskInstances/{task}/links")["extra_links"]
    path = f"/dags/{DAG}/runs/{run_id_of(run)}/plugin/ml-report"
    assert requests.utils.unquote(links["Report"]).endswith(path)


def test_on_a_phone_nothing_is_wider_than_the_screen(server: Server, run: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    report = f"/report?dag_id={DAG}&run_id={requests.utils.quote(run_id_of(run), safe='')}"
    for path in ("/", "/model?model=small-model", report):
        page.goto(f"{server.url}/ml-models{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    looks_like_something(page, "phone", server)


def test_on_paper_pages_are_light_open_and_without_navigation(server: Server, run: str, page: Page) -> None:
    """In whatever theme the reader's screen has."""
    at_run = f"dag_id={DAG}&run_id={requests.utils.quote(run_id_of(run), safe='')}"
    hidden = {
        f"/report?{at_run}": [],
        "/": [],
        "/model?model=small-model": [".eyebrow a", ".card .go", "nav"],
        f"/run?{at_run}": [".bar .go", "iframe"],
    }
    for path, elements in hidden.items():
        page.emulate_media(media="screen")
        page.goto(f"{server.url}/ml-models{path}")
        folded = page.locator("details table, details ul").all()
        assert not [each for each in folded if each.is_visible()]
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", path
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)", path
        assert not [each for each in folded if not each.is_visible()], path
        for element in elements:
            found = page.locator(element).all()
            assert found, (path, element)
            assert not [each for each in found if each.is_visible()], (path, element)
        printed = page.pdf(format="A4", print_background=True)
        assert printed.startswith(b"%PDF-")
        (server.root / f"{path.strip('/').partition('?')[0] or 'models'}.pdf").write_bytes(printed)
