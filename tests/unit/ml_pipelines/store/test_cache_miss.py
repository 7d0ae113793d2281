from __future__ import annotations

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.store.cache_miss import differences


def test_differences_name_file_and_function_of_user_code() -> None:
    old = {"user_code": {"shop/features.py": {"ratio": "1", "half": "1"}}}
    new = {"user_code": {"shop/features.py": {"ratio": "1", "half": "2"}, "shop/new.py": {"f": "1"}}}
    assert differences(old, new) == ["shop/features.py changed in half", "shop/new.py changed"]


def test_differences_name_first_and_last_user_code() -> None:
    some: Components = {"user_code": {"shop/features.py": {"ratio": "1"}}}
    none: Components = {"user_code": {}}
    assert differences(none, some) == ["shop/features.py changed"]
    assert differences(some, none) == ["shop/features.py changed"]
