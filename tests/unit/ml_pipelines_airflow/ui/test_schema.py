"""What nobody would ask, made up from the application's own description: no answer is a fault of ours."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from ml_pipelines_airflow.ui.app import create_app

OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_dict(create_app().openapi()).get_all_operations()
}
EXAMPLES = 15


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfit"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_answer_is_a_fault_of_ours(world: Any, client: TestClient, label: str, mode: GenerationMode) -> None:
    for name in ("churn_dag", "0"):
        world.readable.add(name)
        world.record("0", dag=name, model=name)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        answer = client.request(case.method, case.formatted_path, params=case.query, headers=case.headers)
        assert answer.status_code < 500, answer.text
        assert answer.headers["content-security-policy"]

    ask()
