"""`/_control` routes of billing: its settings, and the time of one customer. The real Stripe has no such routes."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from app.demo.stripe import billing_time
from app.demo.stripe.clock import clock_of
from app.demo.stripe.control import Local, account_of
from app.demo.stripe.objects import Object, invalid, real_now_s
from app.demo.stripe.store import BillingSettings

router = APIRouter(prefix="/_control")
DAY_S = 86_400


class Billing(BaseModel):
    """Settings of the account's billing, as on Stripe's dashboard."""

    retry_days: tuple[Annotated[int, Field(ge=1, le=60)], ...] = (3, 5, 7)
    after_retries: Literal["cancel", "unpaid", "past_due"] = "cancel"
    finalize_after_s: int = Field(default=3600, ge=0, le=72 * 3600)
    upcoming_days: int = Field(default=7, ge=0, le=60)


@router.post("/billing")
async def set_billing(body: Billing, local: Local) -> dict[str, bool]:
    """Set when renewals are finalized, how often they are retried, and what happens then."""
    for account in local.accounts.values():
        account.billing = BillingSettings(**body.model_dump())
    return {"ok": True}


@router.post("/customers/{customer_id}/advance")
async def advance(
    customer_id: str,
    local: Local,
    days: Annotated[int, Body(ge=0, le=3660)] = 0,
    frozen_time: Annotated[int | None, Body(ge=0, le=253_402_300_799)] = None,
) -> Object:
    """Move the time of one customer, by days or to a second. From then on its time is frozen between calls.

    The customer may have been created without a test clock; its objects show none.
    """
    account = account_of(local, "customer", customer_id)
    clock = clock_of(account, customer_id)
    start_s = real_now_s() if clock is None else clock["frozen_time"]
    until_s = start_s + days * DAY_S if frozen_time is None else frozen_time
    if until_s < start_s:
        raise invalid("Time only moves forward.", "frozen_time")
    if clock is None:
        clock = billing_time.add_clock(account, start_s, f"Time of {customer_id}")
        account.private(account.find("customer", customer_id))["clock"] = clock["id"]
    billing_time.move(account, clock, until_s)
    local.changed.set()
    return clock
