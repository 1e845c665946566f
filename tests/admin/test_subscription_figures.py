"""Recurring revenue, churn and conversion: the definitions as tables of cases, and the page's answer."""

import itertools
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from app.admin.subscriptions import figures_queries
from app.admin.subscriptions.figures import Month, PriceSum, last_months, percent, recurring_revenue
from app.payments.models import Purchase
from app.subscriptions.models import Subscription, SubscriptionInvoice, SubscriptionTerms
from tests.admin.conftest import Office
from tests.admin.subscribers import DAY, open_account, sell, subscribe, today
from tests.subscriptions.made import at

JAN, FEB, MAR = at("2026-01-01"), at("2026-02-01"), at("2026-03-01")
GRACE = timedelta(days=7)
NOW = at("2026-03-15")


@pytest.mark.parametrize(
    ("now", "first", "last"),
    [
        (at("2026-03-15"), (at("2025-04-01"), at("2025-05-01")), (MAR, at("2026-04-01"))),
        (at("2026-12-31T23:59:59"), (JAN, FEB), (at("2026-12-01"), at("2027-01-01"))),
        (JAN, (at("2025-02-01"), at("2025-03-01")), (JAN, FEB)),
    ],
)
def test_last_twelve_months(now: datetime, first: tuple[datetime, datetime], last: tuple[datetime, datetime]) -> None:
    months = last_months(now)
    assert (len(months), months[0], months[-1]) == (12, Month(*first), Month(*last))
    assert all(one.end == following.start for one, following in itertools.pairwise(months))
    assert months[-1].valued_at(now) == now
    assert months[0].valued_at(now) == first[1] - timedelta(microseconds=1)


def price(
    amount: int, interval: Any = "month", currency: str = "USD", paying: int = 1, when: datetime = NOW
) -> PriceSum:
    return PriceSum(when, currency, interval, amount, paying)


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ([], []),
        ([price(2000)], [("USD", 2000, 1)]),
        ([price(12_000, "year")], [("USD", 1000, 1)]),
        ([price(20_000, "year")], [("USD", 1667, 1)]),  # 1,666.67
        ([price(6, "year")], [("USD", 1, 1)]),  # half up
        ([price(5, "year")], [("USD", 0, 1)]),
        ([price(4000, paying=2), price(20_000, "year")], [("USD", 5667, 3)]),  # rounded after the sum
        ([price(2000), price(1000, currency="EUR")], [("EUR", 1000, 1), ("USD", 2000, 1)]),
        ([price(0, paying=0)], [("USD", 0, 0)]),
        ([price(2000, when=JAN)], []),
    ],
)
def test_recurring_revenue_is_per_month_and_currency(
    sums: list[PriceSum], expected: list[tuple[str, int, int]]
) -> None:
    assert [(one.currency, one.amount_minor, one.paying) for one in recurring_revenue(sums, NOW)] == expected


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, None),
        (1, 0, None),
        (0, 5, "0.0"),
        (1, 3, "33.3"),
        (2, 3, "66.7"),
        (1, 1, "100.0"),
        (3, 2, "150.0"),
        (1, 2000, "0.1"),
    ],
)
def test_percent(part: int, whole: int, expected: str | None) -> None:
    assert percent(part, whole) == expected


def line(start: datetime, end: datetime, amount: int = 2000, price_id: str = "p", **fields: Any) -> dict[str, Any]:
    times = {"start": int(start.timestamp()), "end": int(end.timestamp())}
    return {"price_id": price_id, "amount_minor": amount, "is_proration": False, **times, **fields}


