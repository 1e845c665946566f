"""`/v1/credits/signup-grant` and `/daily-grant`, as Z-Billing's callers use them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.accounts.directory import Identity
from app.accounts.erasure import delete_own_account
from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.db.version_mark import OLDEST
from app.neighbours.queries import upsert_moved
from tests.conftest import ACTOR, make_usage_key
from tests.databases import Urls
from tests.live.reading import until
from tests.neighbours.strict import z_error
from tests.promotions.conftest import DAILY, PROVIDER, REFERRAL, SIGNUP, Promotion, new_user, open_promotion

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
BALANCE = {"balance_cents": 500, "balance": "5.000000"}
EVERYTHING_ELSE = set(Permission) - {Permission.MONEY_CREDIT, Permission.USAGE_SET_COST}
BAD_IDS: tuple[Any, ...] = ("", 5, "x" * 256, "a\0b", None)


async def move_in(promotion: Promotion, user_id: str, **details: Any) -> None:
    """Create the user's account and store what an import of Z-Billing states about it."""
    directory = promotion.shop.app.state.accounts.directory
    now = datetime.now(UTC)
    account_id, _ = await directory.find_or_create(Identity("live", PROVIDER, user_id), ACTOR, now)
    async with promotion.shop.db.transaction() as tx:
        await upsert_moved(tx, account_id, "z-billing", details, now)


async def delete(promotion: Promotion, user_id: str, now: datetime) -> None:
    """Delete the account as its user does, and wait until the application knows."""
    accounts = promotion.shop.app.state.accounts
    async with promotion.shop.db.transaction() as tx:
        await delete_own_account(tx, await promotion.account_id(user_id), accounts.digests, now)

    async def unknown() -> bool:
        return await accounts.directory.find(Identity("live", PROVIDER, user_id)) is None

    await until(unknown)


async def test_a_sign_up_grants_once(promotion: Promotion, user_id: str) -> None:
    """The account is created; the user may be written in any form; `is_zero_pro` changes nothing."""
    first = await promotion.post(SIGNUP, user_id=user_id.upper(), is_zero_pro=True, referred_by=None)
    assert first == {"granted": True, "amount_cents": 500, "amount": "5.000000", **BALANCE}
    again = await promotion.post(SIGNUP, user_id=user_id.replace("-", ""), is_zero_pro=False)
    assert again == {"granted": False, "reason": "already_granted", **BALANCE}
    assert await promotion.grants(user_id) == [("signup", 500)]


async def test_a_day_grants_once(promotion: Promotion, user_id: str) -> None:
    expected = {"granted": True, "amount_cents": 50, "amount": "0.500000", "balance_cents": 50, "balance": "0.500000"}
    for day in range(3):  # each day's grant has expired when the next one is given
        promotion.set_clock(NOON + timedelta(days=day))
        assert await promotion.post(DAILY, user_id=user_id) == expected
        promotion.set_clock(NOON + timedelta(days=day, hours=11))
        again = await promotion.post(DAILY, user_id=user_id)
        assert (again["granted"], again["reason"], again["balance_cents"]) == (False, "already_granted_today", 50)
    assert await promotion.grants(user_id) == [("daily", 50)] * 3


async def test_a_day_is_one_of_the_operators_time_zone(own_database: Urls, user_id: str) -> None:
    """In Kyiv, a day begins at 22:00 UTC in winter."""
    async with open_promotion(own_database, time_zone="Europe/Kyiv") as promotion:
        await promotion.offer()
        for hours, granted in ((9, True), (10, True), (33, False), (34, True)):
            promotion.set_clock(NOON + timedelta(hours=hours))
            assert (await promotion.post(DAILY, user_id=user_id))["granted"] is granted, hours


async def test_midnight_is_utcs(promotion: Promotion, user_id: str) -> None:
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    for moment in (midnight - timedelta(microseconds=1), midnight):
        promotion.set_clock(moment)
        assert (await promotion.post(DAILY, user_id=user_id))["granted"] is True
        assert (await promotion.post(DAILY, user_id=user_id))["granted"] is False


async def test_the_grants_expire_as_configured(promotion: Promotion, user_id: str) -> None:
    promotion.set_clock(NOON)
    await promotion.post(SIGNUP, user_id=user_id)
    [row] = await promotion.shop.rows(
        "SELECT expires_at, category FROM grants WHERE account_id = $1", await promotion.account_id(user_id)
    )
    assert (row["expires_at"], row["category"]) == (NOON + timedelta(days=30), "promotional")


