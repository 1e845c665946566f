"""Middleware that puts the failures of some routes into their clients' envelope."""

import json
from http import HTTPStatus
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.envelopes import Envelope, envelope_of


class Envelopes:
    """Rewrite the body of every failure on the routes of `app.http.envelopes`.

    Outside all other middleware, so that it sees their answers too. A failure's body is short and is held back until
    it is complete; a success passes through.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        envelope = envelope_of(scope["path"]) if scope["type"] == "http" else None
        if envelope is None:
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, _Rewriting(envelope, scope["method"], send))


class _Rewriting:
    """A `send` that rewrites a failure."""

    def __init__(self, envelope: Envelope, method: str, send: Send) -> None:
        self._envelope, self._is_head, self._send = envelope, method == "HEAD", send
        self._failure: Message | None = None
        self._content = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            self._failure = message
        elif self._failure is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._content += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self._failure)

    async def _finish(self, start: Message) -> None:
        headers = MutableHeaders(scope=start)
        content = b""
        if self._is_head:
            del headers["Content-Length"]  # of the body that GET would have had before it was rewritten
        else:
            status = start["status"]
            content = json.dumps(self._envelope(status, _read(self._content, status, headers))).encode()
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(content))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": content})


def _read(content: bytes, status: int, headers: MutableHeaders) -> dict[str, Any]:
    """Return a failure's members. A body that is no error of ours becomes one."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict) and "detail" in body and "code" in body:
        return body
    return {"detail": HTTPStatus(status).phrase, "code": "http_error", "request_id": headers.get("X-Request-ID")}
