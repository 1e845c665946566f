"""Request heads on the wire: blanks around header values, size, content length, and the order of answers."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from app.auth.caller import Permission
from app.db import Database
from app.demo.stripe.webhooks import signature
from app.http.admission import ConcurrencyLimiter
from app.http.protocol import MAX_HEAD_BYTES, MAX_PIPELINED
from app.observability.metrics import REGISTRY
from tests.conftest import make_key
from tests.databases import Urls
from tests.raw_http import ask, connect, exchange, post, read_answer
from tests.servers import LocalStripe, Server, running_server, running_stripe, serving
from tests.test_hostile_clients import resident_kib

METRICS_TOKEN = "metrics-token-of-the-head-tests"
CHECK, CHARGES, WEBHOOK = "/v1/billing/check", "/v1/billing/charges", "/v1/billing/webhooks/stripe"


@pytest.fixture(scope="module")
def payments() -> Iterator[LocalStripe]:
    with running_stripe() as stripe:
        yield stripe


@pytest.fixture(scope="module")
def server(database: Urls, payments: LocalStripe) -> Iterator[Server]:
    env = {**payments.environment, "METRICS_TOKEN": METRICS_TOKEN, "REQUEST_TIMEOUT_S": "5"}
    with running_server(database, env=env) as server:
        yield server


@pytest.fixture(scope="module")
async def key(db: Database) -> bytes:
    return (await make_key(db, "live", *Permission)).encode()


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The address of an application that answers with the headers it received."""
    app = FastAPI()
    app.state.limiter = ConcurrencyLimiter()

    @app.api_route("/", methods=["GET", "POST"])
    async def headers(request: Request) -> list[list[str]]:
        await request.body()
        return [[name.decode(), value.decode("latin-1")] for name, value in request.scope["headers"]]

    @app.get("/parts")
    async def parts() -> Response:
        return Parts()

    with serving(app) as url:
        yield url


PARTS = [b"first", b"HTTP/1.1 200 OK\r\n\r\n", b"third", b"HTTP/1.1 404"]
"""Parts of a body that look like the head of a response."""


