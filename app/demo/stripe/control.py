"""`/_control`: simulated actions and faults on Stripe's side. The real Stripe has no such routes."""

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from app.demo.stripe import checkout, setup_intents
from app.demo.stripe.account import Account
from app.demo.stripe.disputes import CaseType, RefundOutcome
from app.demo.stripe.objects import Object, StripeError, invalid
from app.demo.stripe.store import SESSION
from app.demo.stripe.versions import VERSIONS
from app.demo.stripe.webhooks import Faults

router = APIRouter(prefix="/_control")


class BrokenConnection(Response):
    """Starts a response and never ends it, so that the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


class Failure(BaseModel):
    """Makes the next `times` requests fail, either `after` they were executed, or instead."""

    method: str = "POST"
    path: str = "/v1/payment_intents"
    times: int = 1
    after: bool = False
    status: int | None = Field(default=500, description="null: break the connection.")
    code: str | None = Field(default=None, description="Stripe's code of the error.")
    slow_s: float = Field(default=0, ge=0, le=60, description="Delay before the failure.")
    hold_s: float = Field(
        default=0,
        ge=0,
        le=60,
        description="Instead of failing, execute it after this delay; its key is in use until then.",
    )

    async def answer(self) -> Response:
        await asyncio.sleep(self.slow_s)
        if self.status is None:
            return BrokenConnection()
        return JSONResponse(self.body(), self.status)

    def body(self) -> Object:
        kind = "rate_limit_error" if self.status == 429 else "api_error"
        return {"error": {"type": kind, "code": self.code, "message": "failed on purpose"}}


class FaultsBody(BaseModel):
    delay_s: float = 0
    drop: int = 0
    duplicate: int = 0
    hold: bool = False
    types: list[str] = []


async def local_stripe(request: Request) -> Any:
    return request.app.state.local


Local = Annotated[Any, Depends(local_stripe)]


def _intent(local: Any, intent_id: str) -> tuple[Account, Object]:
    for account in local.accounts.values():
        if intent_id in account.objects["payment_intent"]:
            return account, account.objects["payment_intent"][intent_id]
    raise _missing("payment_intent", intent_id)


def _missing(kind: str, object_id: str) -> StripeError:
    return StripeError(404, "invalid_request_error", f"No such {kind}: '{object_id}'", code="resource_missing")


@router.post("/webhooks")
async def set_faults(body: FaultsBody, local: Local) -> dict[str, bool]:
    """Delay, drop, duplicate or hold the next deliveries."""
    local.deliverer.faults = Faults(**body.model_dump())
    return {"ok": True}


@router.post("/webhooks/url")
async def set_url(
    local: Local, url: Annotated[str | None, Body()], publishable_key: Annotated[str | None, Body()] = None
) -> dict[str, bool]:
    """Set the webhook URL of one account or of all; null for none."""
    for account in local.accounts.values():
        if publishable_key in (None, account.config.publishable_key):
            account.config = replace(account.config, webhook_url=url)
    return {"ok": True}


@router.post("/webhooks/version")
async def set_version(local: Local, version: Annotated[str, Body(embed=True)]) -> dict[str, bool]:
    """Send webhooks in the shapes of this API version, one of VERSIONS."""
    if version not in VERSIONS:
        raise invalid(f"The versions are {', '.join(VERSIONS)}.", "version")
    for account in local.accounts.values():
        account.config = replace(account.config, webhook_version=version)
    return {"ok": True}


@router.post("/webhooks/release")
async def release(local: Local, reverse: Annotated[bool, Body(embed=True)] = False) -> dict[str, int]:
    """Send the held deliveries, in order or reversed."""
    return {"released": local.deliverer.release(reverse=reverse)}


@router.post("/events/{event_id}/resend")
async def resend(event_id: str, local: Local) -> dict[str, bool]:
    account = account_of(local, "event", event_id)
    local.deliverer.publish(account, account.objects["event"][event_id])
    return {"ok": True}


@router.get("/deliveries")
async def deliveries(local: Local) -> dict[str, Any]:
    """Return all deliveries with their outcomes, and whether none is pending."""
    return {"idle": local.deliverer.idle, "deliveries": local.deliverer.listed()}


@router.get("/failures")
async def failures(local: Local) -> list[Failure]:
    """Return the failures that calls have still to meet."""
    return [failure for failure in local.failures if failure.times > 0]


@router.post("/failures")
async def add_failure(body: Failure, local: Local) -> dict[str, bool]:
    local.failures.append(body)
    return {"ok": True}


@router.post("/payment_intents/{intent_id}/succeed")
async def succeed(
    intent_id: str,
    local: Local,
    amount_received: Annotated[int | None, Body()] = None,
    currency: Annotated[str | None, Body()] = None,
) -> Object:
    """Receive the money of an open payment; or another amount or currency."""
    account, intent = _intent(local, intent_id)
    return account.succeed(intent, received=amount_received, currency=currency)


@router.post("/payment_intents/{intent_id}/fail")
async def fail(intent_id: str, local: Local) -> Object:
    account, intent = _intent(local, intent_id)
    return account.fail(intent)


@router.post("/setup_intents/{intent_id}/{decision}")
async def decide_setup(intent_id: str, decision: Literal["succeed", "fail"], local: Local) -> Object:
    """Act as the buyer's bank, for a setup that requires 3-D Secure."""
    account = account_of(local, "setup_intent", intent_id)
    intent = account.find("setup_intent", intent_id)
    return (setup_intents.succeed if decision == "succeed" else setup_intents.fail)(account, intent)


