"""Reconciliation of refunds: finds refunds that no webhook reported, and sums that do not follow from refunds."""

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app.auth.caller import Environment
from app.db import Database
from app.payments import queries
from app.payments.errors import PaymentNotFound, PaymentProviderForbids
from app.payments.facts import PaymentFacts, merge_refund
from app.payments.reconciliation_tally import Attempts
from app.payments.settlement import apply
from app.payments.stripe_gateway import StripeGateway

LISTED_FOR = timedelta(hours=24)
"""Each run lists the refunds that began within it. The event log reports the outcome of older ones."""
REPAIRED_FOR = timedelta(days=2)
log = structlog.get_logger()


async def reconcile_refunds(
    db: Database, gateway: StripeGateway, environment: Environment, now: datetime, attempts: Attempts
) -> None:
    """Book refunds that are not known by id yet, and repair what a version without refunds by id has overwritten.

    Events of API versions before 2024-10-28 do not name every refund, so the refunds themselves are listed. A
    restricted key may lack the right to list them; then the totals inside the events count. Raises
    PaymentProviderUnavailable.
    """
    try:
        async for facts in gateway.refunds_since(environment, now - LISTED_FOR, at=now):
            work = _book_if_new(db, environment, facts, now)
            await attempts.attempt("payments", work, payment_intent_id=facts.provider_payment_id)
    except PaymentProviderForbids:
        log.warning("stripe_key_may_not_list_refunds", environment=environment)
    async with db.read() as session:
        payment_intent_ids = await queries.list_misbooked_refunds(
            session, environment, gateway.provider, now - REPAIRED_FOR
        )
    for payment_intent_id in payment_intent_ids:
        work = _apply(db, environment, PaymentFacts(gateway.provider, payment_intent_id, now), now)
        await attempts.attempt("payments", work, payment_intent_id=payment_intent_id)


async def reconcile_money_back(
    db: Database, gateway: StripeGateway, account_id: UUID, purchase_id: UUID, now: datetime
) -> None:
    """Ask Stripe for the refunds and disputes of one purchase, and bring its credits to where they belong.

    Raises PaymentProviderUnavailable.
    """
    async with db.read() as session:
        purchase = await queries.find_purchase(session, account_id, purchase_id)
    if purchase is None or purchase.provider_payment_id is None:
        return
    environment = purchase.environment
    try:
        async for facts in gateway.money_back(environment, purchase.provider_payment_id, at=now):
            await _apply(db, environment, facts, now)
    except PaymentNotFound:
        return  # the keys are another account's by now
    except PaymentProviderForbids:
        log.warning("stripe_key_may_not_list_refunds_and_disputes", environment=environment)


async def _book_if_new(db: Database, environment: Environment, facts: PaymentFacts, now: datetime) -> bool:
    """Book a refund that is new, or has a new status. Return whether it was."""
    assert facts.provider_payment_id is not None
    async with db.read() as session:
        purchase = await queries.find_purchase_of_payment(
            session, environment, facts.provider, facts.provider_payment_id
        )
        if purchase is None:
            return False
        refunds = await queries.list_refunds(session, purchase.account_id, purchase.purchase_id)
    known = {refund.refund_id: refund for refund in refunds}
    if all(
        known.get(refund.refund_id) == merge_refund(known.get(refund.refund_id), refund) for refund in facts.refunds
    ):
        return False
    return await _apply(db, environment, facts, now)


async def _apply(db: Database, environment: Environment, facts: PaymentFacts, now: datetime) -> bool:
    async with db.transaction() as tx:
        return await apply(tx, environment, facts, now) != "ignored"
