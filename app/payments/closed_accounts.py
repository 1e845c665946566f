"""Refunds to the payers of money that arrived for closed accounts."""

from datetime import datetime

import structlog

from app.db import Database
from app.ledger.locked_account import lock_account
from app.payments import queries
from app.payments.errors import RefundRefused
from app.payments.facts import UNDONE_REFUND
from app.payments.purchase import Purchase
from app.payments.settlement import apply
from app.payments.stripe_gateway import StripeGateway

ACCOUNT_CLOSED = "account_closed"
"""The request key of these refunds: no admin asked for them."""
log = structlog.get_logger()


async def give_back(db: Database, gateway: StripeGateway, purchase: Purchase, payment_id: str, now: datetime) -> bool:
    """Refund the rest of a purchase's money. Return whether Stripe does; a refusal waits for an admin.

    So does the money of a refund that failed later, since the next one would fail as well. Idempotent: the key at
    Stripe is the purchase's. Raises PaymentProviderUnavailable.
    """
    async with db.read() as session:
        earlier = await queries.find_refund_of_request(session, purchase.key, ACCOUNT_CLOSED)
    if earlier is not None and earlier.status in UNDONE_REFUND:
        log.error("refund_of_closed_account_failed", purchase_id=str(purchase.purchase_id))
        await _leave_to_an_admin(db, purchase, now)
        return False
    key = f"refund {purchase.purchase_id} {ACCOUNT_CLOSED}"
    try:
        facts = await gateway.refund(
            purchase.environment, payment_id, None, idempotency_key=key, request_key=ACCOUNT_CLOSED, at=now
        )
    except RefundRefused as error:
        log.error("refund_of_closed_account_refused", purchase_id=str(purchase.purchase_id), reason=error.detail)
        await _leave_to_an_admin(db, purchase, now)
        return False
    async with db.transaction() as tx:
        await apply(tx, purchase.environment, facts, now)
    return True


async def _leave_to_an_admin(db: Database, purchase: Purchase, now: datetime) -> None:
    async with db.transaction() as tx:
        await lock_account(tx, purchase.account_id)
        await queries.note_refused_refund(tx, purchase.account_id, purchase.purchase_id, now)
