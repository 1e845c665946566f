"""Stripe's events about bought money in every order and repeated: the money is the same in the end."""

import itertools
import random
from typing import Any
from uuid import UUID

import pytest

from app.demo.stripe import checkout
from app.demo.stripe.account import Account, AccountConfig
from app.demo.stripe.followers import FOLLOWERS
from app.demo.stripe.store import PRIVATE, SESSION
from tests.payments.conftest import Event, Shop, with_settings
from tests.payments.money_pages import click, purchase_of
from tests.support.wallets import DOLLAR
from tests.wallet.test_money_credits import spend

PRICE = 2000
PRO = {"default_plan_name": "pro"}
"""20 % off: 25 dollars cost 20."""


class PageHistory:
    """Stripe's side of one page, made by the local Stripe's own logic: its events, to be delivered at will."""

    def __init__(self, session: dict[str, Any]) -> None:
        self.events: list[Event] = []
        self.account = Account(AccountConfig("pk", "whsec"), lambda _, event: self.events.append(event), FOLLOWERS)
        price = {"currency": "usd", "unit_amount": str(session["amount_total"]), "product_data": {"name": "Credits"}}
        form = {
            "mode": "payment",
            "line_items": {"0": {"price_data": price, "quantity": "1"}},
            "success_url": session["success_url"],
            "metadata": session["metadata"],
            "payment_intent_data": {"metadata": session["metadata"]},
        }
        self.session = checkout.create(self.account, form)
        for kind in (SESSION, PRIVATE):
            self.account.objects[kind][session["id"]] = self.account.objects[kind].pop(self.session["id"])
        self.session["id"] = session["id"]

    def pay(self, method: str = "pm_card_visa") -> dict[str, Any]:
        return checkout.pay(self.account, self.session, method)

    def charge(self) -> dict[str, Any]:
        return self.account.charge_of(self.session["payment_intent"])

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event["type"] in kinds]


async def opened(shop: Shop) -> tuple[UUID, PageHistory]:
    """An account, and the history of the page that it opened."""
    account_id = await shop.account()
    page = await click(shop, account_id)
    return account_id, PageHistory(await shop.stripe("GET", f"checkout/sessions/{page.session_id}"))


async def deliver_in(order: tuple[int, ...], shop: Shop, events: list[Event]) -> None:
    """Deliver in this order, some of it twice, and all of it once more."""
    for i in order:
        await shop.deliver(events[i])
        if random.random() < 0.3:
            await shop.deliver(events[random.choice(order)])
    for event in random.sample(events, len(events)):
        await shop.deliver(event)


async def end_of(shop: Shop, account_id: UUID) -> tuple[Any, ...]:
    purchase = await purchase_of(shop, account_id)
    names = ("status", "received_minor", "refunded_minor", "money_refunded_nanos", "money_disputed_nanos")
    return (*await shop.money(account_id), *(purchase[name] for name in (*names, "review_reason")))


PAID, COMPLETED = "payment_intent.succeeded", "checkout.session.completed"
REFUNDED, REFUND = "charge.refunded", "refund.created"
DISPUTED, DECIDED = "charge.dispute.created", "charge.dispute.closed"


