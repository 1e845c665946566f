"""HTTP as uvicorn speaks it, but for those whom a full process turns away: they cost a tenth of being served."""

import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.door import AGENTS_PATHS, Door
from app.observability import HTTP_SECONDS, REQUEST_ID

_ROUTES = {path.encode(): HTTP_SECONDS.labels("POST", path, "503") for path in AGENTS_PATHS}


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


class AdmittingProtocol(HttpToolsProtocol):
    """Answers 503 as soon as it has read the head of a request that would be turned away inside as well.

    Only the plain case: a request of an agent's, on a connection that stays open and has nothing else under way. All
    others go on to the application.
    """

    def on_headers_complete(self) -> None:
        door: Door = self.app.state.door  # ours is a FastAPI application
        if (
            not door.is_full
            or (route := _ROUTES.get(self.url)) is None
            or not (self.cycle is None or self.cycle.response_complete)  # type: ignore[redundant-expr]  # None at first
            or self.expect_100_continue
            or not self.parser.should_keep_alive()
            or self.parser.should_upgrade()
        ):
            super().on_headers_complete()
            return
        given = next((value for name, value in self.headers if name == b"x-request-id"), b"").decode("latin-1")
        self.transport.write(refusal(given if REQUEST_ID.match(given) else secrets.token_hex(16)))
        door.turned_away(self.loop.time())
        route.observe(0)
        self.cycle = _REFUSED  # type: ignore[assignment]  # so that the body is passed over
        self.on_response_complete()
