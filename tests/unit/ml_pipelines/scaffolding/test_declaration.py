from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.scaffolding.declaration import write_yaml
from ml_pipelines.spec.yaml_source import read

# The loader refuses null characters and halves of surrogate pairs.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    ["yes", "null", "~", "1", "1e3", "0x1F", "true", "<<", "=", "- a", "a: b", "a #b", "{a}", 'it\'s "q"', "größe", ""]
)
SCALARS = TEXTS | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
SECTIONS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4)


@given(data=SECTIONS, comment=TEXTS)
def test_text_declares_the_data(data: dict[str, Any], comment: str) -> None:
    comments = {(name,): comment for name in data}
    comments |= {(name, key): comment for name, value in data.items() if isinstance(value, dict) for key in value}
    document = read(write_yaml(data, comments, header=comment))
    assert document.data == data
    assert document.issues == []


@given(names=st.lists(TEXTS, min_size=1, unique=True), reason=TEXTS)
def test_a_list_has_a_reason_behind_each_item(names: list[str], reason: str) -> None:
    data = {"data": {"ignore": names, "columns": {name: {"type": "float"} for name in names}}}
    text = write_yaml(data, {("data", "ignore", name): f"why {reason}" for name in names}, header="")
    assert read(text).data == data
    assert text.count("# why") == len(names)


def test_sections_are_commented_above_and_keys_behind() -> None:
    data = {"gate": {"metric": "f1"}, "checks": {"rows": {"min": 5}}}
    comments = {("gate",): "two\nlines", ("gate", "metric"): "reason", ("checks", "rows"): "few\nrows"}
    assert write_yaml(data, comments, header="file") == (
        "# file\n\n# two\n# lines\ngate:\n  metric: f1  # reason\n\nchecks:\n  rows: {min: 5}  # few\\nrows\n"
    )
