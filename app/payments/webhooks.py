"""`/v1/billing/webhooks` and `/webhooks`: receive Stripe's events. Endpoints of Z-Billing keep their second address.

`StripeGateway.verify_webhook` checks the signature. `HANDLED` in stripe_objects.py lists the types of events that have
an effect. `parse_event` in stripe_events.py turns an event into facts, and settlement.py the facts into ledger entries.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from app.clock import Now
from app.http.schemas import ErrorReply, InvalidReply
from app.payments.router import Payments
from app.payments.schemas import WebhookReply

router = APIRouter(tags=["webhooks"])


ANSWERS: dict[int | str, dict[str, Any]] = {
    **{code: {"model": ErrorReply} for code in (400, 413, 503)},
    422: {"model": InvalidReply},
}
BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}}


@router.post("/v1/billing/webhooks/stripe", responses=ANSWERS, openapi_extra=BODY)
@router.post("/webhooks/stripe", responses=ANSWERS, openapi_extra=BODY, operation_id="stripe_webhook_of_z_billing")
async def stripe_webhook(
    request: Request, payments: Payments, now: Now, stripe_signature: Annotated[str | None, Header()] = None
) -> WebhookReply:
    """Answers 200 once the event's effect is committed. Any other status makes Stripe send it again."""
    await payments.handle_webhook(await request.body(), stripe_signature, now)
    return WebhookReply()
