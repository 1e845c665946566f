"""The HTTP/1.1 protocol class: uvicorn's, with bounds on request heads, trimmed header values and load shedding."""

import asyncio
import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import STATUS_CODES, Busy
from app.http.admission import AGENTS_PATHS, ConcurrencyLimiter
from app.http.envelopes import enveloped
from app.http.streaming import ABORT
from app.observability.metrics import HTTP_SECONDS
from app.observability.requests import REQUEST_ID

MAX_HEAD_BYTES = 32 * 1024
"""The bound of a request line and its headers, line breaks included. Caddy's bound is higher."""
MAX_PIPELINED = 16
"""The bound of pipelined requests that wait for earlier answers on one connection."""
LINGER_S = 2.0
"""Time for a client to send the rest of a body and to read the answer, before the connection is closed."""
BLANKS = b" \t"
_ROUTES = {path.encode(): HTTP_SECONDS.labels("POST", path, "503") for path in AGENTS_PATHS}


class HeadDeadline(HttpToolsProtocol):
    """Closes the connection when a request's head takes longer than `timeout_s` from its first byte, or from the
    start of the connection.

    uvicorn itself has no time-out for a connection's first byte and the rest of a head. The body after a head, and the
    pause between two requests, have their own time-outs (Deadline, `timeout_keep_alive`).
    """

    timeout_s = 10.0  # uvicorn creates the instances, so this is per process
    _head_timer: asyncio.TimerHandle | None = None
    _is_between = True
    """Whether the last bytes received were the end of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._is_between = False  # line breaks count as well, which the parser does not report
        super().data_received(data)
        if self._head_timer is None and not self._is_between and not self._has_work():
            self._await_head()

    def on_message_begin(self) -> None:
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_between = True
        self._stop_waiting()
        super().on_message_complete()
        if not self._has_work():  # it was answered before its body was complete, which ended the keep-alive time-out
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _has_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first

    def _await_head(self) -> None:
        # abort, not close: closing would wait for a client that does not read earlier answers
        self._head_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Refused(Exception):
    """Ends the connection from within a callback of the parser."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def refusal(error: Refused, url: bytes, request_id: str, headers: bytes = b"Connection: close\r\n") -> bytes:
    """Return an error answer in the shape of `app.errors`, as bytes. Each of the `headers` ends with a line break."""
    members = {"detail": error.detail, "code": STATUS_CODES[error.status], "request_id": request_id}
    body = json.dumps(enveloped(_path(url), error.status, members)).encode()
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n%bX-Request-ID: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        error.status,
        HTTPStatus(error.status).phrase.encode(),
        headers,
        request_id.encode(),
        len(body),
        body,
    )


def _path(url: bytes) -> str:
    """Return the path of a request target, which may be incomplete or malformed."""
    try:
        path = httptools.parse_url(url).path or b""
    except httptools.HttpParserInvalidURLError:
        path = url.partition(b"?")[0]
    return unquote(path.decode("latin-1"))


class BoundedHead(HeadDeadline):
    """Bounds the parser's memory use per caller, and normalizes the headers that it returns.

    - A head has at most MAX_HEAD_BYTES. Beyond that: 431 and the end of the connection. The same bound holds for all
      other input that the parser reads without a result: trailers, chunk extensions, line breaks between requests.
    - Header values arrive without the blanks around them (RFC 9110, section 5.5). The parser strips only those before
      a value, so `k1` and `k1 ` would be two idempotency keys.
    - Trailers are dropped: mixed with the headers, they would pass for headers that a proxy has set.
    - An error answer is never written in the place of an answer that is still due.
    """

    _unparsed_bytes = 0
    """Bytes received since the parser last completed a head, part of a body or message."""
    _has_parsed = False
    """Whether the bytes received last have completed one of these."""
    _is_head_inside = False
    """Whether the head begins after another message, within the same bytes."""
    _is_in_body = False
    _is_over = False
    _refused: Refused | None = None
    _piece = b""
    """The bytes received last, up to the bound."""

    def data_received(self, data: bytes) -> None:
        begin = 0
        while begin < len(data) and not self._is_over:
            piece = data[begin : begin + MAX_HEAD_BYTES - self._unparsed_bytes]
            begin += len(piece)
            self._has_parsed = False
            self._piece = piece
            super().data_received(piece)
            self._unparsed_bytes = 0 if self._has_parsed else self._unparsed_bytes + len(piece)
            if self._unparsed_bytes >= MAX_HEAD_BYTES and not self._is_over:
                self._refused = _too_large()
                self.send_400_response(self._refused.detail)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refused(400, "Too many requests sent ahead of their answers")
        self._is_head_inside = self._has_parsed
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Without uvicorn's own method, for speed: this is called for each header of each request.
        if self._is_in_body:
            return
        name, value = name.lower(), value.strip(BLANKS)
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_parsed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_parsed = True
        self._is_in_body = False
        super().on_message_complete()

    def _end_head(self) -> None:
        """Raise Refused for a head that is too large. Only a head that arrived with another message is uncounted."""
        if self._is_head_inside:
            size = len(self.parser.get_method() + self.url + b"  HTTP/1.1\r\n\r\n")
            if size + sum(len(name) + len(value) + len(b":\r\n") for name, value in self.headers) > MAX_HEAD_BYTES:
                self._refused = _too_large()
                raise self._refused
        self._has_parsed = self._is_in_body = True

    def send_400_response(self, msg: str) -> None:
        """Refuse input that the parser cannot read, and end the connection after the answers that are still due."""
        self._is_over = True
        if self._is_in_body and not self._has_work():
            self.transport.close()  # answered before its body arrived
        elif self._is_in_body and (self.pipeline or self.cycle.response_started):
            self.transport.abort()  # an error answer has no place; the pending answer stays incomplete
        elif self._has_work() and not self._is_in_body:
            self.cycle.keep_alive = False
        else:
            refused = self._refused or Refused(400, msg)
            HTTP_SECONDS.labels("other", "unmatched", str(refused.status)).observe(0)
            self.transport.write(refusal(refused, self._target(), self._request_id()))
            self.transport.close()

    def _target(self) -> bytes:
        """Return the request's target; after a method that the parser does not know, as the bytes have it."""
        words = self._piece.partition(b"\r")[0].split(b" ")
        return self.url or (words[1] if len(words) > 1 else b"")

    def _request_id(self) -> str:
        """Return the caller's request id if it is well-formed, else a new one."""
        headers = self.headers or ()  # None before the first request
        given = next((value for name, value in headers if name == b"x-request-id"), b"").decode("latin-1")
        return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _too_large() -> Refused:
    detail = f"Request head over {MAX_HEAD_BYTES} bytes: send fewer or shorter headers"
    return Refused(431, detail)


