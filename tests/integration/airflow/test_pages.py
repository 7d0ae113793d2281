"""The pages about models in a real browser, embedded in Airflow's UI."""

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
MILLISECONDS = 300_000
"""Timeout of all waits, for busy machines."""
SWITCHES = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # runs as root in CI, and opens only local pages
]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800), pytest.mark.xdist_group("pages")]


@pytest.fixture(scope="module")
def server(make_airflow: Callable[..., Any]) -> Iterator[Server]:
    airflow = make_airflow()
    airflow.add_pipeline(DAG)
    with standalone(airflow, DAG) as running:
        yield running


@pytest.fixture(scope="module")
def empty(server: Server) -> requests.Response:
    """The first page before any run."""
    return server.session.get(f"{server.url}/ml-models/", timeout=120)


@pytest.fixture(scope="module")
def run(server: Server, empty: requests.Response) -> str:
    """The path of a run that promoted a model."""
    server.unpause(DAG)
    path = server.trigger(DAG)
    assert server.end_of(path) == "success"
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium on the PATH; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window after a login by the form. A violation of the content security policy fails the test."""
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(MILLISECONDS)
    page = context.new_page()
    violations: list[str] = []
    page.on("console", lambda line: violations.append(line.text) if "Content Security Policy" in line.text else None)
    passwords = json.loads((server.root / "home" / "simple_auth_manager_passwords.json.generated").read_text())
    page.goto(server.url)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", passwords["admin"])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/auth/login" not in url)
    yield page
    assert violations == []
    context.close()


def plugin_frame(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title='ML models'], iframe[title='ML report']")


def assert_not_blank(page: Page, name: str, server: Server) -> None:
    """Save a screenshot of the page, and check that it has more than twenty colours."""
    import io

    from matplotlib.image import imread

    screenshot = page.screenshot()
    (server.root / f"{name}.png").write_bytes(screenshot)
    if folder := os.environ.get("ML_PIPELINES_SCREENSHOTS"):
        with open(os.path.join(folder, f"{name}.png"), "wb") as file:  # noqa: PTH118, PTH123  one line
            file.write(screenshot)
    pixels = imread(io.BytesIO(screenshot))[..., :3]
    assert len({tuple(pixel) for pixel in pixels[::7, ::7].reshape(-1, 3).tolist()}) > 20


@pytest.mark.parametrize("route", [*ROUTES, "/report?dag_id=small&run_id=r", "/static/style.css"])
def test_pages_require_a_login(server: Server, route: str) -> None:
    assert requests.get(f"{server.url}/ml-models{route}", timeout=120).status_code == 401


def test_first_page_without_runs_is_empty(empty: requests.Response) -> None:
    assert empty.status_code == 200
    assert "No decisions yet" in empty.text


def test_navigation_leads_to_model_report_and_run(server: Server, run: str, page: Page) -> None:
    theme = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    page.goto(f"{server.url}/plugin/ml-models")
    frame = plugin_frame(page)
    frame.get_by_role("link", name="small-model").wait_for()
    assert_not_blank(page, f"models-{theme}", server)
    frame.get_by_role("link", name="small-model").click()
    frame.get_by_role("heading", name="Decisions").wait_for()
    frame.get_by_text("version 1", exact=True).first.wait_for()
    assert_not_blank(page, f"model-{theme}", server)
    frame.get_by_role("link", name="Report").click()
    frame.frame_locator("iframe").get_by_role("heading", name="Promoted").wait_for()
    assert_not_blank(page, f"run-{theme}", server)
    frame.get_by_role("link", name=f"Run {run_id_of(run)}").click()
    page.wait_for_url(lambda url: url.startswith(f"{server.url}/dags/{DAG}/runs/"))


def test_dag_and_run_have_tabs(server: Server, run: str, page: Page) -> None:
    page.goto(f"{server.url}/dags/{DAG}")
    page.get_by_role("link", name="ML models").last.click()
    plugin_frame(page).get_by_role("heading", name="small-model").wait_for()
    page.goto(f"{server.url}/dags/{DAG}/runs/{run_id_of(run)}")
    page.get_by_role("link", name="ML report").click()
    plugin_frame(page).frame_locator("iframe").get_by_role("heading", name="Promoted").wait_for()


@pytest.mark.parametrize("task", ["evaluate_model", "record_decision"])
def test_tasks_link_to_the_report(server: Server, run: str, task: str) -> None:
    links = server.call("GET", f"{run}/taskInstances/{task}/links")["extra_links"]
    path = f"/dags/{DAG}/runs/{run_id_of(run)}/plugin/ml-report"
    assert requests.utils.unquote(links["Report"]).endswith(path)


def test_pages_fit_a_phone_screen(server: Server, run: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    report = f"/report?dag_id={DAG}&run_id={requests.utils.quote(run_id_of(run), safe='')}"
    for path in ("/", "/model?model=small-model", report):
        page.goto(f"{server.url}/ml-models{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    assert_not_blank(page, "phone", server)


def test_printed_pages_are_light_and_without_navigation(server: Server, run: str, page: Page) -> None:
    query = f"dag_id={DAG}&run_id={requests.utils.quote(run_id_of(run), safe='')}"
    hidden = {
        f"/report?{query}": [],
        "/": [],
        "/model?model=small-model": [".eyebrow a", ".card .go", "nav"],
        f"/run?{query}": [".bar .go", "iframe"],
    }
    for path, selectors in hidden.items():
        page.emulate_media(media="screen")
        page.goto(f"{server.url}/ml-models{path}")
        folded = page.locator("details table, details ul").all()
        assert not [element for element in folded if element.is_visible()]
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", path
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)", path
        assert not [element for element in folded if not element.is_visible()], path
        for selector in selectors:
            matches = page.locator(selector).all()
            assert matches, (path, selector)
            assert not [element for element in matches if element.is_visible()], (path, selector)
        document = page.pdf(format="A4", print_background=True)
        assert document.startswith(b"%PDF-")
        (server.root / f"{path.strip('/').partition('?')[0] or 'models'}.pdf").write_bytes(document)
