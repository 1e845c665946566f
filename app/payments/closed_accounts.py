"""Money that arrived for a closed account: it goes back to the payer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from app.db import Database
from app.ledger.locked_account import lock_account
from app.payments import queries
from app.payments.errors import RefundRefused
from app.payments.gateway import StripeGateway
from app.payments.settlement import apply

ACCOUNT_CLOSED = "account_closed"
"""The request key of these refunds: no admin asked for them."""
log = structlog.get_logger()


async def give_back(db: Database, gateway: StripeGateway, purchase: Mapping[str, Any], now: datetime) -> bool:
    """Refund all that is left of a purchase's money; whether Stripe does. What it refuses waits for an admin.

    Idempotent: the key at Stripe is the purchase's. Raises PaymentProviderUnavailable.
    """
    account_id, purchase_id = purchase["account_id"], purchase["purchase_id"]
    environment, payment_id = purchase["environment"], purchase["payment_intent_id"]
    key = f"refund {purchase_id} {ACCOUNT_CLOSED}"
    try:
        facts = await gateway.refund(
            environment, payment_id, None, idempotency_key=key, request_key=ACCOUNT_CLOSED, at=now
        )
    except RefundRefused as error:
        log.error("refund_of_closed_account_refused", purchase_id=str(purchase_id), reason=error.detail)
        async with db.transaction() as tx:
            await lock_account(tx, account_id)
            await queries.note_refused_refund(tx, account_id, purchase_id, now)
        return False
    async with db.transaction() as tx:
        await apply(tx, environment, facts, now)
    return True
