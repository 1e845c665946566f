"""Hot routes: a fast path to the endpoints that agents and proxies call all the time (ADR 18)."""

import inspect
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.dependencies import RequireKey
from app.auth.guarded_route import FRESH_S, GuardedRoute
from app.clock import utc_now
from app.errors import ERROR_HANDLERS, handled

PARAMETERS = {"body", "request", "caller", "now"}
FastPath = Callable[[Request], Awaitable[Response | None]]
"""The response, or None where FastAPI has to serve the request."""


class KeyRoute(GuardedRoute):
    """A route whose endpoint HotRoutes may call directly.

    Its endpoint takes `body, request, caller, now`, the texts of the path's parameters, and nothing else. FastAPI walks
    the tree of a route's dependencies for each request, which takes longer than a replay itself.
    """

    def fast_path(self) -> FastPath | None:
        """Return a function that authenticates, parses the body and calls the endpoint; None for other endpoints."""
        guard = self.guard()
        if self.methods != {"POST"} or self.dependencies:
            return None
        if not isinstance(guard, RequireKey) or not self._has_plain_parameters():
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
            reply = await endpoint(body=body, request=request, caller=caller, now=now, **request.path_params)
            if isinstance(reply, Response):
                return reply
            return Response(reply.model_dump_json(), status, media_type="application/json")

        return handle

    def _has_plain_parameters(self) -> bool:
        """Return whether the endpoint takes PARAMETERS and the texts of the path, which need no validation."""
        parameters = inspect.signature(self.endpoint).parameters
        if set(parameters) != PARAMETERS | self.param_convertors.keys():
            return False
        return all(parameters[name].annotation is str for name in self.param_convertors)


class HotRoutes:
    """Innermost middleware: serves POST requests of hot routes without Starlette's router and FastAPI's exit stacks.

    It serves a JSON body that parses, sent with an API key. FastAPI serves unusual and wrong requests, so each error
    has one wording. FastAPI then gets the body that was read already.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self._fast_paths: dict[str, tuple[KeyRoute, FastPath]] = {}
        self._with_parameters: dict[str, list[tuple[KeyRoute, FastPath]]] = {}
        """By the last word of the path."""
        for route in routes:
            if isinstance(route, KeyRoute) and (fast_path := route.fast_path()) is not None:
                if route.param_convertors:
                    self._with_parameters.setdefault(_last_word(route.path), []).append((route, fast_path))
                else:
                    self._fast_paths[route.path] = route, fast_path

    @property
    def paths(self) -> frozenset[str]:
        with_parameters = (route.path for found in self._with_parameters.values() for route, _ in found)
        return frozenset((*self._fast_paths, *with_parameters))

    def _find(self, scope: Scope) -> tuple[KeyRoute, FastPath] | None:
        if (known := self._fast_paths.get(scope["path"])) is not None:
            return known
        for route, fast_path in self._with_parameters.get(_last_word(scope["path"]), ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope["path_params"] = found["path_params"]
                return route, fast_path
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = self._find(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
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


def _last_word(path: str) -> str:
    return path.rpartition("/")[2]


def _again(request: Request, receive: Receive) -> Receive:
    """Return a `receive` that repeats the body that `request` has read, and then receives later messages."""
    content: Any = getattr(request, "_body", None)
    if content is None:
        return receive
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