@with_settings(**PRO)
@pytest.mark.parametrize(
    ("kinds", "outcome", "taken"),
    [
        ((PAID, COMPLETED, REFUNDED, REFUND), None, (25, 0)),
        ((COMPLETED, REFUNDED, DISPUTED, DECIDED), "won", (25, 0)),
        ((COMPLETED, REFUNDED, DISPUTED, DECIDED), "lost", (25, 75)),
        ((PAID, REFUND, DISPUTED, DECIDED), "lost", (25, 75)),
    ],
    ids=["refunded", "won", "lost", "lost, without the session"],
)
async def test_every_permutation_ends_in_the_same_money(
    shop: Shop, kinds: tuple[str, ...], outcome: Any, taken: tuple[int, int]
) -> None:
    """Paid, refunded by a quarter, the rest disputed and decided: every order, with random duplicates.

    `taken`: by the refund and by the dispute, in quarters of a dollar.
    """
    ends = set()
    for order in itertools.permutations(range(4)):
        account_id, history = await opened(shop)
        intent = history.pay()
        history.account.refund(history.charge(), PRICE // 4, None)
        if outcome is not None:
            dispute = history.account.open_dispute(intent, amount=PRICE * 3 // 4)
            history.account.close_dispute(dispute, outcome)
        events = history.of(*kinds)
        assert len(events) == 4
        await deliver_in(order, shop, events)
        ends.add(await end_of(shop, account_id))
    refunded, disputed = (quarters * DOLLAR // 4 for quarters in taken)
    money = 25 * DOLLAR - refunded - disputed
    assert ends == {(money, 0, "succeeded", PRICE, PRICE // 4, refunded, disputed, None)}


PAID_LATER = (
    "checkout.session.completed",
    "payment_intent.processing",
    "payment_intent.succeeded",
    "checkout.session.async_payment_succeeded",
)
FAILED_LATER = (
    "checkout.session.completed",
    "payment_intent.processing",
    "payment_intent.payment_failed",
    "checkout.session.async_payment_failed",
)


@pytest.mark.parametrize(
    ("kinds", "outcome", "money", "status"),
    [(PAID_LATER, "succeed", 25 * DOLLAR, "succeeded"), (FAILED_LATER, "fail", 0, "canceled")],
)
async def test_every_order_of_a_delayed_payment_ends_the_same(
    shop: Shop, kinds: tuple[str, ...], outcome: str, money: int, status: str
) -> None:
    for order in itertools.permutations(range(4)):
        account_id, history = await opened(shop)
        intent = history.pay("pm_card_processing")
        getattr(history.account, outcome)(intent)
        events = history.of(*kinds)
        assert len(events) == 4
        await deliver_in(order, shop, events)
        assert (await end_of(shop, account_id))[:3] == (money, 0, status), order


async def test_every_order_of_a_declined_and_expired_page_ends_the_same(shop: Shop) -> None:
    for order in itertools.permutations(range(3)):
        account_id, history = await opened(shop)
        with pytest.raises(Exception, match="declined"):
            history.pay("pm_card_chargeDeclined")
        checkout.expire(history.account, history.session)
        events = history.of("payment_intent.payment_failed", "payment_intent.canceled", "checkout.session.expired")
        assert len(events) == 3
        await deliver_in(order, shop, events)
        assert (await end_of(shop, account_id))[:3] == (0, 0, "canceled"), order


async def test_spent_money_becomes_debt_which_the_next_purchase_pays(shop: Shop) -> None:
    account_id, history = await opened(shop)
    history.pay()
    for event in history.of("checkout.session.completed"):
        await shop.deliver(event)
    await spend(shop.db, account_id, 20 * DOLLAR, shop.now)
    history.account.refund(history.charge(), None, None)
    for event in history.of("charge.refunded", "refund.created"):
        await shop.deliver(event)
    assert await shop.money(account_id) == (0, 20 * DOLLAR)
    page = await click(shop, account_id)
    again = PageHistory(await shop.stripe("GET", f"checkout/sessions/{page.session_id}"))
    again.pay()
    for event in again.of("payment_intent.succeeded"):
        await shop.deliver(event)
    assert await shop.money(account_id) == (5 * DOLLAR, 0)


async def test_failed_refund_and_won_dispute_give_the_money_back(shop: Shop) -> None:
    account_id, history = await opened(shop)
    intent = history.pay()
    refund = history.account.refund(history.charge(), 1000, None)
    dispute = history.account.open_dispute(intent, amount=1500)
    steps = {
        ("checkout.session.completed",): 25 * DOLLAR,
        ("refund.created",): 15 * DOLLAR,
        ("charge.dispute.created",): 0,
    }
    for kinds, money in steps.items():
        for event in history.of(*kinds):
            await shop.deliver(event)
        assert await shop.money(account_id) == (money, 0)
    history.account.settle_refund(refund, "failed")
    history.account.close_dispute(dispute, "won")
    for event in history.of("refund.failed", "charge.dispute.closed"):
        await shop.deliver(event)
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
    rows = await shop.rows("SELECT transaction_type, amount_nanos FROM money_credits ORDER BY entry_no")
    assert [(row["transaction_type"], row["amount_nanos"] // DOLLAR) for row in rows] == [
        ("purchase", 25),
        ("refund_reversal", -10),
        ("dispute_reversal", -15),
        ("refund_reversal", 10),
        ("dispute_reinstatement", 15),
    ]


async def test_lifetime_total_counts_what_was_bought_and_kept(shop: Shop) -> None:
    account_id, history = await opened(shop)
    history.pay()
    history.account.refund(history.charge(), 500, None)
    for event in history.of("checkout.session.completed", "charge.refunded"):
        await shop.deliver(event)
    [row] = await shop.rows("SELECT money_purchased_nanos FROM accounts WHERE account_id = $1", account_id)
    assert row["money_purchased_nanos"] == 20 * DOLLAR


async def test_refund_here_takes_the_money_back_at_once_and_never_twice(shop: Shop) -> None:
    account_id, purchase_id = await shop.account(), None
    page = await click(shop, account_id)
    await shop.control(f"checkout_sessions/{page.session_id}/pay", method="pm_card_visa")
    await shop.deliver_all(("checkout.session.completed",))
    purchase_id = (await purchase_of(shop, account_id))["purchase_id"]
    for _ in range(2):
        await shop.payments.refund(account_id, purchase_id, 1000, "ticket", shop.now)
        assert await shop.money(account_id) == (15 * DOLLAR, 0)
    await shop.deliver_all(("charge.refunded", "refund.created"))
    assert await shop.money(account_id) == (15 * DOLLAR, 0)


@pytest.mark.parametrize("kind", ["checkout.session.completed", "charge.succeeded", "checkout.session.expired"])
async def test_malformed_objects_change_nothing(shop: Shop, kind: str) -> None:
    account_id, history = await opened(shop)
    history.pay()
    [paid] = history.of("checkout.session.completed")
    good = paid["data"]["object"]
    hostile: list[dict[str, Any]] = [
        {},
        {"id": 1},
        {**good, "amount_total": "2500"},
        {**good, "amount_total": -1},
        {**good, "currency": None, "payment_status": "paid", "amount_total": None},
        {**good, "metadata": "text", "payment_intent": "pi_x"},
        {**good, "metadata": {"account_id": "x\0", "purchase_id": []}, "payment_intent": "pi_x"},
        {**good, "payment_intent": {"id": "pi_x"}},
        {**good, "payment_intent": ["pi_x"]},
    ]
    for number, data in enumerate(hostile):
        event = {**paid, "id": f"evt_{kind}_{number}", "type": kind, "data": {"object": data}}
        await shop.deliver(event)
    assert await shop.money(account_id) == (0, 0)
