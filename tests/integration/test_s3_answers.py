"""Malformed and failed answers of an S3 server end in an error of this package, and never mean "missing".

The server of these tests is a small S3 in memory. It replaces answers at random: other statuses, pages of a proxy,
missing or malformed fields, and bodies that are cut off. `ML_PIPELINES_FUZZ_INPUTS` sets the number of inputs.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import re
import socketserver
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from s3fs import S3FileSystem

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import Identity, StepResult
from ml_pipelines.errors import ArtifactMissing, PipelineError, StoreUnavailable
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key
from ml_pipelines.store.filesystems.s3 import BucketFileSystem
from ml_pipelines.store.retention import prune

pytestmark = pytest.mark.timeout(3000)

INPUTS = int(os.environ.get("ML_PIPELINES_FUZZ_INPUTS", "0"))
SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
STATUSES = (301, 302, 307, 400, 403, 404, 409, 412, 429, 500, 502, 503, 504)
CODES = (
    "NoSuchKey", "NoSuchBucket", "AccessDenied", "SlowDown", "InternalError", "PreconditionFailed", "RequestTimeout",
    "PermanentRedirect", "TemporaryRedirect", "NotImplemented", "x", "", "404", SECRET,
)  # fmt: skip
DATES = (
    "", "garbage", "2026-13-45T99:99:99Z", "Thu, 99 Foo 2026 00:00:00 GMT", "0", "-1", "1e999", "nan", "12",
    "2026-01-01T00:00:00", "9" * 300, "0000-00-00", "2026-01-01T00:00:00+99:00", "\xff", "1969-12-31T00:00:00Z",
)  # fmt: skip
LENGTHS = ("", "-1", "x", "1e3", "99999999999999999999999", "7, 8", "0x10", " ")
PAGES = (
    b"", b"<html><body>login</body></html>", b"<html><body>login<br></html>", b"{}", b"null", b"<a/>", b"\xff\xfe\x00",
    b"<?xml version='1.0'?>", b"<ListBucketResult/>", b"<ListBucketResult><IsTruncated>false</IsTruncated>",
    b"<Error><Code>InternalError</Code></Error>", b"<Error/>", b"<!DOCTYPE html><html><head/></html>",
)  # fmt: skip
FOREIGN = (
    "", "notes.txt", "a/b", "churn/readme.md", "a/b/c/d/e/f.json", "%", "%/", "\u202e", "a b+c&d<e>", ".json", "/",
)  # fmt: skip
CLOSED = (b"", b"HTTP/1.1 \r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 200 x\r\nA", b"\0" * 99)


@dataclass
class World:
    """The objects of one input, and the faults of its answers."""

    seed: int
    rate: float = 0.0
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)
    faults: int = 0


WORLDS: dict[str, World] = {}


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def error_body(rng: random.Random, status: int) -> tuple[bytes, str]:
    """A body of an error, and its code."""
    if rng.random() < 0.5:
        return rng.choice(PAGES), ""
    code = "NoSuchKey" if status == 404 and rng.random() < 0.5 else rng.choice(CODES)
    text = rng.choice(("no", "\x1b[31m", f"the secret {SECRET} is wrong", "x" * 5000))
    return f"<Error><Code>{code}</Code><Message>{escape(text, {chr(27): ''})}</Message></Error>".encode(), code


def page(world: World, query: dict[str, str]) -> bytes:
    """A page of a listing, as S3 writes it."""
    prefix = query.get("prefix", "")
    keys = sorted(key for key in world.objects if key.startswith(prefix) and key > query.get("continuation-token", ""))
    size = 1 + world.seed % 4 if world.seed % 3 == 0 else 1000
    rows = "".join(
        f"<Contents><Key>{quote(key)}</Key><LastModified>{when:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
        f"<ETag>&quot;a&quot;</ETag><Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys[:size]
        for data, when in (world.objects[key],)
    )
    cut = len(keys) > size
    token = f"<NextContinuationToken>{escape(keys[size - 1])}</NextContinuationToken>" if cut else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"<Prefix>{quote(prefix)}</Prefix><KeyCount>{len(keys[:size])}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{str(cut).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
    ).encode()


def right(world: World, method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
    """The answer of S3."""
    now = datetime.now(UTC).replace(microsecond=0)
    tag = {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'}
    if method == "GET" and "list-type" in query:
        return Answer(body=page(world, query))
    if method == "PUT" and "x-amz-copy-source" in headers:
        source = unquote(headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        if source in world.objects:
            world.objects[key] = (world.objects[source][0], now)
            return Answer(body=b"<CopyObjectResult><ETag>&quot;a&quot;</ETag></CopyObjectResult>")
    elif method == "PUT":
        if headers.get("if-none-match") == "*" and key in world.objects:
            return Answer(412, body=b"<Error><Code>PreconditionFailed</Code></Error>")
        world.objects[key] = (body, now)
        return Answer(headers=tag)
    elif method == "DELETE":
        world.objects.pop(key, None)
        return Answer(204)
    elif key in world.objects:
        data, when = world.objects[key]
        return Answer(200, {"Last-Modified": format_datetime(when, usegmt=True), "ETag": '"a"'}, data)
    return Answer(404, body=b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")


def broken_listing(world: World, body: bytes, rng: random.Random) -> bytes:
    text = body.decode()
    match rng.randrange(8):
        case 0:
            tag = rng.choice(("Key", "Size", "LastModified", "IsTruncated", "KeyCount", "Prefix", "Contents"))
            changed = re.sub(rf"<{tag}>.*?</{tag}>", "", text, count=rng.choice((0, 1)))
            if tag in ("KeyCount", "Prefix"):
                world.lies.append("a listing without an optional field")
            return changed.encode()
        case 1:
            return re.sub("(?<=<LastModified>).*?(?=</)", escape(rng.choice(DATES[:-2])), text, count=1).encode()
        case 2:
            return re.sub("(?<=<Size>).*?(?=</)", rng.choice((*LENGTHS[:4], "-7")), text, count=1).encode()
        case 3:
            return text.replace("<IsTruncated>false", "<IsTruncated>true").encode()
        case 4:
            token = "<NextContinuationToken>t</NextContinuationToken>"
            return text.replace("<IsTruncated>false</IsTruncated>", f"<IsTruncated>true</IsTruncated>{token}").encode()
        case 5:
            return re.sub("(?<=<Key>)", rng.choice(("..%2F", "x/", "%ff", "/")), text, count=1).encode()
        case 6:
            return body[: rng.randrange(len(body))]
        case _:
            world.lies.append("a listing with changed bytes")
            data = bytearray(body)
            for _ in range(rng.choice((1, 3, 20))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)


def send(wire: Any, answer: Answer, *, head: bool, length: str | None = None, cut: int | None = None) -> None:
    headers = {"Content-Length": str(len(answer.body)) if length is None else length, **answer.headers}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    wire.write(
        "\r\n".join([f"HTTP/1.1 {answer.status} x", *lines, "", ""]).encode("latin-1")
        + (b"" if head else answer.body[:cut])
    )


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode("latin-1").split(" ")
            lines = [text.decode("latin-1").partition(":") for text in iter(self.rfile.readline, b"\r\n")]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            if headers.get("expect"):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.rfile.read(int(headers.get("content-length", 0)))
            if not self.respond(method, target, headers, body):
                return

    def respond(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bool:
        """Answer a request. Return whether the connection stays open."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        world = WORLDS[bucket]
        place = f"{method} {parts.path}?{parts.query}"
        world.requests[place] += 1
        rng = random.Random(f"{world.seed} {place} {world.requests[place]}")
        head, listing = method == "HEAD", "list-type" in query
        if rng.random() >= world.rate:
            send(self.wfile, right(world, method, key, query, headers, body), head=head)
            return True
        world.faults += 1
        return self.fault(world, rng, lambda: right(world, method, key, query, headers, body), head, listing)

    def fault(
        self, world: World, rng: random.Random, answer_of: Callable[[], Answer], head: bool, listing: bool
    ) -> bool:
        kind = rng.randrange(9)
        if kind <= 2:  # a request that fails
            status = rng.choice(STATUSES)
            content, code = error_body(rng, status)
            if status == 404 and (head or code.startswith("NoSuch")):
                world.lies.append("missing")
            if status == 412 or (status == 409 and code == "PreconditionFailed"):
                world.lies.append("exists")
            extra = {"Location": rng.choice(("/", "http://127.0.0.1:9/", "", "x"))} if status < 400 else {}
            region = {"x-amz-bucket-region": rng.choice(("eu-west-1", "", "x y"))} if rng.random() < 0.3 else {}
            send(self.wfile, Answer(status, extra | region, content), head=head)
            return True
        if kind == 3:  # a proxy answers
            send(self.wfile, Answer(rng.choice((200, 200, 201, 202, 204, 206, 300)), {}, rng.choice(PAGES)), head=head)
            return False
        if kind == 4:
            self.wfile.write(rng.choice(CLOSED))
            return False
        answer = answer_of()
        if kind == 5 and listing and answer.status == 200:
            answer.body = broken_listing(world, answer.body, rng)
        elif kind == 6:  # cut off
            more = rng.choice((0, 1, 100))
            if head and more:
                world.lies.append("another size")
            cut = rng.randrange(len(answer.body) + 1)
            send(self.wfile, answer, head=head, length=str(len(answer.body) + more), cut=cut)
            return False
        elif kind == 7:
            send(self.wfile, answer, head=head, length=rng.choice(LENGTHS))
            return False
        elif name := rng.choice([*answer.headers, ""]):
            value = rng.choice(("", *DATES)) if name == "Last-Modified" else ""
            answer.headers = {**answer.headers, name: value}
        send(self.wfile, answer, head=head)
        return True


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client closes connections after malformed answers."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        for name, value in {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        sleep = asyncio.sleep
        patch.setattr(asyncio, "sleep", lambda seconds, *args: sleep(seconds / 1000, *args))  # pauses before retries
        patch.setattr(S3FileSystem, "retries", 2)
        S3FileSystem.clear_instance_cache()
        yield address
        server.shutdown()
    S3FileSystem.clear_instance_cache()


