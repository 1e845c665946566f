"""Refunds by id: for every order of Stripe's events, credits follow the money, also when a refund fails later."""

import asyncio
import itertools
import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.billing.posting import ChargeRequest, give_credits
from app.ledger.locked_account import lock_account, write
from app.ledger.pools import MAX_CREDITS, Credits
from app.payments.errors import RefundRefused
from app.payments.event_log import OVERLAP
from app.payments.facts import REFUND_STATUSES, PaymentFacts, Refund, RefundStatus, merge_refund, refunded_money
from app.payments.stripe_events import parse_event
from tests.conftest import ACTOR
from tests.payments.conftest import Event, Shop
from tests.payments.test_history import CREDITS, PRICE, History
from tests.payments.test_reconcile import NOTHING
from tests.rolling import mixed_payments

REFUNDS = ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated", "charge.refunded")


async def bought(shop: Shop) -> tuple[UUID, History]:
    """An account that has bought a pack, and Stripe's side of it."""
    account_id = await shop.account()
    history = History((await shop.open(account_id)).payment_id)
    history.account.succeed(history.intent)
    await shop.deliver(history.events[-1])
    assert await shop.balances(account_id) == (CREDITS, 0)
    return account_id, history


def refund(history: History, amount: int = PRICE, status: str | None = None) -> dict[str, Any]:
    account = history.account
    return account.refund(account.charge_of(history.intent["id"]), amount, None, status)


def about_refunds(history: History) -> list[Event]:
    return [event for event in history.events if event["type"] in REFUNDS]


async def refund_rows(shop: Shop) -> list[tuple[Any, ...]]:
    rows = await shop.rows("SELECT * FROM purchase_refunds ORDER BY refund_id")
    return [(row["refund_id"], row["amount_minor"], row["status"], int(row["created_at"].timestamp())) for row in rows]


@pytest.mark.parametrize(
    ("begun", "outcome", "kind"),
    [
        ("succeeded", "failed", "refund.failed"),
        ("succeeded", "failed", "refund.updated"),
        ("pending", "failed", "charge.refund.updated"),
        ("requires_action", "canceled", "refund.updated"),
        ("pending", "canceled", "charge.refund.updated"),
    ],
)
async def test_refund_that_does_not_arrive_gives_the_credits_back(
    shop: Shop, begun: str, outcome: Any, kind: str
) -> None:
    account_id, history = await bought(shop)
    made = refund(history, status=begun)
    for event in about_refunds(history):
        await shop.deliver(event)
    assert await shop.balances(account_id) == (0, 0)
    history.account.settle_refund(made, outcome)
    [ended] = [event for event in history.events if event["type"] == kind]
    await shop.deliver(ended)
    assert await shop.balances(account_id) == (CREDITS, 0)
    [purchase] = await shop.purchases(account_id)
    assert (purchase["refunded_minor"], purchase["credits_refunded"]) == (0, 0)
    assert await refund_rows(shop) == [(made["id"], PRICE, outcome, made["created"])]
    kinds = await shop.rows(
        "SELECT kind, delta FROM ledger_entries WHERE account_id = $1 ORDER BY entry_no", account_id
    )
    assert [(row["kind"], row["delta"]) for row in kinds] == [
        ("purchase", CREDITS),
        ("refund_reversal", -CREDITS),
        ("refund_reversal", CREDITS),
    ]


async def test_two_refunds_of_which_one_fails_end_alike_in_any_order(shop: Shop) -> None:
    """Created, reported in the charge's total, failed, and a second one: some of 720 orders, with repetitions."""
    rng = random.Random(1)
    account_id = await shop.account()
    orders = rng.sample(list(itertools.permutations(range(6))), 20)
    for number, order in enumerate(orders):
        payment = await shop.open(account_id, idempotency_key=str(number))
        events = two_refunds(payment.payment_id)
        for index in order:
            await shop.deliver(events[index])
            if rng.random() < 0.3:
                await shop.deliver(events[rng.choice(order)])
    assert {(p["refunded_minor"], p["credits_refunded"]) for p in await shop.purchases(account_id)} == {(125, 5)}
    assert await shop.balances(account_id) == (15 * len(orders), 0)


