from __future__ import annotations

import re
import string
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_pipelines._utils.addresses import Address, redact, redact_address, replace_secret


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://user:pass@host/a.csv?sig=abc", "https://host/a.csv"),
        ("HTTPS://host/a.csv?X-Amz-Signature=abc#part", "HTTPS://host/a.csv"),
        ("http://me:pa@ss@host:5000/x?y=1", "http://host:5000/x"),
        ("https://me:pa/ss@host/x", "https://host/x"),
        ("https://me:pa?ss@host/x", "https://host/x"),
        ("https://tok/en@host/x", "https://host/x"),
        ("https://cdn.jsdelivr.net/npm/vega-datasets@2/data/cars.csv",) * 2,
        ("postgresql+psycopg2://me:secret@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("mysql://db/mlflow?user=me&password=secret&ssl=1", "mysql://db/mlflow"),
        ("postgresql://${USER}:${PASSWORD}@${HOST}:${PORT}/db", "postgresql://${HOST}:${PORT}/db"),
        ("${ML_DATA_URL:-https://me:secret@host/x.csv}", "${ML_DATA_URL:-https://host/x.csv}"),
        ("s3://key:se/cret@bucket/a.csv", "s3://bucket/a.csv"),
        ("s3://bucket/a.csv?versionId=1", "s3://bucket/a.csv"),
        ("ssh://me:secret@host:22/x.git", "ssh://host:22/x.git"),
        ("me:secret@host:team/x.git", "host:team/x.git"),
        ("git@github.com:org/data.git",) * 2,
        ("simplecache::https://me:secret@host/a.csv?sig=x", "simplecache::https://host/a.csv"),
        ("zip://a.csv::https://me:secret@host/a.zip", "zip://a.csv::https://host/a.zip"),
        ("sqlite:////srv/a@b/mlflow.db",) * 2,
        ("file:///srv/a@b/#1.csv",) * 2,
        ("/data/a@b.csv",) * 2,
        ("data/a.csv",) * 2,
    ],
)
def test_redact_address_keeps_what_identifies_the_address(address: str, expected: str) -> None:
    assert redact_address(address) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fatal: 'https://token@host/x' not found", "fatal: 'https://host/x' not found"),
        ("fatal: 'https://host/x?token=abc' not found", "fatal: 'https://host/x' not found"),
        ("Max retries exceeded with url: /x.csv?X-Amz-Signature=abc (refused)", "url: /x.csv (refused)"),
        (
            'connection to "host=db user=me password=secret" failed',
            'connection to "host=db user=me password=***" failed',
        ),
        ("{'Authorization': 'Basic bWU6cHc='}", "{'Authorization': '***'}"),
        ("me:secret@host:x.git: permission denied", "host:x.git: permission denied"),
        ("mail to me@example.com at 12:30", "mail to me@example.com at 12:30"),
        ("git@github.com:org/data.git: no", "git@github.com:org/data.git: no"),
    ],
)
def test_redact_removes_secrets_from_a_message(text: str, expected: str) -> None:
    assert redact(text).endswith(expected)


@pytest.mark.parametrize(
    ("text", "user", "password", "server", "encoded"),
    [
        ("HTTP://me:pa@ss@host:5/x", "me", "pa@ss", "host:5", "http://me:pa%40ss@host:5/x"),
        ("http://me:p%2Fs@host/x", "me", "p/s", "host", "http://me:p%2Fs@host/x"),
        ("https://token@host/x?y", "token", None, "host", "https://token@host/x?y"),
        ("https://host/x", None, None, "host", "https://host/x"),
        ("https://:pw@host", "", "pw", "host", "https://:pw@host"),
        ("sqlite:///a@b.db", None, None, "", "sqlite:///a@b.db"),
    ],
)
def test_parse_reads_credentials_up_to_the_last_at(
    text: str, user: str | None, password: str | None, server: str, encoded: str
) -> None:
    address = Address.parse(text)
    assert address is not None
    assert (address.user, address.password, address.server) == (user, password, server)
    assert address.encoded == encoded
    assert not address.is_ambiguous