async def test_parallel_calls_of_one_process_grant_once(promotion: Promotion, user_id: str) -> None:
    for path in (SIGNUP, DAILY):
        answers = await asyncio.gather(*(promotion.post(path, user_id=user_id) for _ in range(20)))
        assert sorted(answer["granted"] for answer in answers) == [False] * 19 + [True]
    assert await promotion.grants(user_id) == [("daily", 50), ("signup", 500)]


async def test_what_is_off_is_answered(own_promotion: Promotion, user_id: str, other_id: str) -> None:
    async def reasons() -> list[str]:
        signup = await own_promotion.post(SIGNUP, user_id=user_id)
        daily = await own_promotion.post(DAILY, user_id=user_id)
        referral = await own_promotion.refer(other_id, user_id)
        assert not any(answer["granted"] for answer in (signup, daily, referral))
        assert (signup["balance_cents"], daily["balance_cents"], referral["inviter_balance_cents"]) == (0, 0, 0)
        return [answer["reason"] for answer in (signup, daily, referral)]

    assert await reasons() == ["not_available"] * 3
    await own_promotion.offer(currency="EUR")  # the account is in dollars
    assert await reasons() == ["not_available", "not_available", "pending"]
    await own_promotion.offer()
    assert (await own_promotion.post(SIGNUP, user_id=user_id))["granted"] is True
    off = {"amount": "0.00"}
    await own_promotion.offer(signup=off)
    assert (await own_promotion.post(SIGNUP, user_id=user_id))["reason"] == "already_granted"


async def test_a_deleted_account_that_returns_gets_nothing_again(promotion: Promotion, user_id: str) -> None:
    promotion.set_clock(NOON)
    for path in (SIGNUP, DAILY):
        assert (await promotion.post(path, user_id=user_id))["granted"] is True
    await delete(promotion, user_id, NOON)
    promotion.set_clock(NOON + timedelta(minutes=1))
    for path, reason in ((SIGNUP, "already_granted"), (DAILY, "already_granted_today")):
        again = await promotion.post(path, user_id=user_id)
        assert again == {"granted": False, "reason": reason, "balance_cents": 0, "balance": "0.000000"}
    assert (await promotion.refer(new_user(), user_id))["reason"] == "already_granted"
    promotion.set_clock(NOON + timedelta(days=1))
    assert (await promotion.post(SIGNUP, user_id=user_id))["reason"] == "already_granted"
    assert (await promotion.post(DAILY, user_id=user_id))["granted"] is True  # a new day's


async def test_flags_of_an_import_count_as_granted(promotion: Promotion, user_id: str) -> None:
    flags = {"signup_granted": True, "daily_granted_on": "2026-11-30", "referral_granted": True}
    await move_in(promotion, user_id, **flags)
    promotion.set_clock(NOON)
    assert (await promotion.post(SIGNUP, user_id=user_id))["reason"] == "already_granted"
    assert (await promotion.post(DAILY, user_id=user_id))["reason"] == "already_granted_today"
    assert (await promotion.refer(new_user(), user_id))["reason"] == "already_granted"
    promotion.set_clock(NOON + timedelta(days=1))
    assert (await promotion.post(DAILY, user_id=user_id))["granted"] is True
    without = new_user()
    await move_in(promotion, without, signup_granted=False, referral_granted=False)
    assert (await promotion.post(SIGNUP, user_id=without))["granted"] is True
    assert (await promotion.refer(new_user(), without))["reason"] == "pending"


@pytest.mark.parametrize("path", [SIGNUP, DAILY, REFERRAL])
async def test_a_closed_account_gets_nothing(path: str, promotion: Promotion, user_id: str, other_id: str) -> None:
    await promotion.post(DAILY, user_id=user_id)
    await promotion.shop.app.state.accounts.set_status(
        await promotion.account_id(user_id), "closed", None, datetime.now(UTC)
    )
    promotion.set_clock(datetime.now(UTC) + timedelta(days=1))
    body = {"inviter_user_id": other_id, "invitee_user_id": user_id} if path == REFERRAL else {"user_id": user_id}
    refused = await promotion.service.post(path, json=body)
    assert z_error(refused)[:2] == (403, "forbidden")
    assert refused.json()["code"] == "account_closed"