def two_refunds(payment_id: str) -> list[Event]:
    """Paid; 200 refunded, which fails; then 125 refunded, which is still pending."""
    history = History(payment_id)
    history.account.succeed(history.intent)
    history.account.settle_refund(refund(history, 200), "failed")
    refund(history, 125, "pending")
    kinds = ("payment_intent.succeeded", "refund.created", "refund.failed", "charge.refunded")
    return [event for event in history.events if event["type"] in kinds]


async def test_returned_credits_pay_debt_first(shop: Shop) -> None:
    account_id, history = await bought(shop)
    await shop.billing.charge(ChargeRequest(account_id, 100 * 15, "USD", ACTOR, shop.now))
    history.account.settle_refund(refund(history), "failed")
    *taken, failed, _, _ = about_refunds(history)
    for event in taken:
        await shop.deliver(event)
    assert await shop.balances(account_id) == (0, 15)
    await shop.deliver(failed)
    assert await shop.balances(account_id) == (5, 0)


async def test_returned_credits_without_room_wait_for_a_person_until_there_is_room(shop: Shop) -> None:
    account_id, history = await bought(shop)
    history.account.settle_refund(refund(history), "failed")
    *taken, failed, _, _ = about_refunds(history)
    for event in taken:
        await shop.deliver(event)
    full = Credits(MAX_CREDITS)
    await shop.billing.credit(
        account_id, credits=full, currency=None, transaction_type="grant", actor=ACTOR, now=shop.now
    )
    await shop.deliver(failed)
    [purchase] = await shop.purchases(account_id)
    assert (purchase["review_reason"], purchase["credits_refunded"]) == ("balance_limit", CREDITS)
    await shop.billing.charge(ChargeRequest(account_id, 100 * CREDITS, None, ACTOR, shop.now))
    await shop.deliver({**failed, "id": "evt_again"})
    [purchase] = await shop.purchases(account_id)
    assert (purchase["review_reason"], purchase["credits_refunded"]) == (None, 0)
    assert await shop.balances(account_id) == (MAX_CREDITS, 0)
    await shop.billing.charge(ChargeRequest(account_id, 100 * MAX_CREDITS, None, ACTOR, shop.now))


async def test_money_under_review_that_went_back_and_returned_is_under_review_again(shop: Shop) -> None:
    account_id = await shop.account()
    history = History((await shop.open(account_id)).payment_id)
    history.account.succeed(history.intent, received=PRICE - 1)
    made = refund(history, PRICE - 1)
    for event in history.events:
        await shop.deliver(event)
    [purchase] = await shop.purchases(account_id)
    assert (purchase["status"], purchase["review_reason"]) == ("canceled", None)
    history.account.settle_refund(made, "failed")
    await shop.deliver(history.events[-1])
    [purchase] = await shop.purchases(account_id)
    assert (purchase["status"], purchase["review_reason"]) == ("unknown", "amount_mismatch")


async def test_refunds_inside_a_charge_of_an_old_api_version_are_known_by_id(shop: Shop) -> None:
    """Until 2022-11-15 a charge carried its refunds; only `charge.refund.updated` reported their failure."""
    account_id, history = await bought(shop)
    first, second = refund(history, 100), refund(history, 150)
    whole = history.events[-1]
    assert whole["type"] == "charge.refunded"
    whole["data"]["object"]["refunds"] = {"object": "list", "data": [second, {**first, "status": None}]}
    await shop.deliver(whole)
    assert await shop.balances(account_id) == (10, 0)
    assert [row[1:3] for row in sorted(await refund_rows(shop), key=lambda row: row[1])] == [
        (100, "succeeded"),
        (150, "succeeded"),
    ]
    history.account.settle_refund(second, "failed")
    await shop.deliver(history.events[-1])
    assert history.events[-1]["type"] == "charge.refund.updated"
    assert await shop.balances(account_id) == (16, 0)


