"""Facts about subscriptions and invoices end in one state in every order, also if they are repeated."""

import itertools
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from typing import Any

import pytest

from app.payments.stripe_subscription_objects import invoice_facts
from app.payments.subscription_facts import merge_invoice, merge_subscription
from app.subscriptions.rows import invoice_of, invoice_row
from app.subscriptions.state import Invoice, Subscribed, in_force
from tests.subscriptions import stripe_events as stripe
from tests.subscriptions.made import TERMS, at, invoice, line, subscribed, subscription

SECOND = timedelta(seconds=1)
CREATED = subscription(status="incomplete")
HISTORY = [
    CREATED,
    replace(CREATED, status="active"),  # in the same second
    subscription(
        at=at("2026-02-28"), seen_at=at("2026-02-28"), period_start=at("2026-02-28"), period_end=at("2026-03-31")
    ),
    subscription(
        at=at("2026-02-28T01:00"), status="past_due", period_start=at("2026-02-28"), period_end=at("2026-03-31")
    ),
    subscription(at=at("2026-03-20"), status="canceled", ended_at=at("2026-03-20")),
]


def test_every_order_of_a_subscriptions_facts_ends_in_the_same_state() -> None:
    ends = {
        reduce(merge_subscription, (HISTORY[i] for i in (*order, *order[:2])), None)
        for order in itertools.permutations(range(len(HISTORY)))
    }
    assert ends == {HISTORY[-1]}


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {0, 1, 2, 3}])
def test_lost_facts_change_nothing_once_a_later_one_is_known(lost: set[int]) -> None:
    known = [facts for i, facts in enumerate(HISTORY) if i not in lost]
    assert reduce(merge_subscription, known, None) == HISTORY[-1]


def test_of_two_reads_in_one_second_the_later_one_counts() -> None:
    """Also if it has the earlier period: a month replaces a year."""
    first = subscription(at=CREATED.at + timedelta(milliseconds=100), period_end=at("2027-01-31"))
    second = subscription(at=CREATED.at + timedelta(milliseconds=200), period_end=at("2026-02-28"))
    assert [merge_subscription(*pair).period_end for pair in ((first, second), (second, first))] == [
        second.period_end
    ] * 2


def test_nothing_leaves_an_end() -> None:
    ended = subscription(status="canceled", at=at("2026-02-01"), ended_at=at("2026-02-01"))
    later = subscription(at=at("2026-02-02"))
    for first, second in ((ended, later), (later, ended)):
        merged = merge_subscription(first, second)
        assert merged.status == "canceled"
        assert merged.seen_at == later.at


def test_every_order_of_an_invoices_facts_ends_in_the_same_state() -> None:
    paid = invoice(1, line("price_standard", "2026-01-31", "2026-02-28")).facts
    month = paid.lines
    facts = [
        replace(paid, status="draft", lines=(), amount_paid_minor=0),
        replace(paid, status="open", at=paid.at + SECOND, amount_paid_minor=0, attempts=1),
        replace(paid, status="uncollectible", at=paid.at + 9 * SECOND, amount_paid_minor=0),
        replace(paid, at=paid.at + 2 * SECOND, payment_ids=("pi_2",)),
        replace(paid, at=paid.at + 2 * SECOND, payment_ids=("pi_1",), lines=(*month, *month)),
    ]
    ends = {reduce(merge_invoice, order, None) for order in itertools.permutations(facts)}
    [end] = ends
    assert end is not None
    assert (end.status, end.payment_ids, end.attempts, len(end.lines)) == ("paid", ("pi_1", "pi_2"), 1, 2)


@pytest.mark.parametrize(
    ("status", "days", "entitled"),
    [
        ("active", 0, True),
        ("trialing", 0, True),
        ("past_due", 6.9, True),
        ("past_due", 7, False),
        ("incomplete", 0, False),
        ("incomplete_expired", 0, False),
        ("unpaid", 0, False),
        ("paused", 0, False),
        ("canceled", 0, False),
    ],
)
def test_entitlement(status: Any, days: float, entitled: bool) -> None:
    one = subscribed(
        invoice(1, line("price_standard", "2026-01-31", "2026-02-28")),
        invoice(2, line("price_standard", "2026-02-28", "2026-03-31"), status="open", created_at=at("2026-02-28")),
        status=status,
        period_start=at("2026-02-28"),
    )
    now = at("2026-02-28") + timedelta(days=days)
    assert one.is_entitled(timedelta(days=7), now) is entitled
    assert (in_force([one], timedelta(days=7), now) is one) is entitled


def test_newest_entitled_subscription_counts_and_the_end_of_an_old_one_changes_nothing() -> None:
    def one(number: int, status: Any, price: str) -> Subscribed:
        facts = subscription(
            subscription_id=f"sub_{number}", status=status, started_at=at(f"2026-0{number}-01"), price_id=price
        )
        return Subscribed(facts, (), TERMS)

    now, grace = at("2026-04-01"), timedelta(days=7)
    new = one(2, "active", "price_pro")
    for status in ("active", "canceled", "past_due"):
        assert in_force([one(1, status, "price_standard"), new], grace, now) is new
    assert in_force([one(1, "canceled", "price_standard")], grace, now) is None


@pytest.mark.parametrize(("amounts", "discount"), [(None, 0), ([], 0), ([500, 100], 600)])
@pytest.mark.parametrize("shape", stripe.SHAPES)
def test_line_keeps_its_discounts_apart_from_its_price(shape: Any, amounts: list[int] | None, discount: int) -> None:
    period = (at("2026-01-31"), at("2026-02-28"))
    sold = stripe.line("sub_1", "price_standard", period, 2000, shape=shape)
    sold["discount_amounts"] = None if amounts is None else [{"amount": one, "discount": "di_1"} for one in amounts]
    made = stripe.invoice("in_1", "sub_1", "cus_1", [sold], period[0], shape=shape)
    facts = invoice_facts(made, at=period[0])
    assert facts is not None
    stored = invoice_row(uuid.uuid4(), Invoice(facts, {}, {}, {}), period[0])
    for found in (facts, invoice_of(stored).facts):
        assert [(one.amount_minor, one.discount_minor) for one in found.lines] == [(2000, discount)]
