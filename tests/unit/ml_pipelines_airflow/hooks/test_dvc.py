from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ml_pipelines_airflow.hooks.dvc import DvcHook


@pytest.mark.parametrize(
    ("fields", "repo"),
    [
        ({"host": "https://git/data.git"}, "https://git/data.git"),
        ({"host": "https://git/data.git", "login": "m e", "password": "s/3"}, "https://m%20e:s%2F3@git/data.git"),
        ({"host": "https://git/data.git", "password": "t0ken"}, "https://token:t0ken@git/data.git"),
        ({"host": "https://you:pw@git/data.git", "password": "t0ken"}, "https://you:pw@git/data.git"),
        ({"host": "git", "schema": "team/data.git", "login": "u", "password": "p"}, "https://u:p@git/team/data.git"),
        ({"host": "ssh://git/data.git", "login": "git", "password": "p"}, "ssh://git@git/data.git"),
        ({"host": "git@git:data.git", "login": "git", "password": "p"}, "git@git:data.git"),
        ({"host": "/srv/data", "login": "me", "password": "p"}, "/srv/data"),
        ({"host": "file:///srv/data", "login": "me", "password": "p"}, "file:///srv/data"),
    ],
)
def test_what_a_pipeline_is_given(define: Callable[..., None], fields: dict[str, Any], repo: str) -> None:
    define("dvc_default", **fields)
    assert json.loads(DvcHook().connection_text()) == {"repo": repo, "remote": None, "remote_config": {}}


@pytest.mark.parametrize("config", [{"user": "me"}, '{"user": "me"}'], ids=["from JSON", "from the form"])
def test_settings_of_the_remote(define: Callable[..., None], config: object) -> None:
    define("dvc_team", host="/srv/data", extra={"remote": "r", "remote_config": config})
    text = DvcHook("dvc_team").connection_text()
    assert json.loads(text) == {"repo": "/srv/data", "remote": "r", "remote_config": {"user": "me"}}
