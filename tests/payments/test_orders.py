"""Orders of money: the price by the account's plan, and the earlier purchases that are the same order."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.configuration.sections import PLANS
from app.configuration.service import Current
from app.errors import AppError
from app.ledger.errors import CurrencyMismatch, UnknownCurrency
from app.ledger.locked_account import LockedAccount
from app.ledger.pools import CREDIT
from app.payments.errors import InvalidAmount
from app.payments.orders import MoneyOrder, RequestedMoney
from app.payments.purchase import MONEY, Purchase
from app.plans.document import Plan, Plans
from tests.support.wallets import DOLLAR

NOW = datetime(2026, 11, 30, tzinfo=UTC)
PLAN = Plan(name="nearly_free", title="F", purchase_discount_percent="99")
TENTH = Plan(name="tenth", title="T", purchase_discount_percent="10")
CONFIG = Current(
    changes=0,
    documents={PLANS.name: Plans(plans=[Plan(name="free", title="Free"), TENTH, PLAN])},
    packs={},
    products={},
    providers={},
)
PURCHASE = Purchase(
    account_id=uuid.uuid4(),
    purchase_id=uuid.uuid4(),
    environment="live",
    pack=MONEY,
    unit="USD",
    credits=0,
    money_nanos=25 * DOLLAR,
    amount_minor=2500,
    currency="USD",
    caller_kind="user",
    idempotency_key=None,
    provider="stripe",
    status_at=NOW,
    created_at=NOW,
    updated_at=NOW,
)


def order(amount_minor: int = 2500, field: str = "amount_usd") -> MoneyOrder:
    return MoneyOrder(RequestedMoney(amount_minor, field, "user-1", "https://a.example/", "https://b.example/"), CONFIG)


def account(currency: str = "USD", plan_name: str = "free") -> LockedAccount:
    return LockedAccount(
        account_id=PURCHASE.account_id,
        environment="live",
        currency=currency,
        plan_name=plan_name,
        status="active",
        status_reason=None,
        balances={},
        daily_free_day=None,
        total_uses=0,
        last_entry_no=0,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize(
    ("wanted", "buyer", "error", "text"),
    [
        (order(field="amount_minor"), account("XAU"), UnknownCurrency, "XAU"),
        (order(), account("EUR"), CurrencyMismatch, "EUR"),
        (order(499), account(), InvalidAmount, "5.00 USD to 1000.00 USD"),
        (order(100_001), account(), InvalidAmount, "5.00 USD to 1000.00 USD"),
        (order(), account(plan_name="nearly_free"), InvalidAmount, "a price that cannot be charged"),
    ],
    ids=["currency", "dollars", "too little", "too much", "too cheap"],
)
def test_an_order_that_cannot_be_sold_is_refused(
    wanted: MoneyOrder, buyer: LockedAccount, error: type[AppError], text: str
) -> None:
    with pytest.raises(error) as raised:
        wanted.sale(buyer)
    assert text in raised.value.detail


@pytest.mark.parametrize(
    ("plan_name", "kept", "price"),
    [
        ("free", None, 2500),
        ("tenth", None, 2250),  # the plan that is on sale
        ("tenth", "25", 1875),  # the terms from when the account subscribed
        ("tenth", "0", 2500),
        ("withdrawn", "12.5", 2187),
    ],
)
def test_the_discount_is_that_of_the_terms_that_the_account_keeps(plan_name: str, kept: str | None, price: int) -> None:
    buyer = account(plan_name=plan_name)
    buyer.plan_discount_percent = None if kept is None else Decimal(kept)
    sale = order().sale(buyer)
    assert (sale.amount_minor, sale.money_nanos) == (price, 25 * DOLLAR)
    assert sale.discount_percent == Decimal(kept or {"tenth": "10"}.get(plan_name, "0"))


@pytest.mark.parametrize("amount_minor", [500, 100_000])
def test_the_least_and_the_largest_amount_are_sold(amount_minor: int) -> None:
    sale = order(amount_minor).sale(account())
    assert (sale.amount_minor, sale.money_nanos) == (amount_minor, amount_minor * DOLLAR // 100)


@pytest.mark.parametrize(
    ("wanted", "earlier", "is_same"),
    [
        (order(), PURCHASE, True),
        (order(field="amount_minor"), replace(PURCHASE, unit="EUR", currency="EUR"), True),
        (order(), replace(PURCHASE, unit="EUR", currency="EUR"), False),
        (order(2501), PURCHASE, False),
        (order(), replace(PURCHASE, unit=CREDIT, pack="standard", credits=20), False),
    ],
)
def test_an_order_is_the_same_as_an_earlier_purchase(wanted: MoneyOrder, earlier: Purchase, is_same: bool) -> None:
    assert wanted.matches(earlier) is is_same
