"""Addresses of servers, databases, files and repositories: their credentials, and the form without secrets.

This is the only parser and the only redactor. An `@` in an address always counts as the end of its credentials, unless
it follows a plain host name. A message therefore rather lacks a part of a path than shows a part of a password.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

__all__ = ["Address", "redact", "redact_address", "replace_secret"]

_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://", re.ASCII)
_LOCAL_SCHEMES = frozenset({"file", "local", "memory", "sqlite"})
_WEB_SCHEMES = frozenset({"http", "https"})
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}")
_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?")
# `user@host:path` and `host:path`, as ssh and git take them. A drive letter is not a host.
_SSH = re.compile(r"(?:(.*)@)?([\w.-]{2,}):(?!//|\\)(.*)", re.DOTALL)
_USER = re.compile(r"[\w.-]+")
# The start of a chain such as `simplecache::https://...`: caches and files of archives, which have no credentials. In
# the rest of an address, `::` may be a part of a secret.
_CHAIN_START = re.compile(r"(?:[A-Za-z][\w+.-]*::|(?:zip|tar|file)://[^@?#:]*::)+(?=[A-Za-z][\w+.-]*://)")
# An address in the text of a message.
_IN_TEXT = re.compile(r"([A-Za-z][\w+.-]*)://((?:(?!::[A-Za-z][\w+.-]*://)[^\s'\"<>`])*)")
_USER_AND_PASSWORD = re.compile(r"(?<![\w/@.-])[^\s'\"/:@<>=(]+:(?!//)[^\s'\"@]+@(?=[\w.-])")
_QUERY = re.compile(r"(?<=[\w/.])\?[^\s'\"?]+=[^\s'\"]*")
_HEADER = re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|token)\s+)?[^\s'\",]+")
_SECRET_NAME = re.compile(r"(?i)pass|pwd|secret|token|sig|credential|key|auth")
_OPTION = re.compile(
    r"(?i)\b([\w-]*(?:password|passwd|pwd|secret|token|signature|credential|api_?key|access_?key)[\w-]*['\"]?\s*=\s*)"
    r"('[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)"
)
_SHORTEST_SECRET = 4
"""Characters. A shorter text is a part of many words."""
_SHORTEST_VALUE = 8
"""Characters of a query value whose name does not say that it is a secret."""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of `scheme://user:password@server/path?query`.

    Attributes:
        scheme: in lower case.
        user: decoded; None without credentials.
        password: decoded; None if there is only a user or token.
        server: host and port.
        rest: path, query and fragment, as written. A query can hold secrets.
    """

    scheme: str
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    server: str = field(repr=False)
    rest: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """Return the parts of an address; None for a path, and for an ssh location such as `git@host:team/data.git`."""
        match = _SCHEME.match(text)
        if match is None:
            return None
        server, rest = _split_server(text[match.end() :])
        user_info, at, server = server.rpartition("@")
        user, colon, password = user_info.partition(":")
        return cls(
            scheme=match[1].lower(),
            user=unquote(user) if at else None,
            password=unquote(password) if colon else None,
            server=server,
            rest=rest,
        )

    @property
    def is_ambiguous(self) -> bool:
        """Whether a reader can't know where the credentials end: there is an `@` after the server, or no port."""
        if self.scheme.partition("+")[0] in _LOCAL_SCHEMES and not self.server:
            return False
        return "@" in self.rest or _PORT.fullmatch(self.server) is None

    @property
    def without_credentials(self) -> str:
        """The address without user and password, for a client that gets them in another way."""
        return f"{self.scheme}://{self.server}{self.rest}"

    @property
    def encoded(self) -> str:
        """The address with special characters of user and password as %XX, so that each client reads it alike."""
        if self.user is None:
            return self.without_credentials
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{self.scheme}://{quote(self.user, safe='')}{password}@{self.server}{self.rest}"


def redact_address(address: str) -> str:
    """Return an address without user, password, query and fragment; a path is returned unchanged."""
    chain = _CHAIN_START.match(address)
    start = chain.end() if chain else 0
    return address[:start] + _redact_target(address[start:])


