from __future__ import annotations

import pytest

from ml_pipelines import errors
from ml_pipelines._utils.error_json import Failure, parse_result
from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import DataError, PipelineError

KINDS = [
    kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, PipelineError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_in_another_process(kind: type[PipelineError]) -> None:
    error = kind("it is wrong", where="here", expected="a", got="b", fix="mend it")
    with pytest.raises(PipelineError) as again:
        parse_result(Failure.from_error(error).model_dump_json().encode())
    assert type(again.value) is kind
    assert str(again.value) == str(error)


@pytest.mark.parametrize("name", ["NewError", "SpecIssue", "annotations"])
def test_an_error_of_another_version_is_still_one_of_ours(name: str) -> None:
    document = Failure.from_error(DataError("it is wrong", fix="mend it")).model_copy(update={"error": name})
    assert type(document.to_error()) is PipelineError
    assert str(document.to_error()) == "it is wrong\n  fix: mend it"


def test_a_result_is_a_result() -> None:
    result = StepResult(step="train", key="0" * 64, status="computed", reason="miss: first time", values={"auc": 0.9})
    assert parse_result(result.model_dump_json().encode()) == result


@pytest.mark.parametrize("document", [b"", b"half {", b"{}", b'{"error": 1}', b'"error"'])
def test_something_else_is_neither(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_result(document)