CURRENT, YEAR = line(MAR, at("2026-04-01")), line(at("2025-06-01"), at("2026-06-01"), 24_000, "y")
CASES: list[tuple[str, dict[str, Any], list[dict[str, Any]], int | None]] = [
    # currency, the subscription, its invoices, what it counts at NOW: per interval. None: it does not count.
    ("PAD", {}, [{"lines": [CURRENT]}], 2000),
    ("YEA", {}, [{"lines": [YEAR], "created_at": at("2025-06-01")}], 24_000),
    ("DIS", {}, [{"lines": [{**CURRENT, "discount_minor": 500}]}], 1500),
    ("FRE", {}, [{"lines": [{**CURRENT, "discount_minor": 2000}]}], 0),
    ("TRI", {"status": "trialing"}, [{"lines": [line(MAR, at("2026-04-01"), 0)], "amount_paid_minor": 0}], 0),
    ("OLD", {}, [{"lines": [line(FEB, MAR)], "created_at": FEB}], None),
    ("GRA", {"status": "past_due"}, [{"lines": [CURRENT], "status": "open", "created_at": NOW - 6 * DAY}], 2000),
    ("PAS", {"status": "past_due"}, [{"lines": [CURRENT], "status": "open", "created_at": NOW - 7 * DAY}], None),
    ("DRA", {}, [{"lines": [CURRENT], "status": "draft", "created_at": NOW}], 2000),
    ("VOI", {}, [{"lines": [CURRENT], "status": "void"}], None),
    ("UNP", {"status": "unpaid"}, [{"lines": [CURRENT], "status": "open", "created_at": NOW}], None),
    ("INC", {"status": "incomplete"}, [{"lines": [CURRENT], "status": "open", "created_at": NOW}], None),
    ("CAN", {"cancel_at": at("2026-04-01")}, [{"lines": [CURRENT]}], 2000),
    ("END", {"status": "canceled", "ended_at": NOW}, [{"lines": [CURRENT]}], None),
    ("LAT", {"status": "canceled", "ended_at": NOW + DAY}, [{"lines": [CURRENT]}], 2000),
    ("REF", {}, [{"lines": [CURRENT], "refunded_minor": 2000}], None),
    ("PAR", {}, [{"lines": [CURRENT], "refunded_minor": 500}], 2000),
    ("DSP", {}, [{"lines": [CURRENT], "withdrawn_minor": 2000}], None),
    (  # an upgrade in mid-period: the price is the list price, not the part that was charged
        "UPG",
        {},
        [
            {"lines": [CURRENT]},
            {
                "lines": [
                    line(at("2026-03-10"), at("2026-04-01"), -1400, is_proration=True),
                    line(at("2026-03-10"), at("2026-04-01"), 3500, "q", is_proration=True),
                ]
            },
        ],
        5000,
    ),
]
PRICES = [
    {"interval": "month", "amount_minor": 2000, "stripe_price_test": "p"},
    {"interval": "year", "amount_minor": 24_000, "stripe_price_test": "y"},
    {"interval": "month", "amount_minor": 5000, "stripe_price_test": "q"},
]
ONE = {"provider": "stripe", "environment": "test", "at": NOW, "seen_at": NOW, "updated_at": NOW, "created_at": NOW}


async def store(office: Office, model: Any, *rows: dict[str, Any]) -> None:
    columns = {column.name for column in model.__table__.columns}
    async with office.db.transaction() as tx:
        for row in rows:
            await tx.execute(insert(model).values({name: row[name] for name in columns & row.keys()}))


def subscription(account_id: uuid.UUID, key: str, **fields: Any) -> dict[str, Any]:
    times = {"anchor": at("2025-06-01"), "started_at": at("2025-06-01")}
    return {**ONE, "account_id": account_id, "subscription_id": key, "status": "active", **times, **fields}


def invoice(account_id: uuid.UUID, key: str, **fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"payment_ids": [], "refunds": {}, "disputes": {}, "refunds_reported": {}, "lines": []}
    amounts = {"amount_due_minor": 2000, "amount_paid_minor": 2000, "refunded_minor": 0, "withdrawn_minor": 0}
    ids = {"account_id": account_id, "invoice_id": str(uuid.uuid4()), "subscription_id": key}
    return {**ONE, **ids, **empty, **amounts, "status": "paid", "currency": "USD", "attempts": 1, **fields}


