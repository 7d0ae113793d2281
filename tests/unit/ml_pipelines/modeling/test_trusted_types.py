from __future__ import annotations

import pytest

from ml_pipelines.errors import RequestError
from ml_pipelines.modeling.trusted_types import REVIEWED_TYPES, TYPES_VARIABLE, trusted_types


def test_trusted_types_are_those_reviewed_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TYPES_VARIABLE, raising=False)
    assert trusted_types() == REVIEWED_TYPES
    assert [*REVIEWED_TYPES] == sorted(REVIEWED_TYPES)


def test_trusted_types_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TYPES_VARIABLE, " xgboost.sklearn.XGBClassifier,a.b ,,numpy.dtype")
    assert trusted_types() == (*REVIEWED_TYPES, "xgboost.sklearn.XGBClassifier", "a.b")


@pytest.mark.parametrize("value", ["builtin", "a.b:c", "a..b", "os.path;x"])
def test_trusted_types_refuse_what_is_no_import_path(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TYPES_VARIABLE, value)
    with pytest.raises(RequestError) as caught:
        trusted_types()
    assert (caught.value.where, caught.value.got) == (TYPES_VARIABLE, value)
