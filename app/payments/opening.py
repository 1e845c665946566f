"""Opening of purchases: stores what is sold at which price, and reuses the purchase of an earlier click."""

from dataclasses import fields
from datetime import datetime, timedelta
from uuid import UUID

from app.auth.caller import CallerKind, Environment
from app.billing.posting import require_currency
from app.db import Session, new_id
from app.ledger.errors import IdempotencyKeyReused
from app.ledger.locked_account import LockedAccount, lock_account
from app.outbox import defer
from app.payments import queries
from app.payments.errors import TooManyOpenPurchases
from app.payments.facts import BEGUN_FOR, CANCELED_AFTER, Provider
from app.payments.orders import Order, Sale
from app.payments.purchase import Purchase

REUSED_FOR = timedelta(hours=1)
"""A second click within this time gets the payment of the first, while that is unpaid."""
STUCK_AFTER = timedelta(minutes=10)


async def find_or_insert(
    tx: Session,
    environment: Environment,
    account_id: UUID,
    order: Order,
    *,
    provider: Provider,
    caller_kind: CallerKind,
    idempotency_key: str | None,
    max_open: int,
    now: datetime,
) -> Purchase:
    """Return the purchase of this click. Insert a new one with a job that reconciles it later.

    Locks the account. Raises IdempotencyKeyReused, TooManyOpenPurchases, AccountSuspended, AccountClosed, and as
    `Order.sale` and CurrencyMismatch.
    """
    account = await lock_account(tx, account_id)
    account.require_active()
    existing = None
    if idempotency_key is not None:  # it names the earlier purchase, even of a pack that is no longer sold
        existing = await queries.find_purchase_by_key(tx, account_id, caller_kind, idempotency_key)
        if existing is not None:
            if not order.matches(existing):
                raise IdempotencyKeyReused(idempotency_key)
            return existing
    sale = order.sale(account)
    if idempotency_key is None:
        existing = await queries.find_open_purchase(
            tx, account_id, provider, sale.terms, fresh_since=now - REUSED_FOR, begun_since=now - BEGUN_FOR
        )
        if existing is not None:
            return existing
    open_purchases = await queries.count_open_purchases(
        tx, account_id, open_since=now - CANCELED_AFTER, begun_since=now - BEGUN_FOR, limit=max_open
    )
    if open_purchases >= max_open:
        raise TooManyOpenPurchases(max_open)
    require_currency(account, sale.currency)  # reports count the revenue of an account in one currency
    return await insert_sale(tx, environment, provider, account, sale, now, caller_kind, idempotency_key)


async def insert_sale(
    tx: Session,
    environment: Environment,
    provider: Provider,
    account: LockedAccount,
    sale: Sale,
    now: datetime,
    caller_kind: CallerKind | None = None,
    idempotency_key: str | None = None,
) -> Purchase:
    """Insert a purchase of a locked account, with a job that reconciles it later."""
    purchase = Purchase(
        account_id=account.account_id,
        purchase_id=new_id(),
        environment=environment,
        provider=provider,
        **{field.name: getattr(sale, field.name) for field in fields(sale)},
        idempotency_key=idempotency_key,
        caller_kind=caller_kind,
        status_at=now,
        created_at=now,
        updated_at=now,
    )
    await queries.insert_purchase(tx, purchase)
    await defer(tx, "reconcile_purchase", purchase.as_job, now + STUCK_AFTER)
    return purchase