class Parts(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % len(b"".join(PARTS)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(PARTS, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(PARTS)})


def test_parts_of_a_body_are_sent_as_they_are(echo: str) -> None:
    answer = ask(echo, b"GET /parts HTTP/1.1\r\nHost: billing\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"".join(PARTS))


def answered(server: Server, status: int) -> int:
    """Return the number of charges that the service has answered with a status, from its metrics."""
    token = b"Authorization: Bearer %b" % METRICS_TOKEN.encode()
    text = ask(server, b"GET /metrics HTTP/1.1\r\nHost: billing\r\n%b\r\n\r\n" % token).body.decode()
    name = f'billing_http_request_duration_seconds_count{{method="POST",route="{CHARGES}",status="{status}"}} '
    return sum(int(float(line.rpartition(" ")[2])) for line in text.splitlines() if name in line)


def test_an_upload_that_is_given_up_is_no_error_of_the_service(server: Server, key: bytes) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: billing\r\nContent-Type: application/json\r\n" % CHARGES.encode()
    before, deadline = answered(server, 400), time.monotonic() + 10
    with connect(server) as connection:
        connection.sendall(head + b"X-API-Key: %b\r\nContent-Length: 100\r\n\r\n{" % key)
        time.sleep(0.2)  # the service waits for the rest
    while answered(server, 400) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answered(server, 500) == 0


def somebody() -> bytes:
    return json.dumps({"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}).encode()


# --- optional white space around values (RFC 9110, section 5.5) ---

AROUND = [(b"", b""), (b"", b" "), (b"", b"\t"), (b" \t", b""), (b"\t ", b" \t \t")]
HEADERS = [
    "X-API-Key",
    "Authorization",
    "Idempotency-Key",
    "Stripe-Signature",
    "Content-Type",
    "Content-Encoding",
    "X-Request-ID",
    "X-Forwarded-For",
    "Host",
    "Accept",
    "Cookie",
    "X-CSRF-Token",
    "User-Agent",
    "X-Client-Subject",
    "Traceparent",
    "Tracestate",
    "Connection",
]


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_value_reaches_the_application_with_blanks_around_it(echo: str, name: str) -> None:
    host = b"" if name == "Host" else b"Host: billing\r\n"
    for before, after in AROUND:
        head = b"GET / HTTP/1.1\r\n%b%b:%b%b%b\r\n\r\n" % (host, name.encode(), before, b"a \t b", after)
        assert [name.lower(), "a \t b"] in ask(echo, head).json


@pytest.mark.parametrize(("before", "after"), AROUND)
def test_blanks_around_a_header_value_change_no_answer(
    server: Server, payments: LocalStripe, key: bytes, before: bytes, after: bytes
) -> None:
    def header(name: bytes, value: bytes) -> bytes:
        return name + b":" + before + value + after

    by_key = header(b"X-API-Key", key)
    assert ask(server, post(CHECK, somebody(), by_key)).status == 200
    body = somebody()
    declared = header(b"Content-Length", b"%d" % len(body))
    answer = ask(server, post(CHECK, body, by_key, declared, header(b"X-Request-ID", b"of-the-caller")))
    assert (answer.status, answer.headers["x-request-id"]) == (200, "of-the-caller")
    charge = {**json.loads(body), "amount_minor": 100}
    charges = [
        ask(server, post(CHARGES, json.dumps(charge).encode(), by_key, name)).status
        for name in (b"Idempotency-Key: k1", header(b"Idempotency-Key", b"k1"), b"idempotency-key:k1")
    ]
    assert charges == [201, 409, 409]
    kind = {"object": "event", "type": "unknown.kind", "created": 1, "livemode": True, "data": {"object": {}}}
    event = json.dumps({"id": f"evt_{uuid.uuid4().hex}", **kind}).encode()
    signed = signature(payments.webhook_secret, event, int(time.time())).encode()
    assert ask(server, post(WEBHOOK, event, header(b"Stripe-Signature", signed))).status == 200
    token = header(b"Authorization", b"Bearer " + METRICS_TOKEN.encode())
    metrics = b"GET /metrics HTTP/1.1\r\nHost: billing\r\n" + token + b"\r\n\r\n"
    assert ask(server, metrics).status == 200


@pytest.mark.parametrize(
    "value",
    [b"a\r\n b", b"a\r\n\tb", b"\r\n b", b"a\rb", b"a\r", b"a\nb", b"a\0b", b"a\x01b", b"a\x0b", b"a\x0c", b"a\x7f"],
    ids=repr,
)
@pytest.mark.parametrize("name", [b"X-API-Key", b"Idempotency-Key", b"X-Other"])
def test_folded_values_and_control_characters_are_refused(server: Server, name: bytes, value: bytes) -> None:
    """Two readers could take such a value for different things, so the connection ends."""
    came = exchange(server, b"GET /health HTTP/1.1\r\nHost: billing\r\n" + name + b": " + value + b"\r\n\r\n")
    head, _, body = came.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    error = json.loads(body)
    assert error["code"] == "bad_request"
    assert f"x-request-id: {error['request_id']}" in head.decode().lower()


@pytest.mark.parametrize("value", [b"\xe9", b"\xc3\xa9", b"\xff\xfe", b"\xa0", b"a\x85"], ids=repr)
def test_a_value_that_is_not_ascii_is_taken_or_refused(server: Server, key: bytes, value: bytes) -> None:
    for headers in (
        [b"X-API-Key: " + value],
        [b"Authorization: Bearer " + value],
        [b"X-API-Key: " + key, b"Content-Type: " + value],
        [b"X-API-Key: " + key, b"X-Request-ID: " + value, b"User-Agent: " + value, b"Cookie: a=" + value],
    ):
        assert ask(server, post(CHECK, somebody(), *headers)).status in (200, 401, 422), headers
    charge = json.dumps({**json.loads(somebody()), "amount_minor": 100}).encode()
    answers = [ask(server, post(CHARGES, charge, b"X-API-Key: " + key, b"Idempotency-Key: " + value)) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 409]
    event = post(WEBHOOK, b"{}", b"Stripe-Signature: t=" + b"9" * 4400 + b",v1=" + value)
    assert ask(server, event).status == 400


# --- content length ---


@pytest.mark.parametrize(
    ("lengths", "status"),
    [
        ([b"0" * 4400 + b"%d"], 200),  # too long for Python's int(), but a valid number of bytes
        ([b"9" * 4400], 400),
        ([b"1" + b"0" * 4400], 400),
        ([b"9" * 19], 413),
        ([b"1048577"], 413),
        ([b"0" * 4400 + b"1048577"], 413),
        ([b""], 400),
        ([b"-1"], 400),
        ([b"-0"], 400),
        ([b"+%d"], 400),
        ([b"0x10"], 400),
        ([b"1_0"], 400),
        ([b"1 0"], 400),
        ([b"%d", b"%d"], 400),
        ([b"%d", b"0"], 400),
        ([b"%d, %d"], 400),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_content_length_is_one_number(server: Server, key: bytes, lengths: list[bytes], status: int) -> None:
    body = somebody()
    declared = [b"Content-Length: " + length.replace(b"%d", b"%d" % len(body)) for length in lengths]
    came = exchange(server, post(CHECK, body, b"X-API-Key: " + key, *declared))
    assert came.startswith(b"HTTP/1.1 %d " % status), came[:200]
    assert came.count(b"HTTP/1.1 ") == 1
    assert json.loads(came.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("order", [1, -1])
def test_a_content_length_beside_a_transfer_encoding_is_refused(server: Server, order: int) -> None:
    lengths = [b"Content-Length: 5", b"Transfer-Encoding: chunked"][::order]
    came = exchange(server, post(CHECK, b"0\r\n\r\n", *lengths))
    assert came.startswith(b"HTTP/1.1 400 ")
    assert came.count(b"HTTP/1.1 ") == 1


# --- size ---

GET = b"GET / HTTP/1.1\r\nHost: billing\r\n"
HEAD_END = b"\r\n\r\n"


def head_of(size: int, begin: bytes = GET, header: bytes = b"") -> bytes:
    """A head of exactly `size` bytes: `begin`, as many of `header` as fit, and one more header."""
    room = size - len(begin) - len(b"X:" + HEAD_END)
    many = header * (room // len(header)) if header else b""
    return begin + many + b"X:" + b"a" * (room - len(many)) + HEAD_END


UPGRADE = GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: a\r\n"
WEBSOCKET = GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n"
LONG_PATH = b"GET /?" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: billing\r\n"
BLANKS = GET + b"Y:" + b" " * 30_000 + b"a\r\n"
AGENT = b"POST /v1/billing/charges HTTP/1.1\r\nHost: billing\r\nContent-Length: 0\r\n"


@pytest.mark.parametrize("pieces", [1, 7, 400])
@pytest.mark.parametrize(
    ("begin", "header"),
    [
        (GET, b""),
        (GET, b"a:\r\n"),
        (GET, b"Cookie: a=b\r\n"),
        (UPGRADE, b""),
        (WEBSOCKET, b""),
        (LONG_PATH, b""),
        (BLANKS, b""),
        (AGENT, b""),
    ],
    ids=["one header", "many headers", "cookies", "h2c", "websocket", "path", "blanks", "agent"],
)
def test_a_head_has_at_most_32_kb(echo: str, begin: bytes, header: bytes, pieces: int) -> None:
    for size, refused in ((MAX_HEAD_BYTES, False), (MAX_HEAD_BYTES + 1, True), (3 * MAX_HEAD_BYTES, True)):
        head = head_of(size, begin, header)
        assert len(head) == size
        with connect(echo) as connection, connection.makefile("rb") as stream:
            with contextlib.suppress(ConnectionError):
                for at in range(0, size, size // pieces + 1):
                    connection.sendall(head[at : at + size // pieces + 1])
            answer = read_answer(stream)
        assert (answer.status == 431) is refused, (size, answer)
        if refused:
            assert answer.json["code"] == "head_too_large"
            assert answer.json["request_id"] == answer.headers["x-request-id"]
            assert answer.headers["connection"] == "close"


def test_the_second_head_of_a_connection_is_bounded_as_well(echo: str) -> None:
    """Sent in one piece with the request before it: that one is answered, and the connection ends behind it."""
    whole = exchange(echo, GET + b"\r\n" + head_of(MAX_HEAD_BYTES))
    assert whole.count(b"HTTP/1.1 200 ") == 2
    for size in (MAX_HEAD_BYTES + 2, 2 * MAX_HEAD_BYTES, 10 * MAX_HEAD_BYTES):
        came = exchange(echo, GET + b"\r\n" + head_of(size))
        assert came.count(b"HTTP/1.1 200 ") == 1
        assert came.count(b"HTTP/1.1 ") == 1


def test_a_head_in_pieces_over_one_connection_is_bounded_each_time(echo: str) -> None:
    with connect(echo) as connection, connection.makefile("rb") as stream:
        for _ in range(3):
            connection.sendall(head_of(MAX_HEAD_BYTES))
            assert read_answer(stream).status == 200
        with contextlib.suppress(ConnectionError):
            connection.sendall(head_of(MAX_HEAD_BYTES + 1))
        assert read_answer(stream).status == 431


CHUNKED = b"POST / HTTP/1.1\r\nHost: billing\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begin",
    [
        GET + b"X-Long: ",
        b"GET /",
        CHUNKED + b"0\r\nX-Trailer: ",
        CHUNKED + b"1;name=",
        CHUNKED + b'1\r\na\r\n1;name="',
    ],
    ids=["header", "path", "trailer", "chunk extension", "second chunk's extension"],
)
def test_endless_input_takes_no_memory(server: Server, begin: bytes) -> None:
    before_kib = resident_kib(server)
    sent = 0
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(begin)
        for _ in range(400):
            connection.sendall(b"a" * 100_000)
            sent += 100_000
    assert sent < 40_000_000, "the server reads on"
    if before_kib:
        assert resident_kib(server) - before_kib < 10_000


def test_many_small_trailers_take_no_memory(server: Server) -> None:
    before_kib = resident_kib(server)
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(CHUNKED + b"0\r\n")
        for _ in range(400):
            connection.sendall(b"a:b\r\n" * 20_000)
    if before_kib:
        assert resident_kib(server) - before_kib < 10_000


def test_requests_sent_ahead_are_bounded_and_those_taken_are_answered_in_order(echo: str) -> None:
    named = [GET + b"X-Number: %d\r\n\r\n" % number for number in range(1000)]
    came = exchange(echo, b"".join(named))
    answered = [number for number in range(1000) if b'["x-number","%d"]' % number in came]
    assert answered == list(range(len(answered)))
    assert came.count(b"HTTP/1.1 200 ") == came.count(b"HTTP/1.1 ") == len(answered)
    assert 1 <= len(answered) <= MAX_PIPELINED + 2
    few = exchange(echo, b"".join(named[:MAX_PIPELINED]))
    assert few.count(b"HTTP/1.1 200 ") == MAX_PIPELINED


# --- the order of answers ---


def test_a_refusal_never_answers_for_the_request_before_it(server: Server, key: bytes) -> None:
    """A charge followed by garbage is answered as a charge: a 400 in its place would let it be taken for failed."""
    charge = json.dumps({**json.loads(somebody()), "amount_minor": 100}).encode()
    for behind in (b"\0\0\0\0", head_of(2 * MAX_HEAD_BYTES), GET + b"Content-Length: -1\r\n\r\n"):
        sent = post(CHARGES, charge, b"X-API-Key: " + key, b"Idempotency-Key: " + uuid.uuid4().hex.encode())
        came = exchange(server, sent + behind)
        assert came.startswith(b"HTTP/1.1 201 "), came[:100]
        assert came.count(b"HTTP/1.1 ") == 1


def test_a_body_that_breaks_off_is_answered_once(server: Server, key: bytes) -> None:
    chunked = post(CHECK, b'5\r\n{"a":\r\nnot a size\r\n', b"Transfer-Encoding: chunked", b"X-API-Key: " + key)
    came = exchange(server, chunked)
    assert came.startswith(b"HTTP/1.1 400 ")
    assert came.count(b"HTTP/1.1 ") == 1


async def test_refusals_are_counted(echo: str) -> None:
    def count(status: str) -> float:
        labels = {"method": "other", "route": "unmatched", "status": status}
        return REGISTRY.get_sample_value("billing_http_request_duration_seconds_count", labels) or 0

    before = count("431"), count("400")
    await asyncio.to_thread(exchange, echo, head_of(MAX_HEAD_BYTES + 1))
    await asyncio.to_thread(exchange, echo, b"\0")
    assert (count("431"), count("400")) == (before[0] + 1, before[1] + 1)