class _Answered:
    """Replaces the cycle of a request that was refused, for uvicorn."""

    response_complete = True

    @property
    def message_event(self) -> "_Answered":
        return self

    def set(self) -> None:
        """Do nothing: no task waits for the body."""


_ANSWERED = _Answered()
_BUSY = Refused(Busy.status, Busy().detail)
_INTERIM = b"HTTP/1.1 100"
"""The beginning of an interim response, which another response follows."""


class _OneWrite:
    """A response's view of the transport: joins the head with the first part of the body.

    uvicorn writes the two separately. Each write is a system call: some 20 µs of a check's 300. `close` ends the
    connection after the response.
    """

    __slots__ = ("_close", "_has_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close
        self._head = b""
        self._has_begun = False

    def write(self, data: bytes) -> None:
        if self._has_begun or data.startswith(_INTERIM):
            self._flush(data)
        else:
            self._has_begun, self._head = True, data

    def _flush(self, data: bytes = b"") -> None:
        self._transport.write(self._head + data)
        self._head = b""

    def close(self) -> None:
        if self._head:
            self._flush()
        self._close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class LoadSheddingProtocol(BoundedHead):
    """Load shedding: answers 503 right after the head of a request that Admission would reject as well.

    That costs a tenth of serving the request. It covers only the simple case: an agent's request on a connection that
    stays open and has no other request under way. All others continue to the application.

    Lingering close: a client that is still sending the body of a request that was refused gets the answer.
    """

    _is_lingering = False

    def data_received(self, data: bytes) -> None:
        if not self._is_lingering:
            super().data_received(data)

    def _close(self) -> None:
        """Close the connection. If a body is on its way, drop it until the client closes, for LINGER_S at most.

        Closing a socket with unread bytes resets the connection, and the answer is lost (RFC 9112, section 9.6).
        """
        if not self._is_in_body or self.pipeline:
            self.transport.close()
            return
        self._is_lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def on_headers_complete(self) -> None:
        route = _ROUTES.get(self.url) if self.parser.get_method() == b"POST" else None
        # uvicorn types it as any ASGI application; ours is FastAPI.
        limiter: ConcurrencyLimiter | None = None if route is None else self.app.state.limiter
        if (
            route is None
            or limiter is None
            or not limiter.is_full
            or self._has_work()
            or self.expect_100_continue
            or not self.parser.should_keep_alive()
            or self.parser.should_upgrade()
        ):
            super().on_headers_complete()
            if self.scope["method"] != "HEAD":  # a response without a body
                self.cycle.transport = _OneWrite(self.transport, self._close)  # type: ignore[assignment]  # it has what a cycle uses
                if self.scope["method"] == "GET":
                    self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]  # a member of ours
            return
        self._end_head()
        self._stop_waiting()
        self.transport.write(refusal(_BUSY, self.url, self._request_id(), b"Retry-After: 1\r\n"))
        limiter.reject(self.loop.time())
        route.observe(0)
        self.cycle = _ANSWERED  # type: ignore[assignment]  # so that uvicorn skips the body
        self.on_response_complete()