@router.post("/checkout_sessions/{session_id}/pay")
async def pay_session(session_id: str, local: Local, method: Annotated[str, Body(embed=True)]) -> Object:
    """Pay as the buyer on the hosted page: with the name of a test card, or a payment method that takes days."""
    account = account_of(local, SESSION, session_id)
    return checkout.pay(account, checkout.find(account, session_id), method)


@router.post("/checkout_sessions/{session_id}/expire")
async def expire_session(session_id: str, local: Local) -> Object:
    """Let the session's time be over."""
    account = account_of(local, SESSION, session_id)
    return checkout.expire(account, checkout.find(account, session_id))


@router.post("/payment_intents/{intent_id}/dispute")
async def dispute(
    intent_id: str,
    local: Local,
    amount: Annotated[int | None, Body()] = None,
    inquiry: Annotated[bool, Body()] = False,
    prevented: Annotated[CaseType | None, Body()] = None,
) -> Object:
    account, intent = _intent(local, intent_id)
    return account.open_dispute(intent, amount=amount, inquiry=inquiry, prevented=prevented)


@router.post("/disputes/{dispute_id}/close")
async def close(dispute_id: str, local: Local, outcome: Annotated[Literal["won", "lost"], Body(embed=True)]) -> Object:
    account = account_of(local, "dispute", dispute_id)
    return account.close_dispute(account.find("dispute", dispute_id), outcome)


@router.post("/disputes/{dispute_id}/redecide")
async def redecide(dispute_id: str, local: Local) -> Object:
    """Reverse the issuer's decision."""
    account = account_of(local, "dispute", dispute_id)
    return account.redecide_dispute(account.find("dispute", dispute_id))


@router.post("/refunds/{refund_id}/settle")
async def settle_refund(refund_id: str, local: Local, outcome: Annotated[RefundOutcome, Body(embed=True)]) -> Object:
    """Settle a refund: it succeeds, fails or is canceled."""
    account = account_of(local, "refund", refund_id)
    return account.settle_refund(account.find("refund", refund_id), outcome)


def account_of(local: Any, kind: str, object_id: str) -> Account:
    for account in local.accounts.values():
        if object_id in account.objects[kind]:
            found: Account = account
            return found
    raise _missing(kind, object_id)
