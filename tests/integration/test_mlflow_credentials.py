from __future__ import annotations

import os
import threading
from collections.abc import Mapping

import pytest

from ml_pipelines.adapters.mlflow.credentials import mlflow_environment, split_tracking_uri

USER, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
INSECURE, TRUSTED = "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"


def there() -> dict[str, str]:
    return {name: os.environ[name] for name in (USER, PASSWORD, TOKEN, INSECURE, TRUSTED) if name in os.environ}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USER, PASSWORD, TOKEN, INSECURE, TRUSTED):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://mlflow:5000", ("http://mlflow:5000", {})),
        ("https://me:a%2Fb@mlflow/x?y=1", ("https://mlflow/x?y=1", {USER: "me", PASSWORD: "a/b"})),
        ("http://me@mlflow", ("http://mlflow", {USER: "me", PASSWORD: ""})),
        ("postgresql://me:pw@db/mlflow", ("postgresql://me:pw@db/mlflow", {})),
        ("sqlite:////data/a@b.db", ("sqlite:////data/a@b.db", {})),
    ],
)
def test_an_address_and_who_one_is_there(uri: str, expected: tuple[str, dict[str, str]]) -> None:
    assert split_tracking_uri(uri) == expected


def test_variables_are_there_only_within() -> None:
    with mlflow_environment({TOKEN: "t"}), mlflow_environment({TOKEN: "t"}):
        assert there() == {TOKEN: "t"}
    assert there() == {}
    with pytest.raises(KeyError), mlflow_environment({TOKEN: "t"}):
        raise KeyError
    assert there() == {}


def test_those_of_the_process_are_replaced_by_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {USER: "you", PASSWORD: "0ther", INSECURE: "true"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with mlflow_environment({}):
        assert there() == own
    with mlflow_environment({TOKEN: "t"}):
        assert there() == {TOKEN: "t", INSECURE: "true"}
    with mlflow_environment({TRUSTED: "/ca.pem"}):
        assert there() == {USER: "you", PASSWORD: "0ther", TRUSTED: "/ca.pem"}
    assert there() == own


@pytest.mark.parametrize("second", [{TOKEN: "b"}, {}], ids=["another", "none"])
def test_threads_with_other_credentials_take_turns(second: Mapping[str, str]) -> None:
    inside, leave, seen = threading.Event(), threading.Event(), []

    def first() -> None:
        with mlflow_environment({TOKEN: "a"}):
            inside.set()
            leave.wait(30)
            seen.append(there())

    def other() -> None:
        with mlflow_environment(second):
            seen.append(there())

    one, two = threading.Thread(target=first), threading.Thread(target=other)
    one.start()
    assert inside.wait(30)
    two.start()
    with mlflow_environment({TOKEN: "a"}):  # the same ones need not wait
        assert there() == {TOKEN: "a"}
    two.join(0.2)
    assert two.is_alive()
    leave.set()
    one.join(30)
    two.join(30)
    assert seen == [{TOKEN: "a"}, dict(second)]
    assert there() == {}
