"""HTTP/1.1 as uvicorn speaks it, and what it leaves open: late heads, trailers, more callers than can be served."""

import asyncio
import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.door import AGENTS_PATHS, Door
from app.observability.metrics import HTTP_SECONDS
from app.observability.requests import REQUEST_ID

_ROUTES = {path.encode(): HTTP_SECONDS.labels("POST", path, "503") for path in AGENTS_PATHS}


class HeadDeadline(HttpToolsProtocol):
    """An end to a request's head that does not come: `timeout_s` after its first byte, or after the connection's start.

    By itself uvicorn waits for ever for the rest of a head, and for the first byte of a connection. What comes after
    the head, and the pause between two requests, have time-outs of their own (Deadline, `timeout_keep_alive`).
    """

    timeout_s = 10.0  # uvicorn makes the instances: what counts in this process
    _head_timer: asyncio.TimerHandle | None = None
    _is_between = True
    """Whether the last that came was the end of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._is_between = False  # line breaks count as well, of which the parser says nothing
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

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _has_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first

    def _await_head(self) -> None:
        # abort: what was answered before may wait for a client that does not read
        self._head_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Refused:
    """Stands for a request and its answer that are over, as uvicorn looks at them."""

    response_complete = True

    @property
    def message_event(self) -> "_Refused":
        return self

    def set(self) -> None:
        """Nobody waits for more of it."""


_REFUSED = _Refused()


def refusal(request_id: str) -> bytes:
    """The answer, as that to `app.errors.Busy`. `request_id` needs no escaping: it matches REQUEST_ID."""
    body = b'{"detail":"Service busy, retry shortly","code":"busy","request_id":"%b"}' % request_id.encode()
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        b"X-Request-ID: %b\r\nContent-Length: %d\r\n\r\n%b" % (request_id.encode(), len(body), body)
    )


class Protocol(HeadDeadline):
    """Answers 503 as soon as it has read the head of a request that would be turned away inside as well: that costs a
    tenth of being served. Only the plain case: a request of an agent's, on a connection that stays open and has nothing
    else under way. All others go on to the application.

    Trailers are left out: as they come they would pass for headers, and say what proxies say.
    """

    def on_headers_complete(self) -> None:
        route = _ROUTES.get(self.url)
        door: Door | None = None if route is None else self.app.state.door  # ours is a FastAPI application
        if (
            route is None
            or door is None
            or not door.is_full
            or self._has_work()
            or self.expect_100_continue
            or not self.parser.should_keep_alive()
            or self.parser.should_upgrade()
        ):
            super().on_headers_complete()
            self.headers = []  # what follows the body goes here, where nobody looks
            return
        self._stop_waiting()
        given = next((value for name, value in self.headers if name == b"x-request-id"), b"").decode("latin-1")
        self.transport.write(refusal(given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)))
        door.turned_away(self.loop.time())
        route.observe(0)
        self.cycle = _REFUSED  # type: ignore[assignment]  # so that the body is passed over
        self.on_response_complete()
