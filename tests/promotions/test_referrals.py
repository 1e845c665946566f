"""`/v1/credits/referral-grant`: pays both once the invited user has settled a payment."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.promotions.service import PromotionService
from tests.books import connected
from tests.neighbours.strict import z_error
from tests.promotions.conftest import REFERRAL, SIGNUP, SUCCEEDED, Promotion, new_user
from tests.support.earlier_version import insert
from tests.support.subscription_rows import SUBSCRIPTION_ROWS

NOTHING = {
    "invitee_balance_cents": 0,
    "invitee_balance": "0.000000",
    "inviter_balance_cents": 0,
    "inviter_balance": "0.000000",
}
PAID = {
    "granted": True,
    "invitee_amount_cents": 300,
    "invitee_amount": "3.000000",
    "inviter_amount_cents": 200,
    "inviter_amount": "2.000000",
    "invitee_balance_cents": 300,
    "invitee_balance": "3.000000",
    "inviter_balance_cents": 200,
    "inviter_balance": "2.000000",
}


def service_of(promotion: Promotion) -> PromotionService:
    service: PromotionService = promotion.shop.app.state.promotions
    return service


async def test_it_waits_for_the_first_payment_and_pays_then(promotion: Promotion, user_id: str, other_id: str) -> None:
    for _ in range(2):
        assert await promotion.refer(other_id, user_id) == {"granted": False, "reason": "pending", **NOTHING}
    await promotion.work()
    assert await promotion.grants(user_id) == await promotion.grants(other_id) == []
    for _ in range(2):  # the second payment pays no second grant
        await promotion.pay(user_id)
        await promotion.work()
    assert await promotion.grants(user_id) == [("referral", 300)]
    assert await promotion.grants(other_id) == [("referral", 200)]
    again = await promotion.refer(other_id, user_id)
    assert (again["granted"], again["reason"], again["invitee_balance_cents"]) == (False, "already_granted", 300)
    assert "invitee_amount_cents" not in again


async def test_a_user_who_has_paid_before_pays_at_once(promotion: Promotion, user_id: str, other_id: str) -> None:
    await promotion.post(SIGNUP, user_id=user_id)
    await promotion.pay(user_id)
    answer = await promotion.refer(other_id, user_id)
    assert answer == {**PAID, "invitee_balance_cents": 800, "invitee_balance": "8.000000"}
    await promotion.work()  # the job finds it paid
    assert await promotion.grants(user_id) == [("referral", 300), ("signup", 500)]
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_a_sign_up_notes_who_invited(promotion: Promotion, user_id: str, other_id: str) -> None:
    assert (await promotion.post(SIGNUP, user_id=user_id, referred_by=other_id))["granted"] is True
    assert (await promotion.refer(other_id, user_id))["reason"] == "pending"
    await promotion.pay(user_id)
    await promotion.work()
    assert await promotion.grants(user_id) == [("referral", 300), ("signup", 500)]
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_a_user_is_invited_once(promotion: Promotion, user_id: str, other_id: str) -> None:
    await promotion.refer(other_id, user_id)
    assert (await promotion.refer(new_user(), user_id))["reason"] == "already_referred"
    assert (await promotion.refer(user_id, other_id))["reason"] == "already_referred"  # the same pair
    await promotion.pay(user_id)
    await promotion.work()
    assert (await promotion.refer(new_user(), user_id))["reason"] == "already_granted"
    await promotion.pay(other_id)
    assert (await promotion.refer(user_id, other_id))["granted"] is False
    assert await promotion.grants(user_id) == [("referral", 300)]


async def test_one_user_may_invite_many(promotion: Promotion, user_id: str) -> None:
    for _ in range(3):
        invited = new_user()
        await promotion.refer(user_id, invited)
        await promotion.pay(invited)
    await promotion.work()
    assert await promotion.grants(user_id) == [("referral", 200)] * 3


@pytest.mark.parametrize("same", [str.upper, str, lambda text: text.replace("-", "")])
async def test_no_one_invites_themselves(same: Any, promotion: Promotion, user_id: str) -> None:
    refused = await promotion.service.post(
        REFERRAL, json={"inviter_user_id": same(user_id), "invitee_user_id": user_id}
    )
    assert z_error(refused)[:2] == (400, "bad_request")
    assert (refused.json()["code"], refused.json()["field"]) == ("same_user", "inviter_user_id")
    refused = await promotion.service.post(SIGNUP, json={"user_id": user_id, "referred_by": same(user_id)})
    assert (refused.status_code, refused.json()["field"]) == (400, "referred_by")
    assert await promotion.grants(user_id) == []


async def test_a_payment_that_was_taken_back_pays_nothing(promotion: Promotion, user_id: str, other_id: str) -> None:
    await promotion.refer(new_user(), other_id)  # creates the account
    payment = await promotion.shop.open(await promotion.account_id(other_id))
    await promotion.shop.pay(payment.payment_id)
    await promotion.shop.refund(payment.payment_id, 500)
    kinds = ("charge.refunded", *SUCCEEDED)
    for event in await promotion.shop.events(*kinds):  # the refund first
        if payment.payment_id in str(event) and event["type"] == "charge.refunded":
            await promotion.shop.deliver(event)
    for event in await promotion.shop.events(*SUCCEEDED):
        if payment.payment_id in str(event):
            await promotion.shop.deliver(event)
    await promotion.work()
    assert await promotion.grants(other_id) == []
    await promotion.pay(other_id)  # the next one counts
    await promotion.work()
    assert await promotion.grants(other_id) == [("referral", 300)]


async def test_a_payment_that_is_taken_back_before_its_referral_is_paid_pays_nothing(
    promotion: Promotion, user_id: str, other_id: str
) -> None:
    await promotion.refer(other_id, user_id)
    for _ in range(2):
        await promotion.pay(user_id)
    for purchase in await promotion.shop.purchases(await promotion.account_id(user_id)):
        await promotion.shop.refund(purchase["payment_intent_id"], 500)
    await promotion.shop.deliver_all(("charge.refunded",))
    await promotion.work()
    assert await promotion.grants(user_id) == await promotion.grants(other_id) == []
    await promotion.pay(user_id)  # the next one counts
    await promotion.work()
    assert await promotion.grants(user_id) == [("referral", 300)]
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_a_referral_stays_due_while_another_payment_is_kept(
    promotion: Promotion, user_id: str, other_id: str
) -> None:
    await promotion.refer(other_id, user_id)
    for _ in range(2):
        await promotion.pay(user_id)
    first, _ = await promotion.shop.purchases(await promotion.account_id(user_id))
    await promotion.shop.refund(first["payment_intent_id"], 500)
    await promotion.shop.deliver_all(("charge.refunded",))
    await promotion.work()
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_a_referral_stays_due_while_a_paid_subscription_is_kept(
    promotion: Promotion, user_id: str, other_id: str
) -> None:
    await promotion.refer(other_id, user_id)
    await promotion.pay(user_id)
    account_id = await promotion.account_id(user_id)
    invoice = {**SUBSCRIPTION_ROWS["subscription_invoices"], "account_id": account_id}
    async with connected(promotion.shop.urls) as connection:
        await insert(connection, "subscription_invoices", **invoice)
    [purchase] = await promotion.shop.purchases(account_id)
    await promotion.shop.refund(purchase["payment_intent_id"], 500)
    await promotion.shop.deliver_all(("charge.refunded",))
    await promotion.work()
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_parallel_referrals_and_payments_pay_once(promotion: Promotion, user_id: str, other_id: str) -> None:
    await promotion.post(SIGNUP, user_id=user_id)
    calls = [promotion.refer(other_id, user_id) for _ in range(10)]
    results = await asyncio.gather(promotion.pay(user_id), *calls)
    answers = [result for result in results if result is not None]
    await asyncio.gather(promotion.work(), *(promotion.refer(other_id, user_id) for _ in range(5)))
    assert sum(answer["granted"] for answer in answers) <= 1
    assert await promotion.grants(user_id) == [("referral", 300), ("signup", 500)]
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_two_users_who_invite_each_other_get_one_grant_each(
    promotion: Promotion, user_id: str, other_id: str
) -> None:
    await asyncio.gather(promotion.refer(other_id, user_id), promotion.refer(user_id, other_id))
    for user in (user_id, other_id):
        await promotion.pay(user)
    await promotion.work()
    for user in (user_id, other_id):
        assert len(await promotion.grants(user)) == 1


@pytest.mark.parametrize(("transaction", "grants"), [(1, 0), (2, 0), (3, 1), (4, 2)])
async def test_a_crash_between_the_accounts_is_made_up_for(
    transaction: int, grants: int, promotion: Promotion, user_id: str, other_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is cut off before a transaction: it decides, gives each account its grant, and notes the end."""
    await promotion.refer(other_id, user_id)
    await promotion.pay(user_id)
    service, left, job = service_of(promotion), transaction, asyncio.current_task()
    real = promotion.shop.db.transaction

    def crashing() -> Any:
        nonlocal left
        if asyncio.current_task() is not job:
            return real()
        left -= 1
        if left == 0:
            raise RuntimeError("the process was killed")
        return real()

    account_id = await promotion.account_id(user_id)
    monkeypatch.setattr(promotion.shop.db, "transaction", crashing)
    with pytest.raises(RuntimeError):
        await service.pay_referral(account_id, datetime.now(UTC))
    monkeypatch.undo()
    given = len(await promotion.grants(user_id)) + len(await promotion.grants(other_id))
    assert given == grants
    await promotion.work()
    assert await promotion.grants(user_id) == [("referral", 300)]
    assert await promotion.grants(other_id) == [("referral", 200)]


