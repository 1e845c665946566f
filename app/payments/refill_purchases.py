"""Purchases that refills make: opened without a click, and paid with a saved card. For app/refills.

purchase = await insert_refill(tx, account, "stripe", amount_minor, now)  # the account is locked
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from app.db import Database, Session
from app.db.statements import Tx, fetch
from app.ledger.locked_account import LockedAccount
from app.ledger.money import nanos_of_minor
from app.outbox import defer
from app.payments import queries
from app.payments.facts import Provider
from app.payments.opening import insert_sale
from app.payments.orders import Sale
from app.payments.purchase import REFILL, Purchase
from app.payments.settlement import SETTLE_REFILL

# A canceled refill was not paid. One under review was.
_SUM = """
    SELECT coalesce(sum(money_nanos), 0)::bigint AS nanos FROM purchases
     WHERE account_id = $1 AND pack = $2 AND created_at >= $3 AND status <> 'canceled'
    """
_FIND_OPEN_DISPUTE = "SELECT 1 FROM purchase_disputes WHERE account_id = $1 AND status = 'open' LIMIT 1"
_FIND_CREDITS = "SELECT credit_id FROM purchases WHERE account_id = $1 AND pack = $2 AND credit_id = ANY ($3::uuid[])"


async def insert_refill(
    tx: Session, account: LockedAccount, provider: Provider, amount_minor: int, now: datetime
) -> Purchase:
    """Insert the purchase of a refill for a locked account. The price is the amount: no discount applies."""
    currency = account.currency
    nanos = nanos_of_minor(amount_minor, currency)
    sale = Sale(pack=REFILL, currency=currency, amount_minor=amount_minor, unit=currency, money_nanos=nanos)
    return await insert_sale(tx, account.environment, provider, account, sale, now)


async def find_refill_purchase(db: Session, account_id: UUID, purchase_id: UUID) -> Purchase | None:
    return await queries.find_purchase(db, account_id, purchase_id)


async def cancel_unopened(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    """Cancel a purchase unless it has been opened at the provider since it was read. The account is locked."""
    await queries.cancel_unopened(tx, account_id, purchase_id, now)


async def hand_over(db: Database, purchase: Purchase, now: datetime) -> None:
    """Let the worker settle a refill: only app/refills may send its payment, or decide that it was not sent."""
    async with db.transaction() as tx:
        await defer(tx, SETTLE_REFILL, purchase.as_job, now)
        await queries.touch_purchase(tx, purchase.account_id, purchase.purchase_id, now)


async def sum_of_refills(tx: Tx, account_id: UUID, since: datetime) -> int:
    """Return the nanos of refills that began since then: paid, in flight, and under review."""
    [row] = await fetch(tx, _SUM, account_id, REFILL, since)
    nanos: int = row["nanos"]
    return nanos


async def has_open_dispute(tx: Tx, account_id: UUID) -> bool:
    """Return whether a payment of the account is disputed, without a decision so far."""
    return bool(await fetch(tx, _FIND_OPEN_DISPUTE, account_id))


async def refills_among(tx: Tx, account_id: UUID, money_credit_ids: Collection[UUID]) -> set[UUID]:
    """Return the credits of money that refills became."""
    if not money_credit_ids:
        return set()
    rows = await fetch(tx, _FIND_CREDITS, account_id, REFILL, list(money_credit_ids))
    return {row["credit_id"] for row in rows}
