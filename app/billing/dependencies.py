"""FastAPI dependencies of the billing routes."""

from typing import Annotated

from fastapi import Depends, Request

from app.billing.service import BillingService


async def billing_service(request: Request) -> BillingService:
    service: BillingService = request.app.state.billing
    return service


Billing = Annotated[BillingService, Depends(billing_service)]
"""Not for the busiest routes, which use only the values that KeyRoute provides."""