async def test_due_referrals_whose_job_is_lost_are_paid(promotion: Promotion, user_id: str, other_id: str) -> None:
    await promotion.refer(other_id, user_id)
    await promotion.pay(user_id)
    await promotion.shop.execute("DELETE FROM procrastinate_jobs WHERE task_name = 'pay_referral' AND status = 'todo'")
    paid = await service_of(promotion).pay_due_referrals(datetime.now(UTC))
    assert paid >= 1
    assert await promotion.grants(other_id) == [("referral", 200)]
    assert await service_of(promotion).pay_due_referrals(datetime.now(UTC)) == 0


async def test_referrals_that_are_off_stay_due(own_promotion: Promotion, user_id: str, other_id: str) -> None:
    await own_promotion.offer()
    await own_promotion.refer(other_id, user_id)
    off = {"amount": "0"}
    await own_promotion.offer(referral_inviter=off, referral_invitee=off)
    await own_promotion.pay(user_id)
    await own_promotion.work()
    assert await own_promotion.grants(user_id) == []
    assert (await own_promotion.refer(other_id, user_id))["reason"] == "not_available"
    await own_promotion.offer(referral_invitee=off)  # the inviter's alone is on
    assert await service_of(own_promotion).pay_due_referrals(datetime.now(UTC)) == 1
    assert await own_promotion.grants(user_id) == []
    assert await own_promotion.grants(other_id) == [("referral", 200)]


