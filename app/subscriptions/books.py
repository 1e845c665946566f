"""Books of an account's subscriptions: loads them under the account's lock, merges facts, and stores what changed."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import structlog

from app.auth.caller import Environment
from app.configuration.sections import PLANS
from app.configuration.service import Current
from app.db import Session
from app.ledger.refill_hooks import end_refills
from app.outbox import defer
from app.payments.customer_queries import ObjectKind, find_object, insert_object
from app.payments.facts import FINAL_DISPUTE, PaymentFacts, Provider, is_withdrawn, merge_dispute, merge_refund
from app.payments.subscription_facts import (
    InvoiceFacts,
    InvoicePaymentFacts,
    SubscriptionFacts,
    merge_invoice,
    merge_subscription,
)
from app.subscriptions import queries
from app.subscriptions.queries import Row
from app.subscriptions.rows import invoice_of, invoice_row, subscription_of, subscription_row, terms_of, terms_row
from app.subscriptions.state import Invoice, Subscribed, Terms

REFRESH = "refresh_subscription"
"""The task that reads a subscription, its invoices and their payments from the provider."""
AnyFacts = SubscriptionFacts | InvoiceFacts | InvoicePaymentFacts | PaymentFacts
log = structlog.get_logger()


@dataclass(slots=True)
class Book:
    """All that is known about the subscriptions of a locked account."""

    account_id: UUID
    environment: Environment
    subscriptions: dict[str, SubscriptionFacts]
    invoices: dict[str, Invoice]
    terms: dict[tuple[str, str], Terms]
    """By subscription and price."""
    grants: list[Row]
    subscriber: Row | None
    to_refresh: set[str] = field(default_factory=set)
    """Subscriptions of which the facts so far are incomplete."""

    def subscribed(self) -> list[Subscribed]:
        """Return the subscriptions with their invoices and terms, the oldest first."""
        return [
            Subscribed(
                facts,
                tuple(i for i in self.invoices.values() if i.facts.subscription_id == key),
                {price: terms for (its, price), terms in self.terms.items() if its == key},
            )
            for key, facts in self.subscriptions.items()
        ]


async def load(tx: Session, account_id: UUID, environment: Environment) -> Book:
    """Load the books of a locked account."""
    invoices = [invoice_of(row) for row in await queries.list_invoices(tx, account_id)]
    return Book(
        account_id=account_id,
        environment=environment,
        subscriptions={
            row["subscription_id"]: subscription_of(row) for row in await queries.list_subscriptions(tx, account_id)
        },
        invoices={invoice.facts.invoice_id: invoice for invoice in invoices},
        terms={
            (row["subscription_id"], row["price_id"]): terms_of(row) for row in await queries.list_terms(tx, account_id)
        },
        grants=list(await queries.list_period_grants(tx, account_id)),
        subscriber=await queries.find_subscriber(tx, account_id),
    )


async def find_account(tx: Session, environment: Environment, facts: AnyFacts) -> UUID | None:
    """Return the account that facts are about: by the object, its subscription, its customer, or our id in it.

    None: the facts are none of ours.
    """
    known = [_object_of(facts)]
    if isinstance(facts, InvoiceFacts):
        known.append(facts.subscription_id)
    if isinstance(facts, SubscriptionFacts | InvoiceFacts):
        known.append(facts.customer_id)
    for object_id in known:
        found = None if object_id is None else await find_object(tx, environment, facts.provider, object_id)
        if found is not None:
            account_id: UUID = found["account_id"]
            return account_id
    return facts.account_id if isinstance(facts, SubscriptionFacts | InvoiceFacts) else None


def _object_of(facts: AnyFacts) -> str | None:
    if isinstance(facts, SubscriptionFacts):
        return facts.subscription_id
    return facts.provider_payment_id if isinstance(facts, PaymentFacts) else facts.invoice_id


async def merge(tx: Session, book: Book, facts: AnyFacts, now: datetime) -> bool:
    """Merge facts into the books, and store them. Return False if the facts are about nothing that is known."""
    if isinstance(facts, SubscriptionFacts):
        await _merge_subscription(tx, book, facts, now)
        return True
    if isinstance(facts, InvoiceFacts):
        await _merge_invoice(tx, book, facts, now)
        return True
    if isinstance(facts, InvoicePaymentFacts):
        invoice = book.invoices.get(facts.invoice_id)
        if invoice is None:
            return False
        ids = {*invoice.facts.payment_ids, facts.payment_id}
        await _merge_invoice(tx, book, replace(invoice.facts, payment_ids=tuple(sorted(ids))), now)
        return True
    return await _merge_money_back(tx, book, facts, now)


async def _merge_subscription(tx: Session, book: Book, facts: SubscriptionFacts, now: datetime) -> None:
    key = facts.subscription_id
    known = book.subscriptions.get(key)
    merged = merge_subscription(known, facts)
    if known is None:
        await _note(tx, book, facts.provider, key, "subscription", now)
    elif _is_ambiguous(known, facts):
        book.to_refresh.add(key)  # Stripe's times do not say which of both is the later one
    if merged != known:
        book.subscriptions[key] = merged
        await queries.upsert_subscription(tx, subscription_row(book.account_id, book.environment, merged, now))


def _is_ambiguous(one: SubscriptionFacts, other: SubscriptionFacts) -> bool:
    """Return whether two statements differ, and their times do not say which is the later one.

    Events have whole seconds; reads have the exact time.
    """
    if one.at.replace(microsecond=0) != other.at.replace(microsecond=0) or (
        one.at.microsecond and other.at.microsecond
    ):
        return False
    return (one.status, one.price_id, one.cancel_at) != (other.status, other.price_id, other.cancel_at)


async def _merge_invoice(tx: Session, book: Book, facts: InvoiceFacts, now: datetime) -> None:
    known = book.invoices.get(facts.invoice_id)
    merged = merge_invoice(None if known is None else known.facts, facts)
    if known is not None and merged == known.facts:
        return
    if known is None:
        await _note(tx, book, facts.provider, facts.invoice_id, "invoice", now)
    before = set() if known is None else set(known.facts.payment_ids)
    for payment_id in sorted(set(merged.payment_ids) - before):
        await _note(tx, book, facts.provider, payment_id, "payment", now, parent_id=facts.invoice_id)
        book.to_refresh.add(facts.subscription_id)  # its refunds may have overtaken it
    if merged.is_paid and merged.amount_paid_minor > 0 and not (known and known.facts.is_paid):
        book.to_refresh.add(facts.subscription_id)  # an event does not name the payment
    if merged.subscription_id not in book.subscriptions:
        book.to_refresh.add(facts.subscription_id)
    await _store(tx, book, Invoice(merged, {}, {}, {}) if known is None else replace(known, facts=merged), now)


async def _merge_money_back(tx: Session, book: Book, facts: PaymentFacts, now: datetime) -> bool:
    """Merge the refunds and the dispute of a payment into its invoice."""
    payment_id = facts.provider_payment_id
    found = None if payment_id is None else await find_object(tx, book.environment, facts.provider, payment_id)
    invoice = None if found is None or found["parent_id"] is None else book.invoices.get(found["parent_id"])
    if invoice is None or payment_id is None:
        return False
    refunds, reported, disputes = dict(invoice.refunds), dict(invoice.reported), dict(invoice.disputes)
    for refund in facts.refunds:
        known = refunds.get(refund.refund_id)
        refunds[refund.refund_id] = (payment_id, merge_refund(None if known is None else known[1], refund))
    if facts.refunded_minor is not None:
        reported[payment_id] = max(reported.get(payment_id, 0), facts.refunded_minor)
    if (dispute := facts.dispute) is not None:
        stated = replace(dispute, decided_at=facts.at if dispute.status in FINAL_DISPUTE else None)
        known_dispute = disputes.get(dispute.dispute_id)
        merged = disputes[dispute.dispute_id] = merge_dispute(known_dispute, stated)
        if is_withdrawn(merged) and not is_withdrawn(known_dispute):
            await end_refills(tx, book.account_id, "disputed", now)
    await _store(tx, book, Invoice(invoice.facts, refunds, reported, disputes), now)
    return True


async def _store(tx: Session, book: Book, invoice: Invoice, now: datetime) -> None:
    if invoice != book.invoices.get(invoice.facts.invoice_id):
        book.invoices[invoice.facts.invoice_id] = invoice
        await queries.upsert_invoice(tx, invoice_row(book.account_id, invoice, now))


async def _note(
    tx: Session,
    book: Book,
    provider: Provider,
    object_id: str,
    kind: ObjectKind,
    now: datetime,
    *,
    parent_id: str | None = None,
) -> None:
    await insert_object(tx, book.environment, provider, object_id, kind, book.account_id, now, parent_id=parent_id)


async def complete_terms(tx: Session, book: Book, config: Current, now: datetime) -> None:
    """Store the terms of every price that is new to its subscription: of its order, or of the plans in force."""
    needed = {(key, facts.price_id) for key, facts in book.subscriptions.items() if facts.price_id is not None}
    needed |= {
        (invoice.facts.subscription_id, line.price_id)
        for invoice in book.invoices.values()
        for line in invoice.facts.lines
        if invoice.facts.subscription_id in book.subscriptions
    }
    for key, price_id in sorted(needed - book.terms.keys()):
        terms = await _offered(tx, book, key, price_id) or _in_force(config, book.environment, price_id)
        if terms is None:
            log.error("price_without_a_plan", subscription_id=key, price_id=price_id)
            continue
        book.terms[key, price_id] = terms
        facts = book.subscriptions[key]
        ids = {"account_id": book.account_id, "provider": facts.provider, "subscription_id": key, "price_id": price_id}
        await queries.insert_terms(tx, {**ids, **terms_row(terms), "created_at": now})


async def _offered(tx: Session, book: Book, key: str, price_id: str) -> Terms | None:
    """Return the terms of the order that the subscription fulfills, and close the order."""
    order_id = book.subscriptions[key].order_id
    order = None if order_id is None else await queries.find_order(tx, book.account_id, order_id)
    if order is None or order["price_id"] != price_id:
        return None
    return terms_of(order)


def _in_force(config: Current, environment: Environment, price_id: str) -> Terms | None:
    """Return the terms of a price of the provider, by the plans in force."""
    for plan in config.document(PLANS).plans:
        for price in plan.prices:
            if price.stripe_price(environment) == price_id:
                return Terms(plan, price.interval)
    return None


async def close_orders(tx: Session, book: Book, now: datetime) -> None:
    """Close the open order that a subscription fulfills."""
    order = await queries.find_open_order(tx, book.account_id)
    if order is None:
        return
    fulfilled = [key for key, facts in book.subscriptions.items() if facts.order_id == order["order_id"]]
    if fulfilled and book.subscriptions[fulfilled[0]].status != "incomplete":
        changes = {"status": "closed", "subscription_id": fulfilled[0]}
        await queries.update_order(tx, book.account_id, order["order_id"], now, **changes)


async def request_refreshes(tx: Session, book: Book, now: datetime) -> None:
    """Schedule a read from the provider of the subscriptions of which the facts are incomplete."""
    for key in sorted(book.to_refresh):
        args = {"account_id": str(book.account_id), "environment": book.environment, "subscription_id": key}
        await defer(tx, REFRESH, args, now)
