"""The key of a recipe, and what has changed between two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import MissingExtra, RequestError
from ml_pipelines.pipeline.cache_key import cache_key
from ml_pipelines.pipeline.step import Step
from ml_pipelines.store.cache_miss import components_key, differences

STEP = Step(
    name="decide",
    parameters="ml_pipelines.pipeline.parameters:DecideParameters",
    compute="ml_pipelines.spec.metrics:metrics_of",
    modules=("ml_pipelines.pipeline.training",),
    packages=("pydantic",),
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
    asked: dict[str, Any] = {
        "parameters": {"test": 0.2},
        "inputs": {"table": ref("a")},
        "key_facts": {},
        "seed": 1,
    } | changed
    return cache_key(asked.pop("step", STEP), **asked)[0]


def test_the_components_say_everything_that_the_result_depends_on() -> None:
    made, found = cache_key(
        STEP, parameters={"test": 0.2}, inputs={"a": ref("a"), "b": (ref("b"), ref("c"))}, key_facts={"x": 1}, seed=7
    )
    assert made == components_key(found)
    assert found["step"] == "decide"
    assert found["parameters"] == {"test": 0.2}
    assert found["inputs"] == {"a": "a" * 64, "b": ["b" * 64, "c" * 64]}
    assert found["facts"] == {"x": 1}
    assert found["seed"] == 7
    assert isinstance(found["code"], dict)
    assert sorted(found["code"]) == ["ml_pipelines.pipeline.training", "ml_pipelines.spec.metrics"]
    assert isinstance(found["environment"], dict)
    assert found["environment"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert sorted(found["environment"]) == ["pydantic", "python"]


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
        {"step": Step(name="other", parameters=STEP.parameters, compute=STEP.compute, modules=STEP.modules)},
        {"step": Step(name="decide", parameters=STEP.parameters, compute=STEP.compute, packages=STEP.packages)},
        {"step": Step(name="decide", parameters=STEP.parameters, compute=STEP.compute, modules=STEP.modules)},
    ],
)
def test_every_change_changes_the_key(changed: dict[str, Any]) -> None:
    assert key(**changed) != key()


def test_where_an_artifact_is_does_not_change_the_key() -> None:
    assert key(inputs={"table": ref("a", "s3://elsewhere/b")}) == key()


def test_a_step_that_computes_nothing_has_a_key() -> None:
    step = Step(name="register", parameters="x:y", publish="ml_pipelines.spec.metrics:metrics_of")
    _, found = cache_key(step, parameters={}, inputs={}, key_facts={}, seed=1)
    assert found["code"] == {}


@given(components, components)
def test_equal_components_and_equal_keys_are_the_same(first: dict[str, Any], second: dict[str, Any]) -> None:
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
def test_recipes_of_different_keys_have_a_difference_and_others_none(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert bool(differences(first, second)) == (components_key(first) != components_key(second))


def test_line_endings_do_not_change_the_key_but_the_code_does(tmp_path: Path) -> None:
    found = []
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
        found.append(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    unix, dos, other = found
    assert unix == dos != other


def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it() -> None:
    step = Step(name="s", parameters="", compute="ml_pipelines.spec.metrics:f", packages=("no-such-package",))
    with pytest.raises(MissingExtra) as error:
        key(step=step)
    assert str(error.value) == (
        "the package 'no-such-package' is not installed\n"
        "  expected: the packages that the step computes with\n"
        '  fix: install the extra that brings it: pip install "airflow-provider-ml-pipelines[ml]"'
    )


@pytest.mark.parametrize("module", ["ml_pipelines.no_such_module", "sys"])
def test_a_module_without_source_is_named(module: str) -> None:
    with pytest.raises(RequestError, match=f"the source of {module} can't be found") as error:
        key(step=Step(name="s", parameters="", compute=f"{module}:f"))
    assert error.value.fix == "install the package with its sources"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_not_json_is_no_part_of_a_key(value: Any) -> None:
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
def test_a_change_is_told_in_a_sentence(old: dict[str, Any], new: dict[str, Any], sentences: list[str]) -> None:
    assert differences(old, new) == sentences