def _redact_target(address: str) -> str:
    if match := _SCHEME.match(address):
        return f"{match[1]}://{_without_secrets(match[1].lower(), address[match.end() :])}"
    if match := _SSH.fullmatch(address):
        user, server, path = match.groups()
        if user is None:
            return address.rpartition("@")[2]
        return address if _USER.fullmatch(user) else f"{server}:{path}"
    return redact(address) if "://" in address or address.startswith("${") else address


def redact(text: str, *addresses: str) -> str:
    """Return a text without the secrets of addresses.

    Users and passwords, queries of addresses, secret options and authorization headers are removed wherever they are.

    Args:
        text: a message of any library.
        addresses: addresses whose secrets the text can have in any spelling and at any place.
    """
    for address in addresses:
        text = replace_secret(text, address, redact_address(address))
        for secret in _secrets(address):
            text = replace_secret(text, secret, "***")
    text = _IN_TEXT.sub(lambda match: f"{match[1]}://{_without_secrets(match[1].lower(), match[2])}", text)
    text = _USER_AND_PASSWORD.sub("", text)
    text = _QUERY.sub("", text)
    text = _HEADER.sub(r"\1***", text)
    return _OPTION.sub(r"\1***", text)


def replace_secret(text: str, secret: str, replacement: str) -> str:
    """Replace a secret in each of its spellings: encoded for URLs, in base64, and escaped for Python and JSON."""
    if len(secret) < _SHORTEST_SECRET or secret == replacement:
        return text
    for spelling in sorted(set(_spellings(secret)), key=len, reverse=True):
        text = text.replace(spelling, replacement)
    return text


def _split_server(tail: str) -> tuple[str, str]:
    end = next((index for index, character in enumerate(tail) if character in "/?#"), len(tail))
    return tail[:end], tail[end:]


def _ends_at_host(scheme: str, tail: str) -> bool:
    """Return whether an `@` can't end credentials, because a plain host name, or no server at all, comes before it."""
    server, rest = _split_server(tail)
    if scheme.partition("+")[0] in _LOCAL_SCHEMES and not server:
        return True
    return scheme in _WEB_SCHEMES and rest.startswith("/") and _HOST.fullmatch(server) is not None


def _without_secrets(scheme: str, tail: str) -> str:
    if not _ends_at_host(scheme, tail):
        tail = tail.rpartition("@")[2]
    elif scheme not in _WEB_SCHEMES:
        return re.sub(r"\?\w+=.*", "", tail, flags=re.DOTALL)
    tail = re.split("[?#]", tail, maxsplit=1)[0]
    server, rest = _split_server(tail)
    # A user and the start of a password whose end is not part of the text.
    return tail if _PORT.fullmatch(server) or "${" in server else f"***{rest}"


def _secrets(address: str) -> Iterator[str]:
    match = _SCHEME.match(address)
    tail = address[match.end() :] if match else address
    user_info, at, _ = tail.rpartition("@")
    if at and not (match and _ends_at_host(match[1].lower(), tail)):
        user, colon, password = user_info.partition(":")
        yield from (password, base64.b64encode(unquote(user_info).encode()).decode()) if colon else ()
        if match and match[1].lower() in _WEB_SCHEMES and not colon:
            yield user  # a token
        if any(character in user_info for character in "/?#"):
            # Clients take the parts for a host, a port or a path, such as `user:pass` of `user:pass/word` for a bucket.
            yield from re.split("[/?#@]", user_info)
            yield from re.split("[/?#@:]", user_info)
    for name, value in parse_qsl(tail.partition("?")[2], keep_blank_values=True):
        if len(value) >= _SHORTEST_VALUE or _SECRET_NAME.search(name):
            yield value


def _spellings(secret: str) -> Iterator[str]:
    for plain in {secret, unquote(secret), unquote_plus(secret)}:
        yield plain
        yield quote(plain)
        yield quote(plain, safe="")
        yield quote(plain, safe="!$&'()*+,;=:")  # as yarl does
        yield quote_plus(plain)
        yield repr(plain)[1:-1]
        yield json.dumps(plain)[1:-1]
        yield base64.b64encode(plain.encode(errors="replace")).decode()
