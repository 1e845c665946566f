"""Hot routes: a fast path to the endpoints that agents and proxies call all the time (ADR 18)."""

import inspect
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.dependencies import RequireKey
from app.auth.guarded_route import FRESH_S, GuardedRoute
from app.clock import utc_now
from app.errors import ERROR_HANDLERS, handled

PARAMETERS = {"body", "request", "caller", "now"}
FastPath = Callable[[Request], Awaitable[Response | None]]
"""The response, or None where FastAPI has to serve the request."""


class KeyRoute(GuardedRoute):
    """A route whose endpoint HotRoutes may call directly, where it takes `body, request, caller, now` and nothing else.

    FastAPI walks the tree of a route's dependencies for each request, which takes longer than a replay itself.
    """

    def fast_path(self) -> FastPath | None:
        """Return a function that authenticates, parses the body and calls the endpoint; None for other endpoints."""
        guard = self.guard()
        if self.methods != {"POST"} or self.dependencies:
            return None
        if set(inspect.signature(self.endpoint).parameters) != PARAMETERS or not isinstance(guard, RequireKey):
            return None
        assert self.body_field is not None
        model = self.body_field.field_info.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        endpoint, status = self.endpoint, self.status_code or 200

        async def handle(request: Request) -> Response | None:
            headers = request.headers
            unusual = headers.get("content-type") != "application/json" or not headers.get("x-api-key")
            if unusual or request.app.dependency_overrides:
                return None
            now, began_s = utc_now(), time.monotonic()
            caller = await guard.authenticate(request, now)
            try:
                content = await request.body()
            except ClientDisconnect:
                return None
            try:
                body = model.model_validate(json.loads(content))
            except Exception:
                return None  # FastAPI words the error
            if time.monotonic() - began_s >= FRESH_S:
                now = utc_now()
                caller = await guard.authenticate(request, now)
            reply = await endpoint(body=body, request=request, caller=caller, now=now)
            if isinstance(reply, Response):
                return reply
            return Response(reply.model_dump_json(), status, media_type="application/json")

        return handle


class HotRoutes:
    """Innermost middleware: serves POST requests of hot routes without Starlette's router and FastAPI's exit stacks.

    It serves a JSON body that parses, sent with an API key. FastAPI serves unusual and wrong requests, so each error
    has one wording. FastAPI then gets the body that was read already.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self._fast_paths: dict[str, tuple[KeyRoute, FastPath]] = {}
        for route in routes:
            if isinstance(route, KeyRoute) and (fast_path := route.fast_path()) is not None:
                self._fast_paths[route.path] = route, fast_path

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(self._fast_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = self._fast_paths.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if known is None:
            await self.app(scope, receive, send)
            return
        scope["route"], fast_path = known  # for the log line and the metric
        request = Request(scope, receive)
        try:
            response = await fast_path(request)
        except tuple(ERROR_HANDLERS) as error:
            response = await handled(request, error)
        if response is None:
            await self.app(scope, _again(request, receive), send)
        else:
            await response(scope, receive, send)


def _again(request: Request, receive: Receive) -> Receive:
    """A `receive` that returns the body that `request` has read, and then what arrives after it."""
    content: Any = getattr(request, "_body", None)
    if content is None:
        return receive
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
