"""Which address belongs to which task. What the web server shows: tests/integration/airflow/test_new_data.py."""

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
def test_a_step_pushes_its_address(step: str, values: dict[str, Any], pushed: dict[str, str]) -> None:
    assert link_urls(step, values, EARLIER.get, AIRFLOW) == pushed


@pytest.mark.parametrize("earlier", [WITHOUT, {}])
@pytest.mark.parametrize("step", TRAINING_STEPS)
def test_without_a_page_nothing_is_pushed(step: str, earlier: dict[str, Any]) -> None:
    assert link_urls(step, {"winner": "tree", "tracking_url": None}, earlier.get) == {}


def test_what_a_step_pushes_is_what_its_link_reads() -> None:
    values = {"winner": "tree", "url": "http://mlflow/v", "tracking_url": f"{RUN}/a"}
    for step in TRAINING_STEPS:
        assert [link.xcom_key for link in operator_links(step)] == list(link_urls(step, values, EARLIER.get, AIRFLOW))


@pytest.mark.parametrize("link", [MlflowRunLink(), ModelVersionLink(), ReportLink()])
@pytest.mark.parametrize(("map_index", "asked"), [(-1, {}), (None, {}), (2, {"map_indexes": 2})])
def test_a_link_is_what_the_task_has_pushed(link: Any, map_index: int | None, asked: dict[str, int]) -> None:
    def xcom_pull(*, task_ids: str, key: str, **where: int) -> str | None:
        assert (task_ids, where) == ("t", asked)
        return {link.xcom_key: "http://mlflow/x"}.get(key)

    ti = SimpleNamespace(task_id="t", map_index=map_index, xcom_pull=xcom_pull)
    assert link.get_link(None, ti_key=ti) == "http://mlflow/x"
    ti.xcom_pull = lambda **_: None
    assert link.get_link(None, ti_key=ti) == ""