async def test_other_grants_of_the_account_are_untouched(promotion: Promotion, user_id: str) -> None:
    """The lifetime total counts the grant, and Z-Billing's list of movements names it."""
    await promotion.post(SIGNUP, user_id=user_id)
    state = await promotion.shop.app.state.accounts.state(await promotion.account_id(user_id))
    assert (state["money_granted_nanos"], state["money_purchased_nanos"]) == (5 * 10**9, 0)


@pytest.mark.parametrize("wrong", BAD_IDS)
async def test_bad_users(wrong: Any, promotion: Promotion, user_id: str) -> None:
    fields = {SIGNUP: ("user_id",), DAILY: ("user_id",), REFERRAL: ("inviter_user_id", "invitee_user_id")}
    good = {"inviter_user_id": user_id, "invitee_user_id": new_user()}
    for path, names in fields.items():
        for name in names:
            refused = await promotion.service.post(path, json={**(good if path == REFERRAL else {}), name: wrong})
            assert z_error(refused)[:2] == (422, "bad_request"), (path, wrong, refused.text)
            assert name in refused.text
    if wrong is not None:
        refused = await promotion.service.post(SIGNUP, json={"user_id": user_id, "referred_by": wrong})
        assert z_error(refused)[:2] == (422, "bad_request")
        assert "referred_by" in refused.text


async def test_only_keys_that_may_add_money(promotion: Promotion, user_id: str) -> None:
    db = promotion.shop.db
    agent = await make_usage_key(db, UsageTerms(PROVIDER), "live", *EVERYTHING_ELSE)
    minting = await make_usage_key(db, UsageTerms(PROVIDER), "live", Permission.MONEY_CREDIT)
    transport = httpx.ASGITransport(promotion.shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://billing") as keyless:
        for path in (SIGNUP, DAILY, REFERRAL):
            body = {"user_id": user_id, "inviter_user_id": user_id, "invitee_user_id": new_user()}
            for header in ("X-API-Key", "X-Admin-Key"):
                for key, status in ((agent, 403), ("x", 401), (minting, 200)):
                    answer = await keyless.post(path, json=body, headers={header: key})
                    assert answer.status_code == status, answer.text
            assert z_error(await keyless.post(path, json=body)) == (401, "unauthorized", "unauthorized")


async def test_a_key_without_a_provider_names_users_by_identity(promotion: Promotion, user_id: str) -> None:
    key = await make_usage_key(promotion.shop.db, UsageTerms(), "live", Permission.MONEY_CREDIT)
    identity = {"oauth_provider": PROVIDER, "external_id": user_id}
    headers = {"X-API-Key": key}
    granted = await promotion.service.post(SIGNUP, json=identity, headers=headers)
    assert granted.json()["granted"] is True
    refused = await promotion.service.post(SIGNUP, json={**identity, "referred_by": "r"}, headers=headers)
    assert (refused.status_code, refused.json()["field"]) == (422, "referred_by")
    inviter = {"inviter_oauth_provider": PROVIDER, "inviter_external_id": new_user()}
    invitee = {"invitee_oauth_provider": PROVIDER, "invitee_external_id": user_id}
    pending = await promotion.service.post(REFERRAL, json={**inviter, **invitee}, headers=headers)
    assert pending.json()["reason"] == "pending"
    incomplete = await promotion.service.post(REFERRAL, json={**inviter, **invitee, "invitee_external_id": None})
    assert (incomplete.status_code, incomplete.json()["field"]) == (422, "invitee_external_id")


async def test_nothing_is_given_while_an_older_version_may_run(
    own_promotion: Promotion, user_id: str, other_id: str
) -> None:
    """It would settle the invited user's payment without making the referral due."""
    await own_promotion.offer()
    await own_promotion.shop.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format('0035')}'")
    bodies: dict[str, dict[str, str]] = {
        SIGNUP: {"user_id": user_id},
        DAILY: {"user_id": user_id},
        REFERRAL: {"inviter_user_id": other_id, "invitee_user_id": user_id},
    }
    for path, body in bodies.items():
        refused = await own_promotion.service.post(path, json=body)
        assert z_error(refused)[:2] == (503, "unavailable")
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("upgrade_in_progress", "60")
    assert await own_promotion.grants(user_id) == []
    assert await own_promotion.shop.rows("SELECT 1 FROM referrals") == []