@pytest.mark.parametrize("text", ["https://me:pa/ss@host/x", "https://to/ken@host", "pg://me:pa?s@h/d", "pg://me:pw/d"])
def test_address_whose_credentials_have_no_clear_end_is_ambiguous(text: str) -> None:
    address = Address.parse(text)
    assert address is not None
    assert address.is_ambiguous
    assert repr(address) == "Address(scheme='{}')".format(text.partition(":")[0])


@pytest.mark.parametrize("text", ["/data/a.csv", "git@host:x.git", "", "a://"[:2]])
def test_text_without_a_scheme_is_no_address(text: str) -> None:
    assert Address.parse(text) is None


# --- The law: no part of a secret is shown, wherever an address can have it ---

SECRETS = st.text(string.ascii_letters + string.digits + "@/:?#%+=&!$'\" <>[]~.,;|\\^`{}é", min_size=8, max_size=40)
SCHEMES = st.sampled_from(
    ["http", "https", "HTTPS", "postgresql", "mysql+pymysql", "POSTGRES", "s3", "ssh", "redis", "gs"]
)
POSITIONS = st.sampled_from(
    [
        "{scheme}://me:{secret}@host:5432/path/x.csv",
        "{scheme}://:{secret}@host/path/x.csv",
        "{scheme}://host/path/x.csv?X-Amz-Signature={secret}&X-Amz-Date=1",
        "{scheme}://host/path/x.csv?sv=1&sig={secret}",
        "{scheme}://host/path?user=me&password={secret}",
        "{scheme}://host/path#access_token={secret}",
        "simplecache::{scheme}://me:{secret}@host/path/x.csv",
        "me:{secret}@host:team/path.git",
    ]
)
WORDS = re.compile(r"\w{5,}")  # shorter ones are in many texts


def encodings(secret: str) -> list[str]:
    return [secret, quote(secret, safe=""), quote(secret)]


@settings(max_examples=1000, deadline=None)
@example(secret="::A0000::", scheme="http", position="{scheme}://host/path/x.csv?X-Amz-Signature={secret}", encoding=0)
@example(secret="::A0000::", scheme="https", position="{scheme}://me:{secret}@host:5432/path/x.csv", encoding=0)
@example(secret="postgresql", scheme="postgresql", position="{scheme}://me:{secret}@host:5432/path/x.csv", encoding=0)
@example(secret="https:/=", scheme="https", position="{scheme}://host/path/x.csv?sv=1&sig={secret}", encoding=0)
@given(secret=SECRETS, scheme=SCHEMES, position=POSITIONS, encoding=st.integers(0, 2))
def test_no_part_of_a_secret_is_shown(secret: str, scheme: str, position: str, encoding: int) -> None:
    written = encodings(secret)[encoding]
    address = position.format(scheme=scheme, secret=written)
    if "?" in position or "#access" in position:
        address = position.format(scheme=scheme, secret=written.replace("@", "%40"))
    others = position.format(scheme=scheme, secret="")  # a secret can equal the scheme
    parts = {part for text in encodings(secret) for part in WORDS.findall(text) if part not in others}
    shown = redact_address(address)
    assert not [part for part in parts if part in shown]
    for message in (f"no {address}", f"Cannot open {address!r}: refused", f'{{"url": "{address}"}}'):
        text = redact(message, address)
        assert not [part for part in {secret, written} if part in text]


@settings(max_examples=300, deadline=None)
@given(token=st.text(string.ascii_letters + string.digits + "/+=_-@", min_size=8, max_size=40), scheme=SCHEMES)
def test_no_part_of_a_token_is_shown(token: str, scheme: str) -> None:
    shown = redact_address(f"{scheme}://{token}@host/team/data.git")
    assert shown == f"{scheme}://host/team/data.git"


@settings(max_examples=300, deadline=None)
@given(secret=SECRETS)
def test_encoded_address_has_the_same_credentials(secret: str) -> None:
    address = Address("https", "me", secret, "host:5000", "/x")
    assert Address.parse(address.encoded) == address


def test_replace_secret_leaves_short_texts() -> None:
    assert replace_secret("a cat", "a", "***") == "a cat"
    assert replace_secret("the s%2Fcr t s/cr", "s/cr", "***") == "the *** t ***"
