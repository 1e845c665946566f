"""Settlement: the one way in which a payment, refund or dispute becomes credits or money, and ledger entries.

Webhooks, polls and reconciliation all come through `apply`.
"""

from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

import structlog

from app.auth.caller import Actor, Environment
from app.billing.posting import give_credits
from app.db import Session
from app.ledger.locked_account import Kind, LockedAccount, lock_account, write
from app.ledger.refill_hooks import end_refills
from app.outbox import defer
from app.payments import event_queries, queries
from app.payments.facts import (
    FINAL_DISPUTE,
    PaymentFacts,
    is_withdrawn,
    merge_dispute,
    merge_refund,
    refunded_money,
    taken_back,
)
from app.payments.purchase import Purchase
from app.wallet.money_credits import give_money
from app.wallet.referrals import payment_settled

REFUND_CLOSED = "refund_closed"
"""The task that gives money back that arrived for a closed account."""
SETTLE_REFILL = "settle_refill"
"""The task that records the outcome of an automatic refill, and sends its payment if that has not happened."""
Outcome = Literal["applied", "ignored", "review"]
log = structlog.get_logger()


async def apply(tx: Session, environment: Environment, facts: PaymentFacts, now: datetime) -> Outcome:
    """Merge facts into their purchase, and bring its credits or money to where they now belong. Locks the account.

    "ignored": the payment is none of ours. "review": money arrived, but not as agreed, so nothing was credited.
    """
    found = await _find(tx, environment, facts)
    if found is None:
        return "ignored"
    account = await lock_account(tx, found.account_id)
    # The row that was read before the lock may be old.
    purchase = await queries.find_purchase(tx, found.account_id, found.purchase_id)
    assert purchase is not None
    known = purchase
    if _is_of_another(purchase, facts):
        # It names our purchase, but it is not the payment that we gave to the buyer.
        log.error("payment_of_another_intent", payment_intent_id=facts.provider_payment_id, paid=facts.received_minor)
        return "ignored"
    if account.erased_at is not None:
        facts = replace(facts, card=None, receipt_url=None)  # erased with the person
    purchase = _merge(purchase, facts)
    purchase = await _merge_refunds(tx, purchase, facts, now)
    withdrawn_minor = await _merge_disputes(tx, purchase, facts, now)
    purchase = replace(await _settle(tx, account, purchase, withdrawn_minor, now), updated_at=now)
    await queries.update_purchase(tx, known, purchase)
    await write(tx, [account], now)
    if purchase.is_refill and (purchase.status, purchase.credit_id) != (known.status, known.credit_id):
        await defer(tx, SETTLE_REFILL, purchase.as_job, now)
    if purchase.is_kept and not known.is_kept:
        await payment_settled(tx, account.account_id, now)
    return "review" if purchase.review_reason else "applied"


async def _find(tx: Session, environment: Environment, facts: PaymentFacts) -> Purchase | None:
    """Find by the payment's id; else by our ids in its metadata, for a payment whose id we died before storing."""
    purchase = None
    if facts.provider_payment_id is not None:
        purchase = await queries.find_purchase_of_payment(tx, environment, facts.provider, facts.provider_payment_id)
    if purchase is None and facts.account_id is not None and facts.purchase_id is not None:
        purchase = await queries.find_purchase(tx, facts.account_id, facts.purchase_id)
    if purchase is None or (purchase.environment, purchase.provider) != (environment, facts.provider):
        return None
    return purchase


def _is_of_another(purchase: Purchase, facts: PaymentFacts) -> bool:
    """Return whether the facts are about another payment, or another checkout session, than the purchase's."""
    ids = (
        (purchase.provider_payment_id, facts.provider_payment_id),
        (purchase.checkout_session_id, facts.session_id),
    )
    return any(None not in pair and pair[0] != pair[1] for pair in ids)