async def test_recurring_revenue_counts_the_subscriptions_in_force(office: Office) -> None:
    account_id = await open_account(office, JAN, "test")
    for key, fields, invoices, _ in CASES:
        await store(office, Subscription, subscription(account_id, key, **fields))
        kept = [{**ONE, "account_id": account_id, "subscription_id": key, "plan_name": "plan"} for _ in PRICES]
        for row, one in zip(kept, PRICES, strict=True):
            row |= {"price_id": one["stripe_price_test"], "plan_interval": one["interval"], "terms": {"prices": PRICES}}
        await store(office, SubscriptionTerms, *kept)
        await store(
            office,
            SubscriptionInvoice,
            *(invoice(account_id, key, **{"currency": key, "created_at": MAR, **each}) for each in invoices),
        )
    async with office.db.read() as session:
        rows = await figures_queries.list_price_sums(session, "test", [FEB, NOW], GRACE)
    found = {row["currency"]: row["amount_minor"] for row in rows if row["at"] == NOW}
    assert found == {key: expected for key, _, _, expected in CASES if expected is not None}
    assert {row["currency"] for row in rows if row["at"] == FEB} == {"YEA", "OLD"}
    assert {row["currency"] for row in rows if row["paying"] == 0} == {"FRE", "TRI"}


async def test_churn_is_of_those_active_at_the_start_of_the_month(office: Office) -> None:
    account_id = await open_account(office, JAN, "live")
    moments = {
        "stays": (JAN, None, "active"),
        "ends at the start": (JAN, FEB, "canceled"),
        "ends in it": (JAN, FEB + DAY, "canceled"),
        "ends after it": (JAN, MAR, "canceled"),
        "begins in it": (FEB, None, "past_due"),
        "begins and ends in it": (FEB + DAY, FEB + 2 * DAY, "canceled"),
        "begins after it": (MAR, None, "active"),
        "was never paid": (JAN, None, "incomplete_expired"),
    }
    rows = [
        subscription(account_id, key, environment="live", started_at=start, ended_at=end, status=status)
        for key, (start, end, status) in moments.items()
    ]
    await store(office, Subscription, *rows)
    async with office.db.read() as session:
        [row] = await figures_queries.list_churn(session, "live", [Month(FEB, MAR)])
    assert (row["active_at_start"], row["ended"], row["began"]) == (4, 2, 2)


async def test_conversion_counts_the_first_payment_of_an_account(office: Office) -> None:
    created = {"pays at once": FEB, "pays later": JAN, "paid before": JAN, "pays nothing": FEB, "pays by a pack": FEB}
    accounts = {name: await open_account(office, when, "test") for name, when in created.items()}
    for name, months in {"pays at once": [FEB, MAR], "pays later": [FEB], "paid before": [JAN, FEB]}.items():
        await store(office, SubscriptionInvoice, *(invoice(accounts[name], "s", created_at=month) for month in months))
    free = invoice(accounts["pays nothing"], "s", created_at=FEB, amount_paid_minor=0)
    await store(office, SubscriptionInvoice, free)
    sold = {"pack": "small", "unit": "credit", "credits": 20, "amount_minor": 500, "currency": "USD", "attempt": 1}
    paid = {
        "status": "succeeded",
        "status_at": FEB,
        "received_minor": 500,
        "refunded_minor": 0,
        "credit_id": uuid.uuid4(),
    }
    taken = {"credits_refunded": 0, "credits_disputed": 0, "money_nanos": 0}
    ids = {"account_id": accounts["pays by a pack"], "purchase_id": uuid.uuid4()}
    await store(office, Purchase, {**ONE, **sold, **paid, **taken, **ids, "created_at": FEB})
    async with office.db.read() as session:
        [row] = await figures_queries.list_conversion(session, "test", [Month(FEB, MAR)])
    assert (row["new_accounts"], row["began_to_pay"]) == (3, 3)


async def test_page_answers_for_twelve_months(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await sell(admin)
    await subscribe(office, today() - DAY)
    answer = await viewer.get("/admin/subscription-figures")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (len(found["months"]), found["environment"]) == (12, "live")
    assert found["months"][-1]["recurring"] == [{"currency": "USD", "amount_minor": 2000, "paying": 1}]
    assert sum(month["began"] for month in found["months"]) >= 1
    assert sum(month["began_to_pay"] for month in found["months"]) == 1
