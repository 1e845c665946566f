"""The payment of a refill: sent once, looked up, declined, authenticated, or given up. Credited, or not taken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.payments import settlement
from app.payments.errors import PaymentDeclined, PaymentProviderUnavailable
from app.payments.stripe_saved_cards import StripeSavedCards
from app.refills import paying, queries
from app.refills.paying import RefillPayments
from tests.refills.conftest import CARDS, HOUR, SETTLED, Buyer, Refilling

DECLINED = "pm_card_chargeCustomerFail"
AUTHENTICATE = "pm_card_authenticationRequired"
AFTER_SENDING = timedelta(hours=23, seconds=1)
AFTER_A_DAY = timedelta(hours=24, seconds=1)


class Died(Exception):
    """The process dies here."""


async def started(buyer: Buyer, method: str = "pm_card_visa", **settings: Any) -> Buyer:
    """With a refill in flight that was not sent yet."""
    await buyer.ready(method, **settings)
    await buyer.exhaust()
    await buyer.start()
    return buyer


# --- declines ---


async def test_declined_refill_backs_off_and_the_third_switches_refills_off(buyer: Buyer) -> None:
    await started(buyer, DECLINED)
    now = datetime.now(UTC)
    waits = [HOUR, 2 * HOUR]
    for number, wait in enumerate(waits, 1):
        await buyer.settle(now)
        assert await buyer.outcomes() == ["declined"] * number
        shown = await buyer.settings()
        assert (shown["state"], shown["last_decline"]) == ("backing_off", "generic_decline")
        assert shown["next_attempt_at"] == (now + wait).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await buyer.start(now + wait - timedelta(seconds=1))
        assert len(await buyer.refills()) == number
        now += wait
        await buyer.start(now)
    await buyer.settle(now)
    shown = await buyer.settings()
    assert (shown["enabled"], shown["state"], shown["off_reason"]) == (False, "off", "declined")
    assert shown["last_decline"] == "generic_decline"
    assert [intent["status"] for intent in await buyer.intents()] == ["canceled"] * 3
    assert await buyer.balance() == 400
    await buyer.start(now + 100 * HOUR)
    assert len(await buyer.refills()) == 3
    await buyer.save_card()
    await buyer.set()
    await buyer.start(now + HOUR)
    await buyer.settle(now + HOUR)
    assert (await buyer.outcomes())[-1] == "paid"


async def test_payment_between_declines_begins_the_count_again(buyer: Buyer) -> None:
    await started(buyer, DECLINED)
    now = datetime.now(UTC)
    await buyer.settle(now)
    await buyer.save_card()
    await buyer.start(now + HOUR)
    await buyer.settle(now + HOUR)
    assert await buyer.outcomes() == ["declined", "paid"]
    [row] = await buyer.desk.shop.rows("SELECT declines FROM refill_settings WHERE account_id = $1", buyer.account_id)
    assert row["declines"] == 0


@pytest.mark.parametrize("first", ["webhook", "job"])
async def test_webhook_and_job_may_come_in_any_order_and_twice(buyer: Buyer, first: str) -> None:
    await started(buyer)
    desk = buyer.desk
    if first == "webhook":
        desk_settle = StripeSavedCards.charge

        async def lost(self: StripeSavedCards, *args: Any, **options: Any) -> Any:
            await desk_settle(self, *args, **options)
            raise PaymentProviderUnavailable

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StripeSavedCards, "charge", lost)
            with pytest.raises(PaymentProviderUnavailable):
                await buyer.settle()
    else:
        await buyer.settle()
    for _ in range(2):
        for event in await desk.shop.events(*SETTLED):
            if event["data"]["object"]["metadata"]["account_id"] == str(buyer.account_id):
                await desk.shop.deliver(event)
    await desk.work()
    await buyer.settle()
    assert await buyer.outcomes() == ["paid"]
    assert (await buyer.balance(), len(await buyer.intents())) == (400 + 2500, 1)


async def test_card_that_stripe_no_longer_has_counts_as_declined(buyer: Buyer) -> None:
    await started(buyer)
    [card] = await buyer.desk.shop.rows("SELECT * FROM saved_cards WHERE account_id = $1", buyer.account_id)
    await buyer.desk.shop.stripe("POST", f"payment_methods/{card['provider_method_id']}/detach")
    await buyer.settle()
    assert await buyer.outcomes() == ["declined"]
    assert (await buyer.settings())["last_decline"] == "payment_method_unexpected_state"
    assert await buyer.intents() == []


async def test_decline_that_names_no_payment_is_a_decline(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    await started(buyer)

    async def declined(*_: Any, **__: Any) -> Any:
        raise PaymentDeclined("card_decline_rate_limit_exceeded")

    monkeypatch.setattr(StripeSavedCards, "charge", declined)
    await buyer.settle()
    assert await buyer.outcomes() == ["declined"]
    assert (await buyer.settings())["last_decline"] == "card_decline_rate_limit_exceeded"


# --- authentication ---


async def test_authentication_is_a_link_and_pays_the_same_payment(buyer: Buyer) -> None:
    await started(buyer, AUTHENTICATE)
    await buyer.settle()
    shown = await buyer.settings()
    [intent] = await buyer.intents()
    assert shown["state"] == "authentication_required"
    assert shown["action_url"] == intent["next_action"]["redirect_to_url"]["url"]
    await buyer.settle()  # repeats change nothing
    await buyer.start()
    assert await buyer.outcomes() == ["action_required"]
    await buyer.desk.shop.control(f"payment_intents/{intent['id']}/succeed")
    await buyer.settle()
    assert await buyer.outcomes() == ["paid"]
    assert (await buyer.balance(), (await buyer.settings())["action_url"]) == (2900, None)


@pytest.mark.parametrize("end", ["failed", "not done"])
async def test_failed_authentication_is_a_decline(buyer: Buyer, end: str) -> None:
    await started(buyer, AUTHENTICATE)
    await buyer.settle()
    now = datetime.now(UTC)
    if end == "failed":
        [intent] = await buyer.intents()
        await buyer.desk.shop.control(f"payment_intents/{intent['id']}/fail")
    else:
        now += AFTER_A_DAY
    await buyer.settle(now)
    assert await buyer.outcomes() == ["declined"]
    assert [intent["status"] for intent in await buyer.intents()] == ["canceled"]
    assert (await buyer.settings())["enabled"] is True


async def test_authentication_without_a_page_to_return_to_is_a_decline(buyer: Buyer) -> None:
    await started(buyer, AUTHENTICATE)
    payments = buyer.desk.services.payments
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payments, "_return_url", None)
        await buyer.settle()
    assert await buyer.outcomes() == ["declined"]
    assert (await buyer.settings())["last_decline"] == "authentication_required"


@pytest.mark.parametrize("where", ["here", "at Stripe"])
async def test_card_that_is_removed_before_its_authentication_pays_nothing(buyer: Buyer, where: str) -> None:
    await started(buyer, AUTHENTICATE)

    async def unavailable(*_: Any, **__: Any) -> Any:
        raise PaymentProviderUnavailable

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StripeSavedCards, "authenticate", unavailable)
        with pytest.raises(PaymentProviderUnavailable):
            await buyer.settle()
    [card] = await buyer.desk.shop.rows("SELECT * FROM saved_cards WHERE account_id = $1", buyer.account_id)
    if where == "here":
        assert (await buyer.person.delete(f"{CARDS}/{card['card_id']}")).status_code == 200
    else:
        await buyer.desk.shop.stripe("POST", f"payment_methods/{card['provider_method_id']}/detach")
    await buyer.settle()
    assert await buyer.outcomes() == ["declined"]
    assert [intent["status"] for intent in await buyer.intents()] == ["canceled"]


# --- crashes: each step, before and after ---

STEPS: dict[str, tuple[Any, str]] = {
    "noting that it is sent": (RefillPayments, "_mark_sent"),
    "sending": (StripeSavedCards, "charge"),
    "booking": (RefillPayments, "_book"),
    "settling": (settlement, "_settle"),
    "finishing": (RefillPayments, "_finish"),
    "storing the end": (queries, "finish"),
    "authenticating": (StripeSavedCards, "authenticate"),
    "noting the decline": (queries, "note_decline"),
    "canceling": (StripeSavedCards, "cancel"),
}
COMMON = ("sending", "booking", "finishing")
CRASHES = [
    *(("pm_card_visa", step) for step in (*COMMON, "noting that it is sent", "settling", "storing the end")),
    *((DECLINED, step) for step in (*COMMON, "noting the decline", "canceling", "storing the end")),
    *((AUTHENTICATE, step) for step in (*COMMON, "authenticating")),
]
OUTCOMES = {"pm_card_visa": ("paid", 2900), DECLINED: ("declined", 400), AUTHENTICATE: ("paid", 2900)}


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("method", "step"), CRASHES)
async def test_crash_at_any_step_leaves_a_credited_payment_or_none(
    buyer: Buyer, step: str, is_after: bool, method: str
) -> None:
    await started(buyer, method)
    owner, name = STEPS[step]
    original = getattr(owner, name)

    async def dies(*args: Any, **options: Any) -> Any:
        if is_after:
            await original(*args, **options)
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Died):
            await buyer.settle()
    await buyer.settle()
    if await buyer.outcomes() == ["action_required"]:
        [intent] = await buyer.intents()
        await buyer.desk.shop.control(f"payment_intents/{intent['id']}/succeed")
        await buyer.settle()
    outcome, balance = OUTCOMES[method]
    assert await buyer.outcomes() == [outcome]
    assert await buyer.balance() == balance
    [intent] = await buyer.intents()
    assert intent["status"] == ("canceled" if outcome == "declined" else "succeeded")
    assert len(await buyer.refills()) == 1


# --- Stripe fails, or forgets the key ---


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 500},
        {"status": None},
        {"status": 500, "after": True},
        {"status": None, "after": True},
        {"status": 429},
    ],
    ids=str,
)
async def test_failing_stripe_delays_the_refill_and_never_doubles_it(
    own_desk: Refilling, failure: dict[str, Any]
) -> None:
    buyer = await started(await own_desk.buyer())
    await own_desk.shop.control("failures", path="/v1/payment_intents", times=3, **failure)
    with pytest.raises(PaymentProviderUnavailable):
        await buyer.settle()
    await own_desk.shop.control("failures", path="/v1/none", times=0)
    now = datetime.now(UTC)
    for hours in (0, 1, 12, 22):
        try:
            await buyer.settle(now + hours * HOUR)
        except PaymentProviderUnavailable:
            continue
    paid = len(await buyer.intents())
    assert await buyer.balance() == 400 + 2500 * paid
    await buyer.settle(now + AFTER_A_DAY)
    assert await buyer.outcomes() == (["paid"] if paid else ["canceled"])
    assert len(await buyer.intents()) == paid <= 1


async def test_payment_is_looked_up_and_not_sent_after_23_hours(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    await started(buyer)
    charge, sent = StripeSavedCards.charge, []

    async def lost(self: StripeSavedCards, *args: Any, **options: Any) -> Any:
        sent.append(await charge(self, *args, **options))
        raise PaymentProviderUnavailable

    monkeypatch.setattr(StripeSavedCards, "charge", lost)
    with pytest.raises(PaymentProviderUnavailable):
        await buyer.settle()
    await buyer.settle(datetime.now(UTC) + AFTER_SENDING)
    assert (len(sent), await buyer.outcomes(), await buyer.balance()) == (1, ["paid"], 2900)


async def test_refill_without_a_payment_ends_after_a_day(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    await started(buyer)

    async def unavailable(*_: Any, **__: Any) -> Any:
        raise PaymentProviderUnavailable

    monkeypatch.setattr(StripeSavedCards, "charge", unavailable)
    with pytest.raises(PaymentProviderUnavailable):
        await buyer.settle()
    now = datetime.now(UTC)
    await buyer.settle(now + AFTER_SENDING)
    assert await buyer.outcomes() == ["in_flight"]  # a request may still be under way
    await buyer.settle(now + AFTER_A_DAY)
    assert await buyer.outcomes() == ["canceled"]
    monkeypatch.undo()
    await buyer.start(now + AFTER_A_DAY)
    await buyer.settle(now + AFTER_A_DAY)
    assert (await buyer.outcomes(), await buyer.balance()) == (["canceled", "paid"], 2900)


async def test_payment_that_arrives_after_the_refill_ended_is_credited(
    buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await started(buyer)
    charge = StripeSavedCards.charge

    async def lost(self: StripeSavedCards, *args: Any, **options: Any) -> Any:
        await charge(self, *args, **options)
        raise PaymentProviderUnavailable

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(StripeSavedCards, "charge", lost)
    with pytest.raises(PaymentProviderUnavailable):
        await buyer.settle()
    monkeypatch.setattr(StripeSavedCards, "find", nothing)
    await buyer.settle(datetime.now(UTC) + AFTER_A_DAY)
    assert await buyer.outcomes() == ["canceled"]
    for event in await buyer.desk.shop.events("payment_intent.succeeded"):
        await buyer.desk.shop.deliver(event)
    assert await buyer.balance() == 2900
    [purchase] = await buyer.desk.shop.purchases(buyer.account_id)
    assert purchase["status"] == "succeeded"


@pytest.mark.parametrize("job", ["settle_stuck", "reconcile"])
async def test_lost_jobs_are_found(buyer: Buyer, job: str) -> None:
    await started(buyer)
    shop = buyer.desk.shop
    await shop.execute("DELETE FROM procrastinate_jobs WHERE args ->> 'account_id' = $1", str(buyer.account_id))
    later = datetime.now(UTC) + timedelta(minutes=11)
    if job == "settle_stuck":
        await buyer.desk.services.payments.settle_stuck(later)
    else:
        await shop.payments.reconcile(later)
        assert await buyer.jobs("settle_refill") == 1
        await buyer.settle(later)
    assert (await buyer.outcomes(), await buyer.balance()) == (["paid"], 2900)


async def test_refills_that_wait_for_their_owners_do_not_keep_others_waiting(
    own_desk: Refilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paying, "AT_ONCE", 1)
    waiting = await started(await own_desk.buyer(), AUTHENTICATE)
    await waiting.settle()
    lost = await started(await own_desk.buyer())
    later = datetime.now(UTC) + timedelta(minutes=11)
    for _ in range(2):
        await own_desk.services.payments.settle_stuck(later)
    assert (await waiting.outcomes(), await lost.outcomes()) == (["action_required"], ["paid"])


async def test_reconciliation_neither_sends_nor_cancels_a_refill(buyer: Buyer) -> None:
    await started(buyer)
    [refill] = await buyer.refills()
    payments = buyer.desk.shop.payments
    for later in (timedelta(minutes=11), timedelta(days=31)):
        await payments.reconcile_purchase(buyer.account_id, refill["purchase_id"], datetime.now(UTC) + later)
    assert await buyer.intents() == []
    [purchase] = await buyer.desk.shop.purchases(buyer.account_id)
    assert purchase["status"] == "pending"
    await buyer.settle()
    assert await buyer.balance() == 2900
