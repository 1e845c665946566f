"""Disputes: the later decision counts, in every order of arrival, and credits follow the money."""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID

import pytest
import stripe

from app.billing.posting import ChargeRequest
from app.payments.facts import Dispute, DisputeStatus, merge_dispute
from app.payments.stripe_objects import DISPUTES, dispute_of
from tests.conftest import ACTOR
from tests.payments.conftest import Event, Shop
from tests.payments.test_history import CREDITS, PRICE, History

WITHDRAWN, KEPT = (0, 0), (CREDITS, 0)


async def disputed(shop: Shop, outcomes: Sequence[Literal["won", "lost"]], **dispute: Any) -> tuple[UUID, list[Event]]:
    """An account with a paid purchase that is disputed and decided, once a minute; and the events after the payment."""
    account_id = await shop.account()
    history = History((await shop.open(account_id)).payment_id)
    history.account.succeed(history.intent)
    await shop.deliver(history.events[-1])
    before = len(history.events)
    made = history.account.open_dispute(history.intent, **dispute)
    for number, _ in enumerate(outcomes):
        if number == 0:
            history.account.close_dispute(made, outcomes[0])
        else:
            history.account.redecide_dispute(made)
    events = history.events[before:]
    decisions = 0
    for event in events:
        decisions += event["type"] == "charge.dispute.closed"
        event["created"] += 60 * decisions
    return account_id, events


@pytest.mark.parametrize(
    "outcomes", [("lost", "won"), ("won", "lost"), ("won", "lost", "won"), ("lost", "won", "lost")]
)
@pytest.mark.parametrize("arrival", ["in order", "reversed", "decisions only, reversed"])
async def test_later_decision_counts_whatever_the_order_of_arrival(
    shop: Shop, outcomes: Sequence[Literal["won", "lost"]], arrival: str
) -> None:
    account_id, events = await disputed(shop, outcomes)
    if "only" in arrival:
        events = [event for event in events if event["type"] == "charge.dispute.closed"]
    for event in events[::-1] if "reversed" in arrival else events:
        await shop.deliver(event)
    assert await shop.balances(account_id) == (KEPT if outcomes[-1] == "won" else WITHDRAWN)
    [row] = await shop.rows("SELECT status, decided_at FROM purchase_disputes")
    assert (row["status"], row["decided_at"].timestamp()) == (outcomes[-1], events[-1]["created"])


@pytest.mark.parametrize("order", list(itertools.permutations(("won", "lost"))))
async def test_lost_wins_within_one_second(shop: Shop, order: Sequence[Literal["won", "lost"]]) -> None:
    account_id, events = await disputed(shop, order)
    for event in events:
        await shop.deliver({**event, "created": events[0]["created"]})
    assert await shop.balances(account_id) == WITHDRAWN


async def test_won_dispute_pays_debt_first(shop: Shop) -> None:
    account_id, events = await disputed(shop, ("won",))
    await shop.billing.charge(ChargeRequest(account_id, 100 * 15, "USD", ACTOR, shop.now))
    opened, *_, closed, reinstated = events
    await shop.deliver(opened)
    assert await shop.balances(account_id) == (0, 15)
    await shop.deliver(closed)
    assert await shop.balances(account_id) == (5, 0)
    await shop.deliver(reinstated)
    assert await shop.balances(account_id) == (5, 0)


@pytest.mark.parametrize("outcomes", [("won", "lost"), ("lost", "won")])
@pytest.mark.parametrize("first_received", [0, 1])
@pytest.mark.parametrize("is_in_the_inbox", [True, False])
async def test_decision_of_an_older_version_has_the_time_of_the_event_that_it_received_first(
    shop: Shop, outcomes: Sequence[Literal["won", "lost"]], first_received: int, is_in_the_inbox: bool
) -> None:
    """An older version stores no time of the decision. Without that event it yields to any decision that has a time."""
    account_id, events = await disputed(shop, outcomes)
    decisions = [event for event in events if event["type"] == "charge.dispute.closed"]
    await shop.deliver(decisions[first_received])
    await shop.execute("UPDATE purchase_disputes SET decided_at = NULL")
    if not is_in_the_inbox:
        await shop.execute("DELETE FROM payment_events WHERE type = 'charge.dispute.closed'")
    await shop.deliver(decisions[1 - first_received])
    counts = outcomes[-1] if is_in_the_inbox else outcomes[1 - first_received]
    assert await shop.balances(account_id) == (KEPT if counts == "won" else WITHDRAWN)