STEP = "split"
COMPONENTS: Components = {"step": STEP, "seed": 1}
KEY = components_key(COMPONENTS)
TASK = Identity(pipeline="shop", run_id="r1", task_id=STEP)


def filled(number: int) -> tuple[World, ArtifactStore, StepResult]:
    """A store with a result, a record and files of other programs."""
    bucket = f"b{number}"
    world = WORLDS[bucket] = World(number)
    rng = random.Random(number)
    store = ArtifactStore(f"s3://{bucket}/store")
    ref = store.put_bytes(b"rows" * rng.randrange(1, 400), kind="table", rows=3)
    result = StepResult(step=STEP, key=KEY, status="computed", reason="", outputs={"train": ref}, values={"n": 3})
    store.commit(STEP, KEY, result, COMPONENTS)
    store.record(TASK, result)
    for name in rng.sample(FOREIGN, rng.randrange(4)):
        folder = rng.choice(("runs", "objects", "manifests", "runs/shop", "leases", "run_states", "pending"))
        world.objects[f"store/{folder}/{name}"] = (b"foreign", datetime.now(UTC))
    if rng.random() < 0.3:
        old = datetime.now(UTC) - timedelta(days=20)
        world.objects = {key: (data, old) for key, (data, _) in world.objects.items()}
    return world, store, result