def _merge(purchase: Purchase, facts: PaymentFacts) -> Purchase:
    """Return the purchase with the payment's ids, money, card and status as the facts state them."""
    purchase = replace(
        purchase,
        provider_payment_id=facts.provider_payment_id or purchase.provider_payment_id,
        checkout_session_id=facts.session_id or purchase.checkout_session_id,
        receipt_url=facts.receipt_url or purchase.receipt_url,
    )
    if facts.received_minor is not None and not purchase.is_booked:
        purchase = replace(purchase, received_minor=facts.received_minor, received_currency=facts.received_currency)
    if (card := facts.card) is not None:
        purchase = replace(
            purchase,
            card_fingerprint=card.fingerprint or purchase.card_fingerprint,
            card_brand=card.brand or purchase.card_brand,
            card_last4=card.last4 or purchase.card_last4,
        )
    open_still = purchase.received_minor is None and purchase.status != "canceled"
    is_later = facts.at >= purchase.status_at.replace(microsecond=0)  # events have whole seconds
    if facts.status is not None and open_still and (is_later or facts.status == "canceled"):
        purchase = replace(purchase, status=facts.status, status_at=facts.at, next_action=facts.next_action)
    return purchase


async def _merge_refunds(tx: Session, purchase: Purchase, facts: PaymentFacts, now: datetime) -> Purchase:
    """Store the refunds that the facts state. Return the purchase with `refunded_minor` brought up to date.

    A version without refunds by id writes the reported total into `refunded_minor`; therefore both count as reported.
    Our own sum in it changes nothing: no sum exceeds both the reported total and the refunds known by id.
    """
    refunds = {
        refund.refund_id: refund for refund in await queries.list_refunds(tx, purchase.account_id, purchase.purchase_id)
    }
    for refund in facts.refunds:
        merged = merge_refund(refunds.get(refund.refund_id), refund)
        if merged != refunds.get(refund.refund_id):
            refunds[refund.refund_id] = merged
            await queries.upsert_refund(tx, purchase.key, merged, now)
    reported_minor = max(purchase.refunds_reported_minor or 0, purchase.refunded_minor, facts.refunded_minor or 0)
    return replace(
        purchase,
        refunds_reported_minor=reported_minor,
        refunded_minor=refunded_money(reported_minor, refunds.values()),
    )


async def _merge_disputes(tx: Session, purchase: Purchase, facts: PaymentFacts, now: datetime) -> int:
    """Store the dispute that the facts state. Return the money that disputes have withdrawn, in minor units.

    A dispute that takes the money ends refills, once: a person may switch them on again after its decision.
    """
    disputes = {dispute.dispute_id: dispute for dispute in await queries.list_disputes(tx, purchase.key)}
    if (dispute := facts.dispute) is not None:
        dispute = replace(dispute, decided_at=facts.at if dispute.status in FINAL_DISPUTE else None)
        known = disputes.get(dispute.dispute_id)
        payment_id = purchase.provider_payment_id
        if known is not None and known.status in FINAL_DISPUTE and known.decided_at is None and payment_id is not None:
            # A version without times of decisions keeps the first decision that it receives.
            decided_at = await event_queries.find_first_decision(tx, purchase.environment, facts.provider, payment_id)
            known = replace(known, decided_at=decided_at)
        merged = merge_dispute(known, dispute)
        await queries.upsert_dispute(tx, purchase.key, merged, now)
        if is_withdrawn(merged) and not is_withdrawn(known):
            await end_refills(tx, purchase.account_id, "disputed", now)
        disputes[dispute.dispute_id] = merged
    return sum(d.amount_minor for d in disputes.values() if is_withdrawn(d))


