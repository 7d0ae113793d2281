from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines._utils.canonical_json import canonical_json, dump_json, json_digest, load_json, sha256_hex

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(DOCUMENTS)
def test_document_survives_a_round_trip(document):
    assert load_json(dump_json(document)) == document


@given(DOCUMENTS)
def test_order_of_keys_does_not_change_the_digest(document):
    reordered = dict(reversed(document.items()))
    assert canonical_json(reordered) == canonical_json(document)
    assert json_digest(reordered) == json_digest(document)


def test_canonical_json_is_sorted_compact_ascii():
    assert canonical_json({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"\\u00e4","b":[1,2.5,null]}'


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": -math.inf}])
def test_canonical_json_refuses_numbers_that_are_not_finite(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_canonical_json_refuses_other_objects():
    with pytest.raises(TypeError):
        canonical_json({"a": object()})


def test_sha256_hex_takes_text_and_bytes():
    digest = hashlib.sha256("ä".encode()).hexdigest()
    assert (sha256_hex("ä"), sha256_hex("ä".encode())) == (digest, digest)
