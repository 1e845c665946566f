"""Random lives of an account: purchases, spending, refunds that succeed or fail, disputes that are decided again.
Every event is delivered late, twice and in any order.

The model is one line: balance minus debt = bought credits minus credits taken back minus
spent credits. Debt exists only where the paid pool is empty, and no pool is ever negative.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.billing.posting import ChargeRequest
from app.demo.stripe.account import Account
from app.demo.stripe.disputes import CLOSED_DISPUTE, RefundOutcome
from app.ledger.outcomes import New
from app.ledger.pools import Shortfall
from tests.conftest import ACTOR
from tests.payments.conftest import Event, Shop, with_settings
from tests.payments.test_history import CREDITS, PRICE, History

STEPS = 60
HANDLED = ("payment_intent.", "charge.refunded", "charge.refund.", "charge.dispute.", "refund.")
UNDONE = {"failed", "canceled"}


@dataclass
class Sale:
    """One payment: its history at Stripe, and the events of it that were not delivered yet."""

    history: History
    undelivered: list[Event] = field(default_factory=list)
    delivered: list[Event] = field(default_factory=list)
    taken: int = 0
    later_s: int = 0

    @property
    def stripe(self) -> Account:
        return self.history.account

    @property
    def paid(self) -> bool:
        return bool(self.history.intent["status"] == "succeeded")

    def collect(self, rng: random.Random) -> None:
        """Take what has happened since; some of it in one second, some of it later."""
        for event in self.history.events[self.taken :]:
            self.later_s += rng.choice((0, 0, 1, 60))
            event["created"] += self.later_s
            if event["type"].startswith(HANDLED):
                self.undelivered.append(event)
        self.taken = len(self.history.events)

    def credits_due(self) -> int:
        """By the events that were delivered."""
        if not any(event["type"] == "payment_intent.succeeded" for event in self.delivered):
            return 0
        return CREDITS - CREDITS * min(PRICE, self.refunded() + self.withdrawn()) // PRICE

    def refunded(self) -> int:
        """The delivered refunds by id, and the excess of the largest total over them."""
        reported = 0
        amounts: dict[str, int] = {}
        undone: set[str] = set()
        for event in self.delivered:
            subject = event["data"]["object"]
            if subject["object"] == "refund":
                amounts[subject["id"]] = subject["amount"]
                if subject["status"] in UNDONE:
                    undone.add(subject["id"])
            elif event["type"] == "charge.refunded":
                reported = max(reported, subject["amount_refunded"])
        stands = sum(amount for name, amount in amounts.items() if name not in undone)
        return stands + max(0, reported - sum(amounts.values()))

    def withdrawn(self) -> int:
        """By the last decision about each dispute; `lost` within one second. Undecided disputes are withdrawn."""
        decisions: dict[str, list[tuple[int, bool]]] = {}
        amounts, opened = {}, set()
        for event in self.delivered:
            dispute = event["data"]["object"]
            if dispute["object"] != "dispute":
                continue
            amounts[dispute["id"]] = dispute["amount"]
            if dispute["status"] == "needs_response":
                opened.add(dispute["id"])
            elif dispute["status"] in ("won", "lost", "prevented"):
                moved = sum(entry["amount"] for entry in dispute["balance_transactions"])
                lost = moved < 0 if dispute["status"] == "prevented" else dispute["status"] == "lost"
                decisions.setdefault(dispute["id"], []).append((event["created"], lost))
        lost_now = {name: max(said)[1] for name, said in decisions.items()}
        return sum(amount for name, amount in amounts.items() if lost_now.get(name, name in opened))


def something_happens(rng: random.Random, sale: Sale) -> None:
    """One step on Stripe's side, as far as it is possible."""
    stripe, intent = sale.stripe, sale.history.intent
    if not sale.paid:
        (stripe.succeed if rng.random() < 0.7 else stripe.fail)(intent)
        return
    charge = stripe.charge_of(intent["id"])
    left = charge["amount_captured"] - charge["amount_refunded"]
    disputes = list(stripe.objects["dispute"].values())
    open_disputes = [d for d in disputes if d["status"] not in CLOSED_DISPUTE]
    decided = [d for d in disputes if d["status"] in ("won", "lost")]
    charged_back = any(d["status"] in ("needs_response", "under_review", "lost") for d in disputes)
    unsettled = [r for r in stripe.objects["refund"].values() if r["status"] not in UNDONE]
    what = rng.random()
    if what < 0.3 and left > 0 and not charged_back:
        stripe.refund(charge, rng.randint(1, left), None, rng.choice(("pending", "requires_action", "succeeded")))
    elif what < 0.5 and unsettled:
        refund = rng.choice(unsettled)
        ends: tuple[RefundOutcome, ...] = (
            ("failed",) if refund["status"] == "succeeded" else ("succeeded", "failed", "canceled")
        )
        stripe.settle_refund(refund, rng.choice(ends))
    elif what < 0.75 and not open_disputes:
        kind = rng.choice(({}, {}, {"inquiry": True}, {"prevented": "resolution"}, {"prevented": "block"}))
        stripe.open_dispute(intent, amount=rng.randint(1, PRICE), **kind)
    elif what < 0.9 and open_disputes:
        stripe.close_dispute(rng.choice(open_disputes), rng.choice(("won", "lost")))
    elif decided:
        stripe.redecide_dispute(rng.choice(decided))


@with_settings(max_open_purchases=STEPS)
@pytest.mark.parametrize("seed", range(12))
async def test_what_is_paid_less_what_is_owed_is_what_the_model_says(shop: Shop, seed: int) -> None:
    rng = random.Random(seed)
    account_id = await shop.account()
    sales: list[Sale] = []
    spent = 0
    for step in range(STEPS):
        action = rng.random()
        if action < 0.15 or not sales:
            payment = await shop.open(account_id, idempotency_key=f"{step}")
            sales.append(Sale(History(payment.payment_id)))
        elif action < 0.45:
            something_happens(rng, rng.choice(sales))
        elif action < 0.65:
            charge = ChargeRequest(account_id, 100 * rng.randint(1, 12), "USD", ACTOR, shop.now)
            outcome = await shop.billing.charge(charge)
            assert isinstance(outcome, New | Shortfall)
            spent += outcome.record.cost if isinstance(outcome, New) else 0
        else:
            await deliver_something(rng, shop, rng.choice(sales))
        await agrees(shop, account_id, sales, spent)
    for sale in sales:  # in the end, every event is delivered
        sale.collect(rng)
        while sale.undelivered:
            await deliver_something(rng, shop, sale)
    await agrees(shop, account_id, sales, spent)


async def deliver_something(rng: random.Random, shop: Shop, sale: Sale) -> None:
    """Deliver any undelivered event, or repeat a delivered one."""
    sale.collect(rng)
    if sale.delivered and rng.random() < 0.3:
        await shop.deliver(rng.choice(sale.delivered))
    elif sale.undelivered:
        event = sale.undelivered.pop(rng.randrange(len(sale.undelivered)))
        await shop.deliver(event)
        sale.delivered.append(event)


async def agrees(shop: Shop, account_id: Any, sales: list[Sale], spent: int) -> None:
    paid, debt = await shop.balances(account_id)
    assert paid - debt == sum(sale.credits_due() for sale in sales) - spent
    assert paid >= 0
    assert debt >= 0