def check_error(error: PipelineError, bucket: str) -> None:
    assert f"s3://{bucket}/" in error.where, f"no address: {error}"
    assert error.fix, f"no fix: {error}"
    assert error.got or error.expected, f"neither expected nor got: {error}"
    text = "".join(traceback.format_exception(error))
    assert SECRET not in text, text


def operations(
    store: ArtifactStore, world: World, result: StepResult, folder: Path
) -> tuple[Callable[[], tuple[object, object]], ...]:
    """Calls that return their result and the right result."""
    files, (ref,) = store.files, result.outputs.values()
    data = world.objects[f"store/{ref.uri.removeprefix(store.uri + '/')}"][0]
    name, absent = ref.uri.removeprefix(f"{store.uri}/"), "runs/none.json"

    def moved() -> tuple[object, object]:
        path = folder / "new.json"
        path.write_bytes(b"moved in")
        try:
            files.move_in(str(path), "objects/new.json")
        except StoreUnavailable:
            assert path.read_bytes() == b"moved in", "the local file is lost"
            raise
        return world.objects.get("store/objects/new.json", (None,))[0], b"moved in"

    def written() -> tuple[object, object]:
        files.write("runs/x.json", b"written")
        return world.objects.get("store/runs/x.json", (None,))[0], b"written"

    def created(target: str) -> tuple[object, object]:
        before = f"store/{target}" in world.objects
        done = files.create(target, b"created")
        # The client sends a put again after a malformed answer, and S3 then answers that the object exists.
        again = not done and world.objects.get(f"store/{target}", (b"",))[0] == b"created"
        return done or again, not before

    def names(folder: str) -> tuple[object, object]:
        right = sorted(key.removeprefix("store/") for key in world.objects if key.startswith(f"store/{folder}/"))
        return sorted(entry.name for entry in files.entries(folder)), right

    def copied() -> tuple[object, object]:
        return Path(store.local_path(ref, str(folder))).read_bytes(), data

    def kept() -> tuple[object, object]:
        before = set(world.objects)
        prune(store, keep_days=30)
        return set(world.objects), before

    def hit() -> tuple[object, object]:
        manifest = store.lookup(STEP, KEY)
        return manifest and manifest.outputs, result.outputs

    def size(target: str, expected: int | None) -> tuple[object, object]:
        entry = files.stat(target)
        return entry and entry.bytes, expected

    return (
        lambda: (files.read(name), data),
        lambda: (files.read(absent), None),
        lambda: (store.read(ref), data),
        partial(size, name, len(data)),
        partial(size, absent, None),
        partial(names, "runs"),
        partial(names, "objects"),
        copied, hit, written, moved, kept, kept,
        partial(created, "leases/a.json"),
        partial(created, name),
        lambda: (files.touch(name), None),
        lambda: (files.delete(absent), None),
        lambda: (store.runs("shop"), ["r1"]),
        lambda: (store.pipelines("r1"), ["shop"]),
        lambda: ([record.identity for record in store.run("shop", "r1")], [TASK]),
        lambda: (
            store.explain_miss(STEP, {**COMPONENTS, "seed": 2}, TASK),
            "miss: seed changed from 1 to 2",
        ),
        lambda: (BucketFileSystem(store.uri).stat("runs"), None),
    )  # fmt: skip


