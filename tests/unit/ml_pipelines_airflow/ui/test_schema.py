"""Requests generated from the OpenAPI description: none causes a server error."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from ml_pipelines_airflow.ui.app import create_app

OPERATIONS = {
    result.ok().label: result.ok()
    for result in schemathesis.openapi.from_dict(create_app().openapi()).get_all_operations()
}
EXAMPLES = 15


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_app_answers_generated_requests_without_a_server_error(
    site: Any, client: TestClient, label: str, mode: GenerationMode
) -> None:
    for name in ("churn_dag", "0"):
        site.readable.add(name)
        site.record("0", dag=name, model=name)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        answer = client.request(case.method, case.formatted_path, params=case.query, headers=case.headers)
        assert answer.status_code < 500, answer.text
        assert answer.headers["content-security-policy"]

    send()
