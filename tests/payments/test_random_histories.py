"""Random lives of an account: purchases, spending, refunds and disputes, told late, twice and in any order.

The model is one line: what an account has, less what it owes, is what it bought, less what was taken back, less what
it spent. Debt exists only where the paid pool is empty, and no pool is ever negative.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.billing.pools import Shortfall
from app.billing.posting import Charged, ChargeRequest
from app.demo.stripe.account import CLOSED_DISPUTE, Account
from tests.conftest import ACTOR
from tests.payments.conftest import Event, Shop
from tests.payments.test_history import CREDITS, PRICE, History

STEPS = 60
HANDLED = ("payment_intent.", "charge.refunded", "charge.dispute.")


@dataclass
class Sale:
    """One payment: what has happened at Stripe, and what of it we have not been told."""

    history: History
    untold: list[Event] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    taken: int = 0

    @property
    def stripe(self) -> Account:
        return self.history.account

    @property
    def paid(self) -> bool:
        return bool(self.history.intent["status"] == "succeeded")

    def collect(self) -> None:
        self.untold += [e for e in self.history.events[self.taken :] if e["type"].startswith(HANDLED)]
        self.taken = len(self.history.events)

    def credits_due(self) -> int:
        """By the events that we were told: all facts grow, so the largest of each counts."""
        subjects: list[tuple[str, dict[str, Any]]] = [(e["type"], e["data"]["object"]) for e in self.told]
        if not any(kind == "payment_intent.succeeded" for kind, _ in subjects):
            return 0
        refunded = max((s["amount_refunded"] for kind, s in subjects if kind == "charge.refunded"), default=0)
        disputes: dict[str, tuple[int, set[str]]] = {}
        for kind, subject in subjects:
            if kind.startswith("charge.dispute."):
                words = disputes.setdefault(subject["id"], (subject["amount"], set()))[1]
                words.add(subject["status"])
        withdrawn = sum(
            amount for amount, words in disputes.values() if "won" not in words and words & {"needs_response", "lost"}
        )
        return CREDITS - CREDITS * min(PRICE, refunded + withdrawn) // PRICE


def something_happens(rng: random.Random, sale: Sale) -> None:
    """One step on Stripe's side, as far as it is possible."""
    stripe, intent = sale.stripe, sale.history.intent
    if not sale.paid:
        (stripe.succeed if rng.random() < 0.7 else stripe.fail)(intent)
        return
    charge = stripe.charge_of(intent["id"])
    left = charge["amount_captured"] - charge["amount_refunded"]
    disputes = stripe.objects["dispute"].values()
    open_disputes = [d for d in disputes if d["status"] not in CLOSED_DISPUTE]
    charged_back = any(d["status"] in ("needs_response", "under_review", "lost") for d in disputes)
    what = rng.random()
    if what < 0.4 and left > 0 and not charged_back:
        stripe.refund(charge, rng.randint(1, left), None)
    elif what < 0.7 and not open_disputes:
        stripe.open_dispute(intent, amount=rng.randint(1, PRICE), inquiry=rng.random() < 0.2)
    elif open_disputes:
        stripe.close_dispute(rng.choice(open_disputes), rng.choice(("won", "lost")))


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
            assert isinstance(outcome, Charged | Shortfall)
            spent += outcome.charge.cost if isinstance(outcome, Charged) else 0
        else:
            await something_is_told(rng, shop, rng.choice(sales))
        await agrees(shop, account_id, sales, spent)
    for sale in sales:  # in the end, everything is told
        sale.collect()
        while sale.untold:
            await something_is_told(rng, shop, sale)
    await agrees(shop, account_id, sales, spent)


async def something_is_told(rng: random.Random, shop: Shop, sale: Sale) -> None:
    """Any event that we have not heard, or one that we have."""
    sale.collect()
    if sale.told and rng.random() < 0.3:
        await shop.deliver(rng.choice(sale.told))
    elif sale.untold:
        event = sale.untold.pop(rng.randrange(len(sale.untold)))
        await shop.deliver(event)
        sale.told.append(event)


async def agrees(shop: Shop, account_id: Any, sales: list[Sale], spent: int) -> None:
    paid, debt = await shop.balances(account_id)
    assert paid - debt == sum(sale.credits_due() for sale in sales) - spent
    assert paid >= 0
    assert debt >= 0
