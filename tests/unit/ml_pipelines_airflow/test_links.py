"""The addresses of each step. tests/integration/airflow/test_new_data.py covers the web server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines_airflow.links import MlflowRunLink, ModelVersionLink, ReportLink, link_urls, operator_links

RUN = "http://mlflow/#/experiments/1/runs"
TRAININGS = [{"candidate": "linear", "tracking_url": f"{RUN}/a"}, {"candidate": "tree", "tracking_url": f"{RUN}/b"}]
AIRFLOW = "http://airflow/dags/churn/runs/monday"
REPORT = f"{AIRFLOW}/plugin/ml-report"  # as the plugin names the tab
EARLIER: dict[str, Any] = {
    "train": TRAININGS,
    "register": {"version": "3", "url": "http://mlflow/#/models/m/versions/3"},
}
WITHOUT: dict[str, Any] = {"train": [{"candidate": "tree", "tracking_url": None}], "register": {"url": None}}


@pytest.mark.parametrize(
    ("step", "values", "pushed"),
    [
        ("train", {"tracking_url": f"{RUN}/a"}, {"mlflow_run_url": f"{RUN}/a"}),
        ("register", {"url": "http://mlflow/v"}, {"model_version_url": "http://mlflow/v"}),
        ("deploy", {"version": "3"}, {"model_version_url": "http://mlflow/#/models/m/versions/3"}),
        ("evaluate", {"winner": "tree"}, {"report_url": REPORT}),
        ("decide", {"candidate": None, "outcome": "no_change"}, {"report_url": REPORT}),
        ("record_decision", {"outcome": "stopped"}, {"report_url": REPORT}),
        ("split", {"rows": 3}, {}),
    ],
)
def test_link_urls_returns_the_address_of_a_step(step: str, values: dict[str, Any], pushed: dict[str, str]) -> None:
    assert link_urls(step, values, EARLIER.get, AIRFLOW) == pushed


@pytest.mark.parametrize("earlier", [WITHOUT, {}])
@pytest.mark.parametrize("step", TRAINING_STEPS)
def test_link_urls_returns_nothing_without_an_address(step: str, earlier: dict[str, Any]) -> None:
    assert link_urls(step, {"winner": "tree", "tracking_url": None}, earlier.get) == {}


def test_link_urls_has_the_keys_of_operator_links() -> None:
    values = {"winner": "tree", "url": "http://mlflow/v", "tracking_url": f"{RUN}/a"}
    for step in TRAINING_STEPS:
        assert [link.xcom_key for link in operator_links(step)] == list(link_urls(step, values, EARLIER.get, AIRFLOW))


def test_operator_links_of_several_steps_are_unique() -> None:
    assert [link.name for link in operator_links("evaluate", "decide")] == ["Report"]
    assert [link.name for link in operator_links("register", "deploy")] == ["Model version"]
    assert operator_links("preprocess", "split") == ()


@pytest.mark.parametrize("link", [MlflowRunLink(), ModelVersionLink(), ReportLink()])
@pytest.mark.parametrize(("map_index", "mapped"), [(-1, {}), (None, {}), (2, {"map_indexes": 2})])
def test_get_link_returns_the_pushed_address(link: Any, map_index: int | None, mapped: dict[str, int]) -> None:
    def xcom_pull(*, task_ids: str, key: str, **arguments: int) -> str | None:
        assert (task_ids, arguments) == ("t", mapped)
        return {link.xcom_key: "http://mlflow/x"}.get(key)

    ti = SimpleNamespace(task_id="t", map_index=map_index, xcom_pull=xcom_pull)
    assert link.get_link(None, ti_key=ti) == "http://mlflow/x"
    ti.xcom_pull = lambda **_: None
    assert link.get_link(None, ti_key=ti) == ""
