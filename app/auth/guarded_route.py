"""Guarded routes: the limits and the caller of a request are checked before its body is read."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.clock import request_time

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Answer = TypeVar("Answer")
FRESH_S = 0.5
"""A check older than this is repeated after the body has arrived: a key revoked in the meantime must not work."""
_CHECKED = "ciris_billing.checked"


@runtime_checkable
class Guard(Protocol):
    """A dependency that can run before FastAPI resolves the others."""

    async def authenticate(self, request: Request, now: datetime) -> object:
        """Count the request against its limits and check its caller. Raise the error that ends the request."""


async def once(request: Request, check: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return `check`'s result for this request, from the last FRESH_S or now. A request has only one guard."""
    known: tuple[Answer, float] | None = request.scope.get(_CHECKED)
    now_s = time.monotonic()
    if known is not None and now_s - known[1] < FRESH_S:
        return known[0]
    answer = await check()
    request.scope[_CHECKED] = (answer, now_s)
    return answer


class GuardedRoute(APIRoute):
    """A route whose guard runs first.

    FastAPI reads and parses a body before it resolves any dependency. So a caller without a credential could have a
    megabyte parsed, and a caller that sends no JSON would never be counted.
    """

    def guard(self) -> Guard | None:
        calls: list[object] = [dependency.call for dependency in self.dependant.dependencies]
        return next((call for call in calls if isinstance(call, Guard)), None)

    def get_route_handler(self) -> Handler:
        handle, guard = super().get_route_handler(), self.guard()
        if guard is None:
            return handle

        async def guarded(request: Request) -> Response:
            await guard.authenticate(request, await request_time(request))
            return await handle(request)

        return guarded