@pytest.mark.parametrize(("case_type", "expected"), [("resolution", WITHDRAWN), ("block", KEPT)])
@pytest.mark.parametrize("arrival", [1, -1])
async def test_prevented_dispute_takes_credits_only_if_its_money_was_withdrawn(
    shop: Shop, case_type: str, expected: tuple[int, int], arrival: int
) -> None:
    account_id, events = await disputed(shop, (), prevented=case_type)
    for event in events[::arrival]:
        await shop.deliver(event)
    assert await shop.balances(account_id) == expected


async def test_appeal_leaves_the_money_withdrawn_until_it_is_won(shop: Shop) -> None:
    account_id, events = await disputed(shop, ("lost", "won"))
    lost, won = [event for event in events if event["type"] == "charge.dispute.closed"]
    appeal = {**lost, "id": "evt_appeal", "type": "charge.dispute.updated", "created": lost["created"] + 30}
    appeal["data"] = {"object": {**lost["data"]["object"], "status": "appeal_under_review"}}
    for event, expected in ((lost, WITHDRAWN), (appeal, WITHDRAWN), (won, KEPT)):
        await shop.deliver(event)
        assert await shop.balances(account_id) == expected


async def test_decision_that_was_missed_is_found_when_an_admin_reconciles(shop: Shop) -> None:
    """A version before the later decision counted has received the event, and ignored what it says."""
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    dispute = await shop.control(f"payment_intents/{payment_id}/dispute")
    await shop.control(f"disputes/{dispute['id']}/close", outcome="lost")
    await shop.deliver_all(("payment_intent.succeeded", "charge.dispute.created", "charge.dispute.closed"))
    assert await shop.balances(account_id) == WITHDRAWN
    await shop.control(f"disputes/{dispute['id']}/redecide")
    [purchase] = await shop.purchases(account_id)
    for _ in range(2):
        await shop.payments.reconcile_money_back(account_id, purchase["purchase_id"], shop.now + timedelta(minutes=1))
        assert await shop.balances(account_id) == KEPT


# --- pure --------------------------------------------------------------------------------------------------------


def test_every_status_of_the_sdk_is_understood() -> None:
    words = {word for part in get_args(stripe.Dispute.__annotations__["status"]) for word in get_args(part)}
    assert {"won", "lost", "prevented", "appeal_under_review"} <= words
    assert words <= DISPUTES.keys() | {"prevented"}


@pytest.mark.parametrize(
    ("kind", "balance_transactions", "status"),
    [
        ("charge.dispute.created", None, "won"),
        ("charge.dispute.created", [], "won"),
        ("charge.dispute.created", [{"amount": -500}], "lost"),
        ("charge.dispute.updated", [{"amount": -500}, {"amount": 500}], "won"),
        ("charge.dispute.funds_withdrawn", None, "lost"),
    ],
)
def test_money_of_a_prevented_dispute(kind: str, balance_transactions: Any, status: DisputeStatus) -> None:
    dispute = {"id": "du_1", "amount": PRICE, "status": "prevented", "balance_transactions": balance_transactions}
    assert dispute_of(kind, dispute).status == status


def test_merging_disputes_forgets_order_and_repetition(now: datetime) -> None:
    def at(status: DisputeStatus, minute: int | None) -> Dispute:
        decided_at = None if minute is None else now + timedelta(minutes=minute)
        return Dispute("du_1", 100 + (minute or 0), status, decided_at)

    said = [at("warning", None), at("open", None), at("won", None), at("won", 1), at("lost", 1), at("won", 2)]
    # In the order in which one replaces another.
    for some in itertools.combinations(said, 3):
        ends = set()
        for order in itertools.permutations(some):
            known = None
            for one in (*order, *order):
                known = merge_dispute(known, one)
            ends.add(known)
        assert len(ends) == 1
        assert ends == {Dispute("du_1", max(d.amount_minor for d in some), some[-1].status, some[-1].decided_at)}