async def test_a_closed_inviter_gets_nothing_and_the_invited_user_does(
    promotion: Promotion, user_id: str, other_id: str
) -> None:
    await promotion.refer(other_id, user_id)
    inviter = await promotion.account_id(other_id)
    await promotion.shop.app.state.accounts.set_status(inviter, "closed", None, datetime.now(UTC))
    await promotion.pay(user_id)
    await promotion.work()
    assert await promotion.grants(user_id) == [("referral", 300)]
    assert await promotion.grants(other_id) == []
    assert (await promotion.refer(other_id, user_id))["reason"] == "already_granted"


async def test_an_inviter_without_room_is_paid_later(
    promotion: Promotion, user_id: str, other_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest number of open grants is reached: the referral waits, and the other account is not kept waiting."""
    monkeypatch.setattr("app.ledger.locked_account.MAX_OPEN_LOTS", 1)
    await promotion.post(SIGNUP, user_id=other_id)
    await promotion.post("/v1/credits/daily-grant", user_id=user_id)
    promotion.set_clock(datetime.now(UTC) + timedelta(days=2))  # the invited user's has expired
    await promotion.pay(user_id)
    assert (await promotion.refer(other_id, user_id))["reason"] == "pending"
    assert await promotion.grants(other_id) == [("signup", 500)]
    monkeypatch.undo()
    promotion.reset_clock()
    await service_of(promotion).pay_due_referrals(datetime.now(UTC))
    assert await promotion.grants(other_id) == [("referral", 200), ("signup", 500)]
    assert await promotion.grants(user_id) == [("daily", 50), ("referral", 300)]
