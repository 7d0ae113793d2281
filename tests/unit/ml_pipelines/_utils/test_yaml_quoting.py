from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines._utils.yaml_quoting import quote_yaml


@given(
    st.text()
    | st.sampled_from(["no", "Yes", "null", "1e3", "a: b", "[", "'", "~", "=", "*x", " a ", "\x85\u2028\ufeff"])
)
def test_quote_yaml_is_read_as_the_same_text(text):
    assert yaml.safe_load(f"data: {{ignore: [{quote_yaml(text)}]}}") == {"data": {"ignore": [text]}}


def test_quote_yaml_keeps_a_plain_name():
    assert quote_yaml("day_minutes") == "day_minutes"
