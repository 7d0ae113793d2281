from __future__ import annotations

import pytest

from ml_pipelines.errors import SpecError
from ml_pipelines.pipeline.step_parameters import EvaluateParameters
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.custom_metric import CustomMetric, metric_function, short_name
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.metric_table import get_metric
from ml_pipelines.spec.training import PipelineSpec

TEXT = """\
model: {name: churn, task: %s}
data: {file: {path: a.csv}, target: label, key: id}
gate:
  metric: %s
"""
PROFIT = "{function: shop_gain:profit, better: lower, needs: probabilities}"


def parse(metric: str, task: str = "classification") -> PipelineSpec:
    return parse_spec(TEXT % (task, metric), path="churn.yaml")


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_gain")


def test_name_holds_all_facts() -> None:
    spec = parse(PROFIT)
    assert spec.gate.metric == "shop_gain:profit lower probabilities"
    assert PipelineSpec.model_validate(spec.model_dump()) == spec
    metric = get_metric(spec.gate.metric)
    assert (metric.scorer, metric.greater_is_better, metric.needs) == ("shop_gain:profit", False, "probabilities")
    assert metric.label == "Profit"
    assert EvaluateParameters.of(spec).code[-1] == "shop_gain:profit"


@pytest.mark.parametrize("name", ["roc_auc", "shop_gain:profit", "shop_gain:profit higher", "a:b higher labels x"])
def test_other_names_are_no_custom_metric(name: str) -> None:
    assert CustomMetric.of_name(name) is None
    assert metric_function(name) is None


@pytest.mark.parametrize(
    ("metric", "task", "message"),
    [
        (PROFIT, "regression", "not a metric of regression"),
        ("{function: shop_gain:profit, needs: values}", "classification", "not a metric of classification"),
        ("{function: shop_gain:profit, better: up}", "classification", "better"),
        ("{function: shop_gain.profit}", "classification", "function"),
        ("{better: higher}", "classification", "function"),
        ("shop_gain:profit", "classification", "expected a metric"),
        ("{function: other_code:profit}", "classification", "expected code from"),
    ],
)
def test_invalid_declaration_is_an_issue_with_its_line(metric: str, task: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(metric, task)
    assert any(message in issue.message for issue in caught.value.issues)


@pytest.mark.parametrize(("name", "short"), [("shop_code:profit higher labels", "profit"), ("roc_auc", "roc_auc")])
def test_short_name_has_no_module(name: str, short: str) -> None:
    assert short_name(name) == short


def test_metrics_of_the_report_are_evaluated_and_do_not_decide() -> None:
    spec = parse(f"roc_auc\n  report: [brier, {PROFIT}, roc_auc]")
    name = "shop_gain:profit lower probabilities"
    assert spec.gate.report == ("brier", name, "roc_auc")
    assert spec.gate.metrics == ("roc_auc",)
    parameters = EvaluateParameters.of(spec)
    assert (parameters.other_metrics, parameters.report_metrics) == ((), (name,))
    assert parameters.code[-1] == "shop_gain:profit"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("rmse", "rmse is not a metric of classification"),
        ("briar", "did you mean"),
        ("{function: shop_gain:profit, needs: values}", "not a metric of classification"),
        ("{function: other_code:profit}", "expected code from"),
    ],
)
def test_invalid_metric_of_the_report_is_an_issue_with_its_line(metric: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"roc_auc\n  report: [{metric}]")
    assert message in str(caught.value)
