"""The short way to an endpoint, for what agents and proxies send all day."""

import inspect
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from app.auth.dependencies import RequireKey
from app.clock import utc_now

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
PARAMETERS = {"body", "request", "caller", "now"}


class KeyRoute(APIRoute):
    """A route that skips FastAPI's work where its endpoint takes `body, request, caller, now` and nothing else.

    FastAPI solves a route's dependencies anew for each request, which takes longer than all that a replay does itself.
    So a JSON body that parses, sent with an API key, goes straight to the endpoint. Everything else goes FastAPI's way,
    and so does everything that is wrong, so that there is one wording of each error. ADR 18 has the figures.
    """

    def get_route_handler(self) -> Handler:
        fastapis_way = super().get_route_handler()
        callers = [d.call for d in self.dependant.dependencies if isinstance(d.call, RequireKey)]
        if set(inspect.signature(self.endpoint).parameters) != PARAMETERS or len(callers) != 1:
            return fastapis_way
        return self._short_way(callers[0], fastapis_way)

    def _short_way(self, caller_of: RequireKey, fastapis_way: Handler) -> Handler:
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
            try:
                body = model.model_validate(json.loads(await request.body()))
            except HTTPException:  # too large
                raise
            except Exception:
                return await fastapis_way(request)  # the request keeps what was read of it
            now = utc_now()
            caller = await caller_of.caller_by_key(request, now)
            reply = await endpoint(body=body, request=request, caller=caller, now=now)
            if isinstance(reply, Response):
                return reply
            return Response(reply.model_dump_json(), status, media_type="application/json")

        return handle