async def test_refund_of_the_back_office_is_recorded_by_its_id_at_once(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [purchase] = await shop.purchases(account_id)
    # The second question, for the charge's total, fails: the refund itself is known nevertheless.
    await shop.control("failures", method="GET", path="/v1/charges", status=500, times=3)
    await shop.payments.refund(account_id, purchase["purchase_id"], 125, "key", shop.now)
    [made] = (await shop.stripe("GET", "refunds"))["data"]
    assert await refund_rows(shop) == [(made["id"], 125, "succeeded", made["created"])]
    assert await shop.balances(account_id) == (15, 0)
    await shop.control(f"refunds/{made['id']}/settle", outcome="failed")
    await shop.deliver_all(REFUNDS)
    assert await shop.balances(account_id) == (CREDITS, 0)


async def test_one_key_refunds_each_of_two_purchases(shop: Shop) -> None:
    """The key that Stripe sees names the purchase: admins' keys repeat."""
    account_id = await shop.account()
    for number in range(2):
        await shop.pay((await shop.open(account_id, idempotency_key=str(number))).payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    for purchase in await shop.purchases(account_id):
        for _ in range(2):  # a repetition refunds nothing more
            await shop.payments.refund(account_id, purchase["purchase_id"], 125, "key", shop.now)
    assert [purchase["refunded_minor"] for purchase in await shop.purchases(account_id)] == [125, 125]
    assert await shop.balances(account_id) == (30, 0)


@pytest.mark.usefixtures("forgotten_keys")
async def test_a_key_refunds_once_also_after_stripe_has_forgotten_it(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [purchase] = await shop.purchases(account_id)
    for amount_minor in (125, 125, None):
        await shop.payments.refund(account_id, purchase["purchase_id"], amount_minor, "key", shop.now)
    with pytest.raises(RefundRefused, match="idempotency_key_reused"):
        await shop.payments.refund(account_id, purchase["purchase_id"], 150, "key", shop.now)
    assert [refund["amount"] for refund in (await shop.stripe("GET", "refunds"))["data"]] == [125]
    assert await shop.balances(account_id) == (15, 0)


async def test_failure_from_before_the_upgrade_is_healed_by_reconciliation(shop: Shop) -> None:
    """The version before knew the total only, ignored the failure, and had read the event log beyond it."""
    account_id = await refunded_at_stripe(shop, 500)
    await shop.deliver_all(("charge.refunded",))
    [made] = (await shop.stripe("GET", "refunds"))["data"]
    await shop.control(f"refunds/{made['id']}/settle", outcome="failed")
    [failed] = await shop.events("refund.failed")
    await shop.execute("INSERT INTO payment_cursors VALUES ('live', $1), ('test', $1)", shop.now)
    await shop.execute(
        "INSERT INTO payment_events (environment, event_id, type, outcome, created_at, received_at)"
        " VALUES ('live', $1, 'refund.failed', 'ignored', $2, $2)",
        failed["id"],
        shop.now,
    )
    await shop.execute("UPDATE purchases SET refunds_reported_minor = NULL")
    assert await shop.balances(account_id) == (0, 0)
    done = await shop.payments.reconcile(shop.now + timedelta(minutes=1))
    # Charged; the refund created, failed, and updated by two names.
    assert done == {"events": 5, "payments": 0, "failed": 0}
    assert await shop.balances(account_id) == (CREDITS, 0)
    assert await shop.payments.reconcile(shop.now + timedelta(minutes=2)) == NOTHING


async def test_credits_that_an_older_version_took_again_return_with_the_next_reconciliation(shop: Shop) -> None:
    """The older version knows only the charge's total from before the failure, and does not know refunds by id."""
    account_id, history = await bought(shop)
    history.account.settle_refund(refund(history), "failed")
    for event in about_refunds(history):
        await shop.deliver(event)
    [purchase] = await shop.purchases(account_id)
    async with shop.db.transaction() as tx:
        account = await lock_account(tx, account_id)
        payment_id = purchase["payment_intent_id"]
        await give_credits(
            tx, account, -CREDITS, "refund_reversal", actor=ACTOR, now=shop.now, external_transaction_id=payment_id
        )
        await write(tx, [account], shop.now)
    await shop.execute("UPDATE purchases SET refunded_minor = $1, credits_refunded = $2", PRICE, CREDITS)
    assert await shop.balances(account_id) == (0, 0)
    assert (await shop.payments.reconcile(shop.now + timedelta(minutes=1)))["payments"] == 1
    assert await shop.balances(account_id) == (CREDITS, 0)
    assert await shop.payments.reconcile(shop.now + timedelta(minutes=2)) == NOTHING


async def test_refund_that_no_event_names_is_found_in_the_list(shop: Shop) -> None:
    """API versions before 2024-10-28 tell totals only, and that of a later refund repeats that of a failed one."""
    account_id = await refunded_at_stripe(shop, 500)
    [made] = (await shop.stripe("GET", "refunds"))["data"]
    await shop.control(f"refunds/{made['id']}/settle", outcome="failed")
    payment_id = made["payment_intent"]
    await shop.refund(payment_id, 500)
    await shop.deliver_all(("charge.refunded", "charge.refund.updated"))
    assert await shop.balances(account_id) == (CREDITS, 0)  # in the buyer's favour, for a few minutes
    later = shop.now + timedelta(minutes=1)
    await shop.execute("INSERT INTO payment_cursors VALUES ('live', $1, $1), ('test', $1, $1)", later + OVERLAP)
    assert (await shop.payments.reconcile(later + 2 * OVERLAP))["payments"] == 1
    assert await shop.balances(account_id) == (0, 0)


async def test_key_that_may_not_list_refunds_reconciles_the_rest(shop: Shop) -> None:
    await refunded_at_stripe(shop, 500)
    await shop.control("failures", method="GET", path="/v1/refunds", status=403, times=9)
    assert (await shop.payments.reconcile(shop.now + timedelta(minutes=1)))["failed"] == 0


async def refunded_at_stripe(shop: Shop, amount_minor: int) -> UUID:
    """A buyer whose purchase is credited; Stripe has refunded it, which is not known yet."""
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    await shop.refund(payment_id, amount_minor)
    return account_id


async def test_failure_and_refund_at_once_end_as_one_after_the_other(shop: Shop) -> None:
    account_id, history = await bought(shop)
    made = refund(history, 200)
    history.account.settle_refund(made, "failed")
    refund(history, 125)
    events = about_refunds(history)
    await asyncio.gather(*(shop.deliver(event) for event in events + events))
    assert await shop.balances(account_id) == (15, 0)


async def test_versions_share_purchases(shop: Shop) -> None:
    """Here both are this version: this checks the payments that scripts/rolling-check sends to the previous one."""
    async with await shop.client() as client:
        assert await mixed_payments(client, client, shop.local) > 0


# --- pure --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 7))
def test_facts_in_any_order_say_the_same(count: int) -> None:
    """Every choice of `count` events of Stripe's yields the same money in every order."""
    facts = [parse_event(event).facts for event in two_refunds("pi_1")]
    money: dict[frozenset[int], set[int]] = {}
    for order in itertools.permutations(range(len(facts)), count):
        known: dict[str, Refund] = {}
        reported = 0
        for number in (*order, order[0]):  # one of them twice
            said = facts[number]
            assert isinstance(said, PaymentFacts)
            reported = max(reported, said.refunded_minor or 0)
            for one in said.refunds:
                known[one.refund_id] = merge_refund(known.get(one.refund_id), one)
        money.setdefault(frozenset(order), set()).add(refunded_money(reported, known.values()))
    assert {len(ends) for ends in money.values()} == {1}
    if count == len(facts):
        assert money == {frozenset(range(count)): {125}}


@pytest.mark.parametrize("statuses", list(itertools.permutations(REFUND_STATUSES, 2)))
def test_status_of_a_refund_only_moves_on(statuses: tuple[RefundStatus, ...], now: datetime) -> None:
    known = None
    for status in (*statuses, *statuses):
        known = merge_refund(known, Refund("re_1", 100, status, now))
    assert known == Refund("re_1", 100, max(statuses, key=REFUND_STATUSES.index), now)


@pytest.mark.parametrize(
    ("reported", "refunds", "expected"),
    [
        (0, [], 0),
        (500, [], 500),  # a purchase from before refunds were kept by id
        (500, [(500, "succeeded")], 500),
        (500, [(500, "failed")], 0),
        (500, [(500, "canceled")], 0),
        (500, [(500, "pending")], 500),
        (500, [(500, "requires_action")], 500),
        (0, [(200, "succeeded")], 200),  # the charge's total comes later
        (325, [(200, "failed"), (125, "succeeded")], 125),
        (325, [(200, "failed")], 125),  # a refund without a known id counts
        (200, [(200, "failed"), (125, "pending")], 125),
    ],
)
def test_money_taken_back(reported: int, refunds: list[tuple[int, RefundStatus]], expected: int, now: datetime) -> None:
    known = [Refund(f"re_{number}", amount, status, now) for number, (amount, status) in enumerate(refunds)]
    assert refunded_money(reported, known) == expected
