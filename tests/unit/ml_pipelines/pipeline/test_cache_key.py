from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ml_pipelines
from ml_pipelines.contracts import ArtifactKind, ArtifactRef
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.cache_key import cache_key, code_digests, package_versions
from ml_pipelines.pipeline.step import Step
from ml_pipelines.pipeline.step_parameters import EvaluateParameters, TrainParameters
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.training import Candidate
from ml_pipelines.store.cache_miss import components_key, differences

STEP = Step(
    name="decide",
    parameters="ml_pipelines.pipeline.step_parameters:DecideParameters",
    compute="ml_pipelines.spec.training:candidates",
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=6,
)
components = st.dictionaries(st.sampled_from(["parameters", "facts", "inputs"]), json_values)


def ref(digit: str, uri: str = "file:///a") -> ArtifactRef:
    return ArtifactRef(uri=uri, sha256=digit * 64, bytes=1, kind="table")


def key(**changed: Any) -> str:
    arguments: dict[str, Any] = {
        "parameters": {"test": 0.2},
        "inputs": {"table": ref("a")},
        "key_facts": {},
        "seed": 1,
    } | changed
    return cache_key(arguments.pop("step", STEP), **arguments)[0]


def test_cache_key_is_the_digest_of_its_components() -> None:
    digest, components = cache_key(
        STEP, parameters={"test": 0.2}, inputs={"a": ref("a"), "b": (ref("b"), ref("c"))}, key_facts={"x": 1}, seed=7
    )
    assert digest == components_key(components)
    assert components["step"] == "decide"
    assert components["parameters"] == {"test": 0.2}
    assert components["inputs"] == {"a": "a" * 64, "b": ["b" * 64, "c" * 64]}
    assert components["facts"] == {"x": 1}
    assert components["seed"] == 7


def test_cache_key_covers_the_import_closure_and_its_distributions() -> None:
    components: Any = cache_key(STEP, parameters={}, inputs={}, key_facts={}, seed=1)[1]
    assert {"ml_pipelines.spec.training", "ml_pipelines.spec.metric_table", "ml_pipelines"} <= set(components["code"])
    assert components["environment"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert components["environment"]["pydantic"] == metadata.version("pydantic")


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"test": 0.3}},
        {"parameters": {"test": 0.2, "more": None}},
        {"inputs": {"table": ref("b")}},
        {"inputs": {"table": (ref("a"),)}},
        {"inputs": {"other": ref("a")}},
        {"key_facts": {"champion": "1"}},
        {"seed": 2},
        {"step": replace(STEP, name="other")},
        {"step": replace(STEP, compute="ml_pipelines.spec.cron:f")},
        {"code": ("sklearn.linear_model.Ridge",)},
    ],
)
def test_cache_key_changes_with_each_component(changed: dict[str, Any]) -> None:
    assert key(**changed) != key()


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("table", "ml_pipelines.data.table_writer"),
        ("model", "ml_pipelines.modeling.serialization"),
        ("json", "ml_pipelines._utils.canonical_json"),
    ],
)
def test_cache_key_covers_the_code_that_writes_and_reads_artifacts(kind: ArtifactKind, module: str) -> None:
    assert module in code_digests(replace(STEP, outputs={"a": kind}))
    model = ref("a").model_copy(update={"kind": kind})
    components: Any = cache_key(STEP, parameters={}, inputs={"a": model}, key_facts={}, seed=1)[1]
    assert module in components["code"]


def test_train_and_evaluate_keys_cover_the_distribution_of_each_estimator() -> None:
    candidate = Candidate(name="trees", estimator="lightgbm.LGBMClassifier")
    spec = parse_spec(
        "model: {name: m, task: classification}\ndata: {file: {path: a.csv}, target: y, key: k}\n"
        "candidates: [{name: trees, estimator: lightgbm.LGBMClassifier}]\ngate: {metric: roc_auc}\n",
        path="m.yaml",
    )
    for parameters in (TrainParameters.of(spec, candidate), EvaluateParameters.of(spec)):
        versions = package_versions(TRAINING_STEPS["train"], parameters.code)
        assert versions["lightgbm"] == metadata.version("lightgbm")
        assert {"scikit-learn", "scipy", "numpy"} <= set(versions)


def test_cache_key_covers_the_source_of_an_estimator_without_a_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_estimators.py").write_text("class Mean: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = key(code=("own_estimators.Mean",))
    (tmp_path / "own_estimators.py").write_text("class Mean: constant = 1\n")
    assert key(code=("own_estimators.Mean",)) != before
    assert "own_estimators" not in sys.modules


