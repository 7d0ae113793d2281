from __future__ import annotations

import pickle

import pytest

from ml_pipelines import errors
from ml_pipelines.errors import PipelineError, SpecError, SpecIssue, StoreError, StoreUnavailable, TransientError

KINDS = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type) and kind is not SpecIssue]
ISSUE = SpecIssue(file="a.yaml", line=2, column=3, path="data.key", message="expected text, got 5", hint="quote it")


def test_error_text_has_one_line_per_fact() -> None:
    error = PipelineError("no rows", where="a.csv:1", expected="rows", got="none", fix="deliver them")
    assert str(error) == "no rows\n  where: a.csv:1\n  expected: rows\n  got: none\n  fix: deliver them"
    assert str(PipelineError("no rows", fix="deliver them")) == "no rows\n  fix: deliver them"


def test_error_text_shows_invisible_characters() -> None:
    error = SpecError("no \x1b[31m", issues=(ISSUE,), got="a\u202eb\x00")
    assert str(error).startswith("no \\x1b[31m\n  got: a\\u202eb\\x00\n\na.yaml:2:3")
    assert error.summary == "no \\x1b[31m (got a\\u202eb\\x00)"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_survives_pickling(kind: type[PipelineError]) -> None:
    error = kind("no rows", where="a.csv", fix="deliver them")
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), there.fix) == (kind, str(error), "deliver them")
    assert isinstance(there, PipelineError)


def test_every_error_is_in_the_documented_tree() -> None:
    assert errors.__doc__
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in errors.__doc__] == []


def test_transient_errors() -> None:
    transient = {kind.__name__ for kind in KINDS if issubclass(kind, TransientError)}
    assert transient == {"TransientError", "StoreUnavailable", "ServiceUnavailable"}
    assert issubclass(StoreUnavailable, StoreError)


def test_spec_error_lists_its_issues_and_counts_the_rest() -> None:
    error = SpecError("2 issues in a.yaml", issues=(ISSUE, ISSUE))
    text = "a.yaml:2:3: data.key\n  expected text, got 5\n  quote it"
    assert str(error) == f"2 issues in a.yaml\n\n{text}\n\n{text}"
    assert pickle.loads(pickle.dumps(error)).issues == (ISSUE, ISSUE)
    assert str(SpecError("many", issues=(ISSUE,) * 53)).endswith("\n\n... and 3 more")