async def _settle(
    tx: Session, account: LockedAccount, purchase: Purchase, withdrawn_minor: int, now: datetime
) -> Purchase:
    """Move the credits or money that the purchase's payment calls for. Return the purchase as it is afterwards."""
    if purchase.received_minor is None:
        return purchase  # refunds and disputes that overtook the payment wait for it
    if not purchase.is_booked:
        problem = _problem(account, purchase)
        if problem is not None:
            if purchase.refunded_minor + withdrawn_minor >= purchase.received_minor > 0:
                # The money is back with the payer, so no review is needed.
                return replace(purchase, status="canceled", review_reason=None)
            return await _send_to_review(tx, purchase, problem, now)
        credit_id = await _give(tx, account, purchase, purchase.sold, Kind.PURCHASE, now)
        purchase = replace(purchase, credit_id=credit_id, status="succeeded")
    target = taken_back(
        sold=purchase.sold,
        amount_minor=purchase.amount_minor,
        refunded_minor=purchase.refunded_minor,
        withdrawn_minor=withdrawn_minor,
    )
    booked = purchase.taken_back
    returned = [
        (booked.refunded - target.refunded, Kind.REFUND_REVERSAL),
        (booked.disputed - target.disputed, Kind.DISPUTE_REINSTATEMENT),
    ]
    if not _has_room(account, purchase, sum(max(0, amount) for amount, _ in returned)):
        log.error("balance_limit", purchase_id=str(purchase.purchase_id))
        return replace(purchase, review_reason="balance_limit")
    for amount, kind in returned:  # first, so that no debt is recorded for a moment
        await _give(tx, account, purchase, max(0, amount), kind, now)
    await _give(tx, account, purchase, min(0, booked.refunded - target.refunded), Kind.REFUND_REVERSAL, now)
    await _give(tx, account, purchase, min(0, booked.disputed - target.disputed), Kind.DISPUTE_REVERSAL, now)
    return replace(purchase.with_taken_back(target), review_reason=None)


async def _send_to_review(tx: Session, purchase: Purchase, problem: str, now: datetime) -> Purchase:
    """Credit nothing until an admin, or the refund of a closed account's payment, settles it."""
    known = purchase.review_reason
    if problem == "account_closed" and known == "refund_refused":
        problem = known
    elif problem == "account_closed" and known != problem:
        await defer(tx, REFUND_CLOSED, purchase.as_job, now)
    if known is None:
        received = (purchase.received_minor, purchase.received_currency)
        log.error("payment_not_as_sold", purchase_id=str(purchase.purchase_id), why=problem, received=received)
    return replace(purchase, status="unknown", review_reason=problem)


def _problem(account: LockedAccount, purchase: Purchase) -> str | None:
    """Return why money that arrived cannot become the credits or the money that was sold. None: it can.

    A suspended account gets what it bought: suspension ends, and it must not cost the buyer what was paid for.
    """
    if account.status == "closed":
        return "account_closed"
    if (purchase.received_minor, purchase.received_currency) != (purchase.amount_minor, purchase.currency):
        return "amount_mismatch"
    return None if _has_room(account, purchase, purchase.sold) else "balance_limit"


def _has_room(account: LockedAccount, purchase: Purchase, amount: int) -> bool:
    return account.has_room_for_money(amount) if purchase.is_money else account.has_room_for(amount)


async def _give(
    tx: Session, account: LockedAccount, purchase: Purchase, amount: int, kind: Kind, now: datetime
) -> UUID | None:
    """Add credits or money, or take them where the number is negative. Return the credit's id, None for nothing."""
    if amount == 0:
        return None
    suffix = ", refund undone" if kind is Kind.REFUND_REVERSAL and amount > 0 else ""
    actor = Actor(purchase.provider, purchase.provider)
    if purchase.is_money:
        money = await give_money(
            tx,
            account,
            amount,
            kind,
            actor=actor,
            now=now,
            description=f"{'Automatic refill' if purchase.is_refill else 'Purchase'} of {purchase.money_text}{suffix}",
            external_transaction_id=purchase.provider_payment_id,
        )
        return money.money_credit_id
    credit = await give_credits(
        tx,
        account,
        amount,
        kind.value,
        actor=actor,
        now=now,
        description=f"{purchase.pack} pack{suffix}",
        external_transaction_id=purchase.provider_payment_id,
    )
    return credit.credit_id