def test_a_change_in_any_module_of_a_closure_is_a_miss_that_names_it(tmp_path: Path) -> None:
    """Each module of each step's closure changes by one line, in a copy of the package."""
    package = Path(ml_pipelines.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "sample_data")
    shutil.copytree(package, tmp_path / "ml_pipelines", ignore=ignored)
    command = [sys.executable, str(Path(__file__).with_name("closure_worker.py")), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)}, timeout=120
    )
    report = json.loads(done.stdout)
    computing = [name for name, step in (TRAINING_STEPS | BATCH_STEPS).items() if step.compute]
    assert list(report) == computing
    for step, changes in report.items():
        assert changes.pop("unrelated") == []
        assert len(changes) > 10, step
        for module, sentences in changes.items():
            assert sentences == [f"code of {module} changed"], step
    assert {"ml_pipelines.evaluation.row_influence", "ml_pipelines.evaluation.resampling"} <= set(report["evaluate"])


def test_cache_key_ignores_the_address_of_an_artifact() -> None:
    assert key(inputs={"table": ref("a", "s3://elsewhere/b")}) == key()


def test_cache_key_of_a_step_that_computes_nothing_has_no_code() -> None:
    step = Step(name="register", parameters="x:y", publish="ml_pipelines.spec.metric_table:metrics_of")
    components = cache_key(step, parameters={}, inputs={}, key_facts={}, seed=1)[1]
    assert (components["code"], components["environment"]) == ({}, {})


@given(components, components)
def test_equal_components_have_equal_keys(first: dict[str, Any], second: dict[str, Any]) -> None:
    # `repr` tells 1 from 1.0 and True, as JSON does and `==` does not.
    assert (components_key(first) == components_key(second)) == (canonical(first) == canonical(second))
    assert components_key(first) == components_key(dict(reversed(first.items())))


def canonical(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict {sorted((name, canonical(child)) for name, child in value.items())}"
    if isinstance(value, list):
        return repr([canonical(child) for child in value])
    return repr(value)


@given(components, components)
def test_differences_are_empty_exactly_for_equal_keys(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert bool(differences(first, second)) == (components_key(first) != components_key(second))


def test_cache_key_ignores_line_endings_but_not_code(tmp_path: Path) -> None:
    keys = []
    for folder, source in {"unix": b"x = 1\n", "dos": b"x = 1\r\n", "other": b"x = 2\n"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_bytes(source)
        script = (
            f"import sys; sys.path.insert(0, {str(tmp_path / folder)!r})\n"
            "from ml_pipelines.pipeline.training import Step; from ml_pipelines.pipeline.cache_key import cache_key\n"
            "step = Step(name='s', parameters='', compute='mine:f')\n"
            "print(cache_key(step, parameters={}, inputs={}, key_facts={}, seed=1)[0])\n"
            "assert 'mine' not in sys.modules, 'it was imported'"
        )
        keys.append(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    unix, dos, other = keys
    assert unix == dos != other


@pytest.mark.parametrize("module", ["ml_pipelines.no_such_module", "sys"])
def test_cache_key_names_a_module_without_source(module: str) -> None:
    with pytest.raises(RequestError, match=f"module {module} has no source file") as error:
        key(step=Step(name="s", parameters="", compute=f"{module}:f"))
    assert error.value.fix == "install the package with its sources"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_cache_key_rejects_values_that_are_not_json(value: Any) -> None:
    with pytest.raises(RequestError, match="a parameter or fact can't be part of a key") as error:
        key(parameters={"x": value})
    assert error.value.where == "step decide"
    assert error.value.fix == "remove NaN, infinity and objects from the step's parameters"


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        (
            {"parameters": {"split": {"test": 0.2}}},
            {"parameters": {"split": {"test": 0.3}}},
            ["parameters.split.test changed from 0.2 to 0.3"],
        ),
        ({"inputs": {"table": "a"}}, {"inputs": {"table": "b"}}, ["input table changed"]),
        ({"inputs": {"models": ["a"]}}, {"inputs": {"models": ["a", "b"]}}, ["input models changed"]),
        ({"code": {"m.split": "a"}}, {"code": {"m.split": "b"}}, ["code of m.split changed"]),
        ({"facts": {}}, {"facts": {"champion": "3"}}, ['fact champion changed from nothing to "3"']),
        ({"parameters": {"a": 1}}, {"parameters": {}}, ["parameters.a changed from 1 to nothing"]),
        ({"parameters": {"a": 1}}, {"parameters": {"a": True}}, ["parameters.a changed from 1 to true"]),
        ({"seed": 1}, {"seed": 2}, ["seed changed from 1 to 2"]),
        (
            {"environment": {"polars": "1.0"}, "seed": 1},
            {"environment": {"polars": "2.0"}, "seed": 2},
            ['polars changed from "1.0" to "2.0"', "seed changed from 1 to 2"],
        ),
        ({"parameters": {"a": "x" * 200}}, {"parameters": {"a": "y"}}, ["parameters.a changed"]),
        ({"parameters": {"a": 1}}, {"parameters": {"a": 1}}, []),
    ],
)
def test_differences_name_each_change(old: dict[str, Any], new: dict[str, Any], sentences: list[str]) -> None:
    assert differences(old, new) == sentences
