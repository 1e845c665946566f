"""Key routes: a fast path to an endpoint, for the hot routes of agents and proxies."""

import inspect
import json
import time

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from app.auth.dependencies import RequireKey
from app.auth.guarded_route import FRESH_S, GuardedRoute, Handler
from app.clock import utc_now

PARAMETERS = {"body", "request", "caller", "now"}


class KeyRoute(GuardedRoute):
    """A route that bypasses FastAPI if its endpoint takes exactly `body, request, caller, now`.

    FastAPI resolves a route's dependencies for each request, which takes longer than a whole replay. So a valid JSON
    body with an API key goes straight to the endpoint. Every other request takes FastAPI's path, including every
    invalid one, so that each error has only one wording. ADR 18 has the figures.
    """

    def get_route_handler(self) -> Handler:
        fastapis_way, guard = super().get_route_handler(), self.guard()
        if set(inspect.signature(self.endpoint).parameters) != PARAMETERS or not isinstance(guard, RequireKey):
            return fastapis_way
        return self._short_way(guard, fastapis_way)

    def _short_way(self, guard: RequireKey, fastapis_way: Handler) -> Handler:
        assert self.body_field is not None
        model = self.body_field.field_info.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        endpoint, status = self.endpoint, self.status_code or 200

        async def handle(request: Request) -> Response:
            headers = request.headers
            unusual = headers.get("content-type") != "application/json" or not headers.get("x-api-key")
            if unusual or request.app.dependency_overrides:
                return await fastapis_way(request)
            now, began_s = utc_now(), time.monotonic()
            caller = await guard.authenticate(request, now)
            try:
                body = model.model_validate(json.loads(await request.body()))
            except HTTPException:  # too large
                raise
            except Exception:
                return await fastapis_way(request)  # the request keeps the body that was read, and its caller
            if time.monotonic() - began_s >= FRESH_S:
                now = utc_now()
                caller = await guard.authenticate(request, now)
            reply = await endpoint(body=body, request=request, caller=caller, now=now)
            if isinstance(reply, Response):
                return reply
            return Response(reply.model_dump_json(), status, media_type="application/json")

        return handle
