"""FastAPI dependencies of the routes of limits."""

from typing import Annotated

from fastapi import Depends, Request

from app.limits.service import LimitService


async def limit_service(request: Request) -> LimitService:
    service: LimitService = request.app.state.limits
    return service


Limits = Annotated[LimitService, Depends(limit_service)]