def attempt(number: int, folder: Path) -> tuple[str, bool]:
    """Run one call with malformed answers. Return its outcome, and whether an answer was replaced."""
    world, store, result = filled(number)
    folder = folder / str(number)
    folder.mkdir()
    calls = operations(store, world, result, folder)
    before = dict(world.objects)
    world.rate = (0.3, 0.6, 1.0)[number % 3]
    call = calls[number % len(calls)]
    try:
        actual, expected = call()
    except PipelineError as caught:
        error, outcome = caught, type(caught).__name__
    else:
        error, outcome = None, "right" if actual == expected else "lied to"
        assert actual == expected or world.lies, f"{actual!r:.200} instead of {expected!r:.200}"
    if error:
        assert world.faults, f"an error without a malformed answer: {error}"
        assert world.lies or not isinstance(error, ArtifactMissing), "a failed request reads as missing"
        check_error(error, f"b{number}")
    if not world.lies:
        lost = [key for key, (data, _) in before.items() if world.objects.get(key, (None,))[0] != data]
        assert not lost, f"lost: {lost}"
    del WORLDS[f"b{number}"]
    return outcome, bool(world.faults)


def test_no_answer_of_s3_is_a_bare_exception_or_reads_as_missing(server: str, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    numbers = range(INPUTS or 1000)

    def one(number: int) -> None:
        try:
            outcome, replaced = attempt(number, tmp_path)
        except BaseException as error:
            raise AssertionError(f"input {number}") from error
        outcomes[outcome] += 1
        outcomes["replaced"] += replaced

    with ThreadPoolExecutor(4) as pool:
        failures = [error for error in pool.map(lambda number: caught(one, number), numbers) if error]
    summary = Counter(str(failure.__cause__).splitlines()[0][:150] for failure in failures)
    for failure in itertools.islice(failures, 1):
        names = ", ".join(map(str, failures[:20]))
        raise AssertionError(f"{len(failures)} inputs: {dict(summary)}; {names}") from failure.__cause__
    assert outcomes["replaced"] > len(numbers) / 2, outcomes
    assert outcomes["StoreUnavailable"] > len(numbers) / 5, outcomes


def caught(call: Callable[[int], None], number: int) -> AssertionError | None:
    try:
        call(number)
    except AssertionError as error:
        return error
    return None


def test_a_redirect_is_not_followed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page behind a redirect of a proxy is not the object."""
    world, store, _ = filled(-1)
    name = next(key for key in world.objects if key.startswith("store/manifests/")).removeprefix("store/")

    def redirect(*_: object) -> Answer:
        return Answer(302, {"Location": f"{server}/b-1/store/runs/shop/r1/split/split.json"})

    monkeypatch.setitem(globals(), "right", redirect)
    with pytest.raises(StoreUnavailable):
        store.files.read(name)
