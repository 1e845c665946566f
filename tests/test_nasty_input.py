"""Hostile input of every caller: never a 5xx, and a rejection always has the same shape."""

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from tests.conftest import make_key
from tests.databases import Urls, create_database, drop_database
from tests.servers import Server, running_server, running_stripe
from tests.support.invalid_requests import (
    CONTENT_TYPES,
    GETS,
    MIB,
    NASTY_PATHS,
    NASTY_QUERIES,
    NASTY_VALUES,
    PATHS,
    POSTS,
    USER,
    WEBHOOK,
    WHOLE_BODIES,
    Body,
)


@pytest.fixture(scope="module")
async def books(worker_id: str) -> AsyncIterator[Urls]:
    """A database for this table alone: its requests make the books worthless."""
    name = f"billing_nasty_{worker_id}"
    yield await create_database(name)
    await drop_database(name)


@pytest.fixture(scope="module")
async def key(books: Urls) -> str:
    db = Database(SecretStr(books.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    return key


@pytest.fixture(scope="module")
def server(books: Urls) -> Iterator[Server]:
    with running_stripe() as stripe, running_server(books, env=stripe.environment) as server:
        yield server


@pytest.fixture
async def client(server: Server, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=30) as client:
        yield client


def judge(answer: httpx.Response, what: object) -> None:
    """No 5xx; an error says what every error says."""
    assert answer.status_code < 500, (what, answer.status_code, answer.text[:500])
    request_id = answer.headers["X-Request-ID"]
    assert 0 < len(request_id) <= 128
    if answer.status_code < 400:
        return
    assert answer.headers["Content-Type"] == "application/json", what
    said = answer.json()
    assert {"detail", "code", "request_id"} <= set(said), (what, said)
    assert said["request_id"] == request_id
    assert said["code"].replace("_", "").islower(), said["code"]
    assert isinstance(said["detail"], list if said["code"] == "validation_error" else str), (what, said)


def leaves(body: Body, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all fields, the nested ones too."""
    for name, value in body.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))


def with_value(body: Body, path: tuple[str, ...], text: str) -> bytes:
    """The body as JSON, with the field's value replaced by raw JSON text."""
    marker = "the one value that is replaced"
    copy = json.loads(json.dumps(body))
    holder = copy
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = marker
    return json.dumps(copy).replace(json.dumps(marker), text).encode()


async def post(client: httpx.AsyncClient, path: str, content: bytes, **headers: str) -> httpx.Response:
    return await client.post(path, content=content, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("path", POSTS)
async def test_the_table_begins_with_good_requests(client: httpx.AsyncClient, path: str) -> None:
    somebody = {"external_id": f"{uuid.uuid4()}@example.com"}  # no other test has spent these credits
    await client.post("/v1/billing/check", json={**USER, **somebody})
    answer = await client.post(path, json={**POSTS[path], **somebody})
    assert answer.status_code in (200, 201), answer.text


@pytest.mark.parametrize("path", POSTS)
async def test_every_field_takes_or_refuses_every_value(client: httpx.AsyncClient, path: str) -> None:
    cases = [(field, text) for field in leaves(POSTS[path]) for text in NASTY_VALUES]
    for begin in range(0, len(cases), 20):
        some = cases[begin : begin + 20]
        contents = [with_value(POSTS[path], field, text) for field, text in some]
        answers = await asyncio.gather(*(post(client, path, content) for content in contents))
        for case, answer in zip(some, answers, strict=True):
            judge(answer, (path, *case))


@pytest.mark.parametrize("path", [*POSTS, WEBHOOK])
@pytest.mark.parametrize("name", WHOLE_BODIES)
async def test_every_body_is_taken_or_refused(client: httpx.AsyncClient, path: str, name: str) -> None:
    answer = await post(client, path, WHOLE_BODIES[name])
    judge(answer, (path, name))
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("path", [*POSTS, WEBHOOK])
async def test_every_content_type_is_taken_or_refused(client: httpx.AsyncClient, path: str) -> None:
    content = json.dumps(POSTS.get(path, {})).encode()
    for content_type in CONTENT_TYPES:
        answer = await post(client, path, content, **{"Content-Type": content_type})
        judge(answer, (path, content_type))


@pytest.mark.parametrize("path", GETS)
async def test_every_query_takes_or_refuses_every_value(client: httpx.AsyncClient, path: str) -> None:
    for name in GETS[path]:
        for value in NASTY_QUERIES:
            judge(await client.get(path, params={**GETS[path], name: value}), (path, name, value))
        judge(await client.get(path, params=[*GETS[path].items(), (name, "a"), (name, "b")]), (path, name, "twice"))
        judge(await client.get(f"{path}?{name}=%ff%fe%ED%A0%80&{name}"), (path, name, "bytes"))


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_is_found_or_not(client: httpx.AsyncClient, path: str) -> None:
    for text in NASTY_PATHS:
        judge(await client.get(path.replace("{}", text)), (path, text))


@pytest.mark.parametrize("path", [*POSTS, *GETS, WEBHOOK])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused(client: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await client.request(method, path)
    is_charge = path == "/v1/billing/charges/batch"  # GET /v1/billing/charges/{charge_id}: rejected for its id
    is_get = method == "HEAD" and (path in GETS or is_charge)  # rejected for its missing parameters
    is_put = (method, path) == ("PUT", "/v1/billing/limits")  # rejected for its missing body
    assert answer.status_code == (422 if is_get or is_put else 405)
    assert "X-Request-ID" in answer.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-API-Key", b"\xff\xfe"),
        ("X-API-Key", b"x" * 5000),
        ("X-API-Key", b""),
        ("X-API-Key", b"cbk_live__"),
        ("Authorization", b"Bearer"),
        ("Authorization", b"Bearer \xff.\xff.\xff"),
        ("Authorization", b"Basic Og=="),
        ("Authorization", b"Bearer " + b"e30." * 2000),
        ("X-Request-ID", b"\xff" * 10),
        ("X-Forwarded-For", b"not an address, \xff"),
        ("Stripe-Signature", b"t=\xff,v1=\xff"),
        ("Stripe-Signature", b"t=99999999999999999999999999,v1=" + b"0" * 64),
        ("Content-Encoding", b"gzip"),
        ("Accept", b"\xff/\xff"),
        ("Expect", b"100-continue"),
        ("If-Match", b"*"),
        ("Range", b"bytes=0-"),
    ],
)
async def test_odd_headers_are_taken_or_refused(client: httpx.AsyncClient, name: str, value: bytes) -> None:
    for path in ("/v1/billing/check", WEBHOOK):
        answer = await client.post(path, json=USER, headers=[(name.encode(), value)])
        judge(answer, (path, name, value))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123", True),
        ("a" * 128, True),
        ("01J:/+=@._-", True),
        ("a" * 129, False),
        ("has space", False),
        ('"quoted"', False),
        ("<script>", False),
        ("", False),
        ("a\tb", False),
    ],
)
async def test_request_id_is_kept_when_sane_and_replaced_otherwise(
    client: httpx.AsyncClient, given: str, kept: bool
) -> None:
    for answer in (
        await client.post("/v1/billing/check", json=USER, headers={"X-Request-ID": given}),
        await client.get("/nowhere", headers={"X-Request-ID": given}),
    ):
        assert (answer.headers["X-Request-ID"] == given) is kept
        assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("path", [*POSTS, WEBHOOK])
async def test_body_over_1_mib_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """By its declared length and, without one, as it arrives. A body of just that size is read.

    The client gets the answer although it sends the whole body first: the connection is not reset.
    """

    async def chunks(total: int) -> AsyncIterator[bytes]:
        for _ in range(total // 65_536):
            yield b" " * 65_536
        yield b" " * (total % 65_536)

    for size in (MIB + 1, 10 * MIB):
        answer = await post(client, path, b" " * size)
        judge(answer, (path, size))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    streamed = await client.post(path, content=chunks(MIB + 1), headers={"Content-Type": "application/json"})
    judge(streamed, (path, "streamed"))
    assert (streamed.status_code, streamed.json()["code"]) == (413, "body_too_large")
    fits = await post(client, path, json.dumps(POSTS.get(path, {})).encode().ljust(MIB))
    judge(fits, (path, "fits"))
    assert fits.status_code != 413


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/billing/check HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/billing/check HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/billing/check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n" * 100 + b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_hardly_http_breaks_nothing(
    server: Server, client: httpx.AsyncClient, request_head: bytes
) -> None:
    def send() -> bytes:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=5) as connection:
            connection.settimeout(1)
            connection.sendall(request_head)
            with contextlib.suppress(TimeoutError, ConnectionError):
                return connection.recv(4096)
        return b""

    answered = await asyncio.to_thread(send)
    assert not answered.startswith(b"HTTP/1.1 5"), answered
    assert (await client.get("/health")).status_code == 200


async def test_nothing_unexpected_was_logged(server: Server, client: httpx.AsyncClient) -> None:
    """A swallowed error would be a 5xx in hiding."""
    await client.post("/v1/billing/charges", content=b'{"external_id": "\\ud800"}')
    assert "unhandled_error" not in server.printed()
    assert "Traceback" not in server.printed()
