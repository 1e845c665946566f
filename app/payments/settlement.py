"""The one way in which a payment becomes credits: webhooks, polls and reconciliation all come through here."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal

import structlog

from app.auth.caller import Actor, Environment
from app.billing.posting import give_credits
from app.db import Session
from app.jobs import defer
from app.ledger.locked_account import Kind, LockedAccount, lock_account, write
from app.payments import queries
from app.payments.facts import (
    FINAL_DISPUTE,
    WITHDRAWN_DISPUTE,
    PaymentFacts,
    TakenBack,
    merge_dispute,
    merge_refund,
    refunded_money,
    taken_back,
)

STRIPE = Actor("stripe", "stripe")
REFUND_CLOSED = "refund_closed"
"""The task that gives money back that arrived for a closed account."""
Outcome = Literal["applied", "ignored", "review"]
log = structlog.get_logger()


async def apply(tx: Session, environment: Environment, facts: PaymentFacts, now: datetime) -> Outcome:
    """Merge facts into their purchase, and bring its credits to where they now belong. Locks the account.

    "ignored": the payment is none of ours. "review": money arrived, but not as agreed, so nothing was credited.
    """
    found = await _find(tx, environment, facts)
    if found is None:
        return "ignored"
    account = await lock_account(tx, found["account_id"])
    # What was read before the lock may be old.
    purchase = await queries.find_purchase(tx, found["account_id"], found["purchase_id"])
    assert purchase is not None
    known = dict(purchase)
    if purchase["payment_intent_id"] not in (None, facts.payment_intent_id):
        # It names our purchase, but it is not the payment that we gave to the buyer.
        log.error("payment_of_another_intent", payment_intent_id=facts.payment_intent_id, paid=facts.received_minor)
        return "ignored"
    if account.erased_at is not None:
        facts = replace(facts, card=None)  # which has been forgotten, and stays so
    _merge(purchase, facts)
    await _merge_refunds(tx, purchase, facts, now)
    withdrawn_minor = await _merge_disputes(tx, purchase, facts, now)
    await _settle(tx, account, purchase, withdrawn_minor, now)
    # Not the other columns: the erasure of a person clears some of them without the account's lock.
    changes = {name: value for name, value in purchase.items() if value != known[name]}
    changes["updated_at"] = now
    await queries.update_purchase(tx, known["account_id"], known["purchase_id"], changes)
    await write(tx, [account], now)
    return "review" if purchase["review_reason"] else "applied"


async def _find(tx: Session, environment: Environment, facts: PaymentFacts) -> Mapping[str, Any] | None:
    """By the payment's id; or by our ids in its metadata, when we died between Stripe's answer and writing it down."""
    purchase = await queries.find_purchase_of_payment(tx, environment, facts.payment_intent_id)
    if purchase is None and facts.account_id is not None and facts.purchase_id is not None:
        purchase = await queries.find_purchase(tx, facts.account_id, facts.purchase_id)
    return purchase if purchase is not None and purchase["environment"] == environment else None


def _merge(purchase: dict[str, Any], facts: PaymentFacts) -> None:
    purchase["payment_intent_id"] = facts.payment_intent_id
    if facts.received_minor is not None and purchase["credit_id"] is None:
        purchase["received_minor"] = facts.received_minor
        purchase["received_currency"] = facts.received_currency
    if facts.card is not None:
        for name, value in asdict(facts.card).items():
            purchase[f"card_{name}"] = value or purchase[f"card_{name}"]
    open_still = purchase["received_minor"] is None and purchase["status"] != "canceled"
    if facts.status is not None and open_still and (facts.at >= purchase["status_at"] or facts.status == "canceled"):
        purchase["status"], purchase["status_at"] = facts.status, facts.at
        purchase["next_action"] = facts.next_action


async def _merge_refunds(tx: Session, purchase: dict[str, Any], facts: PaymentFacts, now: datetime) -> None:
    """Store the refunds that were stated, and bring the purchase's `refunded_minor` up to date.

    A version without refunds by id writes the reported total into `refunded_minor`; therefore both count as reported.
    Our own sum in it changes nothing: no sum exceeds both the reported total and the refunds known by id.
    """
    keys = {"account_id": purchase["account_id"], "purchase_id": purchase["purchase_id"]}
    refunds = {refund.refund_id: refund for refund in await queries.list_refunds(tx, **keys)}
    for said in facts.refunds:
        merged = merge_refund(refunds.get(said.refund_id), said)
        if merged != refunds.get(said.refund_id):
            refunds[said.refund_id] = merged
            await queries.upsert_refund(tx, {**keys, **asdict(merged), "updated_at": now})
    reported = (purchase["refunds_reported_minor"], purchase["refunded_minor"], facts.refunded_minor)
    purchase["refunds_reported_minor"] = max(minor or 0 for minor in reported)
    purchase["refunded_minor"] = refunded_money(purchase["refunds_reported_minor"], refunds.values())


async def _merge_disputes(tx: Session, purchase: Mapping[str, Any], facts: PaymentFacts, now: datetime) -> int:
    """The money that disputes have withdrawn, in minor units."""
    keys = {"account_id": purchase["account_id"], "purchase_id": purchase["purchase_id"]}
    disputes = {dispute.dispute_id: dispute for dispute in await queries.list_disputes(tx, **keys)}
    if (said := facts.dispute) is not None:
        said = replace(said, decided_at=facts.at if said.status in FINAL_DISPUTE else None)
        known = disputes.get(said.dispute_id)
        if known is not None and known.status in FINAL_DISPUTE and known.decided_at is None:
            # A version without times of decisions keeps the first decision that it receives.
            decided_at = await queries.find_first_decision(tx, purchase["environment"], facts.payment_intent_id)
            known = replace(known, decided_at=decided_at)
        merged = merge_dispute(known, said)
        await queries.upsert_dispute(tx, {**keys, **asdict(merged), "updated_at": now})
        disputes[said.dispute_id] = merged
    return sum(d.amount_minor for d in disputes.values() if d.status in WITHDRAWN_DISPUTE)


async def _settle(
    tx: Session, account: LockedAccount, purchase: dict[str, Any], withdrawn_minor: int, now: datetime
) -> None:
    if purchase["received_minor"] is None:
        return  # refunds and disputes that overtook the payment wait for it
    if purchase["credit_id"] is None:
        problem = _problem(account, purchase)
        if problem is not None:
            if purchase["refunded_minor"] + withdrawn_minor >= purchase["received_minor"] > 0:
                # The money is back where it came from: nobody has to look at it any more.
                purchase["status"], purchase["review_reason"] = "canceled", None
                return
            await _send_to_review(tx, purchase, problem, now)
            return
        await _give(tx, account, purchase, purchase["credits"], Kind.PURCHASE, now)
        purchase["status"] = "succeeded"
    target = taken_back(
        credits=purchase["credits"],
        amount_minor=purchase["amount_minor"],
        refunded_minor=purchase["refunded_minor"],
        withdrawn_minor=withdrawn_minor,
    )
    booked = TakenBack(purchase["credits_refunded"], purchase["credits_disputed"])
    returned = [
        (booked.refunded - target.refunded, Kind.REFUND_REVERSAL),
        (booked.disputed - target.disputed, Kind.DISPUTE_REINSTATEMENT),
    ]
    if not account.has_room_for(sum(max(0, credits) for credits, _ in returned)):
        log.error("balance_limit", purchase_id=str(purchase["purchase_id"]))
        purchase["review_reason"] = "balance_limit"
        return
    for credits, kind in returned:  # first, so that no debt is recorded for a moment
        await _give(tx, account, purchase, max(0, credits), kind, now)
    await _give(tx, account, purchase, min(0, booked.refunded - target.refunded), Kind.REFUND_REVERSAL, now)
    await _give(tx, account, purchase, min(0, booked.disputed - target.disputed), Kind.DISPUTE_REVERSAL, now)
    purchase["credits_refunded"], purchase["credits_disputed"] = target.refunded, target.disputed
    purchase["review_reason"] = None


async def _send_to_review(tx: Session, purchase: dict[str, Any], problem: str, now: datetime) -> None:
    """Keep the money out of the credits until a person, or the refund of a closed account's payment, settles it."""
    known = purchase["review_reason"]
    if problem == "account_closed" and known == "refund_refused":
        problem = known
    elif problem == "account_closed" and known != problem:
        job = {"account_id": str(purchase["account_id"]), "purchase_id": str(purchase["purchase_id"])}
        await defer(tx, REFUND_CLOSED, job, now)
    if known is None:
        received = (purchase["received_minor"], purchase["received_currency"])
        log.error("payment_not_as_sold", purchase_id=str(purchase["purchase_id"]), why=problem, received=received)
    purchase["status"], purchase["review_reason"] = "unknown", problem


def _problem(account: LockedAccount, purchase: Mapping[str, Any]) -> str | None:
    """Why money that arrived cannot become the credits that were sold; None: it can.

    A suspended account gets its credits: suspension ends, and it must not cost the buyer what was paid for.
    """
    if account.status == "closed":
        return "account_closed"
    if (purchase["received_minor"], purchase["received_currency"]) != (purchase["amount_minor"], purchase["currency"]):
        return "amount_mismatch"
    return None if account.has_room_for(purchase["credits"]) else "balance_limit"


async def _give(
    tx: Session, account: LockedAccount, purchase: dict[str, Any], credits: int, kind: Kind, now: datetime
) -> None:
    if credits == 0:
        return
    returns = kind is Kind.REFUND_REVERSAL and credits > 0
    credit = await give_credits(
        tx,
        account,
        credits,
        kind.value,
        actor=STRIPE,
        now=now,
        description=f"{purchase['pack']} pack{', refund undone' if returns else ''}",
        external_transaction_id=purchase["payment_intent_id"],
    )
    if kind is Kind.PURCHASE:
        purchase["credit_id"] = credit.credit_id
