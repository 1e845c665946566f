"""Opening of purchases: the pack and price that are sold, and the reuse of a purchase by a second click."""

from datetime import datetime, timedelta
from uuid import UUID

from app.auth.caller import CallerKind, Environment
from app.billing.posting import require_currency
from app.configuration.service import Current
from app.db import Session, new_id
from app.ledger.errors import IdempotencyKeyReused
from app.ledger.locked_account import LockedAccount, lock_account
from app.outbox import defer
from app.payments import queries
from app.payments.errors import TooManyOpenPurchases, UnknownPack
from app.payments.facts import BEGUN_FOR, CANCELED_AFTER, Provider
from app.payments.purchase import Purchase

REUSED_FOR = timedelta(hours=1)
"""A second click within this time gets the payment of the first, while that is unpaid."""
STUCK_AFTER = timedelta(minutes=10)


async def find_or_insert(
    tx: Session,
    environment: Environment,
    account_id: UUID,
    config: Current,
    *,
    provider: Provider,
    pack: str | None,
    caller_kind: CallerKind,
    idempotency_key: str | None,
    max_open: int,
    now: datetime,
) -> Purchase:
    """Return the purchase of this click. Insert a new one with a job that reconciles it later.

    Locks the account. `pack` None is the first pack in the account's currency. Raises UnknownPack,
    CurrencyMismatch, IdempotencyKeyReused, TooManyOpenPurchases, AccountSuspended, AccountClosed.
    """
    account = await lock_account(tx, account_id)
    account.require_active()
    existing = None
    if idempotency_key is not None:  # it names the earlier purchase, even of a pack that is no longer sold
        existing = await queries.find_purchase_by_key(tx, account_id, caller_kind, idempotency_key)
        if existing is not None and pack not in (None, existing.pack):
            raise IdempotencyKeyReused(idempotency_key)
    name = pack or config.default_pack(account.currency) or next(iter(config.packs))
    if existing is None and name not in config.packs:
        raise UnknownPack(name, list(config.packs))
    if idempotency_key is None:
        existing = await queries.find_open_purchase(
            tx, account_id, provider, name, fresh_since=now - REUSED_FOR, begun_since=now - BEGUN_FOR
        )
    if existing is not None:
        return existing
    open_purchases = await queries.count_open_purchases(
        tx, account_id, open_since=now - CANCELED_AFTER, begun_since=now - BEGUN_FOR, limit=max_open
    )
    if open_purchases >= max_open:
        raise TooManyOpenPurchases(max_open)
    return await _insert(tx, environment, provider, account, config, name, caller_kind, idempotency_key, now)


async def _insert(
    tx: Session,
    environment: Environment,
    provider: Provider,
    account: LockedAccount,
    config: Current,
    pack: str,
    caller_kind: CallerKind,
    idempotency_key: str | None,
    now: datetime,
) -> Purchase:
    sold = config.packs[pack]
    require_currency(account, sold.currency)  # reports count the revenue of an account in one currency
    purchase = Purchase(
        account_id=account.account_id,
        purchase_id=new_id(),
        environment=environment,
        provider=provider,
        pack=pack,
        credits=sold.credits,
        amount_minor=sold.price_minor,
        currency=sold.currency,
        idempotency_key=idempotency_key,
        caller_kind=caller_kind,
        status_at=now,
        created_at=now,
        updated_at=now,
    )
    await queries.insert_purchase(tx, purchase)
    await defer(tx, "reconcile_purchase", purchase.as_job, now + STUCK_AFTER)
    return purchase
