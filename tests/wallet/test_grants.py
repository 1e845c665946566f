"""`/v1/billing/grants`: giving, listing and ending grants, by keys that may, once for each idempotency key."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.billing.service import BillingService
from app.db import Database
from tests.books import account_locked, balances, connected, waiting_for_locks
from tests.conftest import BOUNDED, ClientFor, make_key, make_usage_key, running_app, settings_for
from tests.databases import Urls
from tests.support.wallets import DOLLAR, entries_of, wallet_of
from tests.test_schema import migrate

HOUR = timedelta(hours=1)
User = dict[str, str]
PATH = "/v1/billing/grants"


async def give(client: httpx.AsyncClient, user: User, **fields: Any) -> httpx.Response:
    return await client.post(PATH, json={**user, "amount_minor": 1000, **fields})


async def test_a_grant_of_credits_is_given_listed_and_spendable(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls, now: datetime
) -> None:
    expires_at = (now + HOUR).isoformat()
    answer = await give(giver, user, expires_at=expires_at, priority=3, category="compensation", source="outage")
    assert answer.status_code == 201
    grant = answer.json()
    assert {**grant, "grant_id": None, "created_at": None, "expires_at": None} == {
        "grant_id": None,
        "account_id": str(account_id),
        "unit": "credit",
        "amount_minor": 1000,
        "remaining_minor": 1000,
        "amount": None,
        "remaining": None,
        "priority": 3,
        "category": "compensation",
        "source": "outage",
        "expires_at": None,
        "status": "active",
        "created_at": None,
    }
    assert datetime.fromisoformat(grant["expires_at"]) == (now + HOUR).replace(
        microsecond=(now + HOUR).microsecond // 1000 * 1000
    )
    await giver.post("/v1/billing/charges", json={**user, "amount_minor": 300})
    [listed] = (await giver.get(PATH, params=user)).json()["grants"]
    assert listed == {**grant, "remaining_minor": 700}
    assert (await balances(database, account_id))["grant"] == 7


async def test_a_grant_of_money_is_exact(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls
) -> None:
    answer = await give(giver, user, amount_minor=None, amount="5.000000020")
    assert answer.status_code == 201
    grant = answer.json()
    shown = [grant[name] for name in ("unit", "amount", "remaining", "amount_minor", "remaining_minor")]
    assert shown == ["USD", "5.00000002", "5.00000002", None, None]
    wallet = await wallet_of(database, account_id)
    assert wallet["grants_money_nanos"] == wallet["money_granted_nanos"] == 5 * DOLLAR + 20
    assert (await giver.post("/v1/billing/credits/check", json=user)).json()["credits_remaining"] == 0


async def test_a_purchased_grant_counts_as_purchased(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls
) -> None:
    await give(giver, user, amount_minor=None, amount="1", category="purchased")
    wallet = await wallet_of(database, account_id)
    assert (wallet["money_purchased_nanos"], wallet["money_granted_nanos"]) == (DOLLAR, 0)


async def test_grants_pay_no_debt(giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls) -> None:
    async with connected(database) as connection:
        await connection.execute("UPDATE accounts SET debt = 4 WHERE account_id = $1", account_id)
        assert (await give(giver, user)).status_code == 201
        row = await connection.fetchrow("SELECT debt, grants_credits FROM accounts WHERE account_id = $1", account_id)
        assert tuple(row or ()) == (4, 10)
        await connection.execute("UPDATE accounts SET debt = 0 WHERE account_id = $1", account_id)


# --- idempotency ------------------------------------------------------------------------------------------------


async def test_a_repeated_key_gives_nothing(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls, now: datetime
) -> None:
    first = await give(giver, user, idempotency_key="k", expires_at=(now + HOUR).isoformat())
    for fields in ({}, {"expires_at": (now + 2 * HOUR).isoformat(), "priority": 9}):
        again = await give(giver, user, idempotency_key="k", **fields)
        assert (again.status_code, again.json()["code"]) == (409, "grant_exists")
        assert again.headers["X-Existing-Grant-ID"] == again.json()["grant_id"] == first.json()["grant_id"]
        assert again.headers["Idempotency-Replayed"] == "true"
    in_header = {"Idempotency-Key": "k"}
    again = await giver.post(PATH, json={**user, "amount_minor": 1000}, headers=in_header)
    assert again.status_code == 409
    for other in ({"amount_minor": 900}, {"amount_minor": None, "amount": "10"}, {"category": "purchased"}):
        refused = await give(giver, user, idempotency_key="k", **other)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert (await balances(database, account_id))["grant"] == 10


async def test_a_replay_stays_one_after_the_expiry(
    giver: httpx.AsyncClient,
    account_id: UUID,
    user: User,
    now: datetime,
    set_clock: Callable[[datetime], None],
) -> None:
    body = {"idempotency_key": "k", "expires_at": (now + HOUR).isoformat()}
    await give(giver, user, **body)
    set_clock(now + 2 * HOUR)
    again = await give(giver, user, **body)
    assert (again.status_code, again.json()["status"], again.json()["remaining_minor"]) == (409, "expired", 0)


async def test_racing_equal_requests_give_one_grant(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls
) -> None:
    async with account_locked(database, account_id):
        requests = [asyncio.create_task(give(giver, user, idempotency_key="k")) for _ in range(4)]
        await waiting_for_locks(database, 1)
    answers = await asyncio.gather(*requests)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 3}
    assert (await balances(database, account_id))["grant"] == 10


# --- ending -----------------------------------------------------------------------------------------------------


async def test_ending_a_grant_loses_its_rest_once(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls
) -> None:
    grant_id = (await give(giver, user)).json()["grant_id"]
    await giver.post("/v1/billing/charges", json={**user, "amount_minor": 300})
    for _ in range(2):
        ended = await giver.post(f"{PATH}/{grant_id}/end")
        assert (ended.status_code, ended.json()["status"], ended.json()["remaining_minor"]) == (200, "closed", 0)
    assert (await entries_of(database, account_id))[-1] == ("grant", "credit", -7, 0, "grant_ended")
    assert "grant" not in await balances(database, account_id)
    assert (await giver.get(PATH, params={**user, "show": "active"})).json()["grants"] == []


async def test_a_charge_and_an_end_at_once_have_one_outcome(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls
) -> None:
    grant_id = (await give(giver, user)).json()["grant_id"]
    charge, ended = await asyncio.gather(
        giver.post("/v1/billing/charges", json={**user, "amount_minor": 1000}), giver.post(f"{PATH}/{grant_id}/end")
    )
    assert (charge.status_code, ended.status_code) in ((201, 200), (402, 200))
    assert "grant" not in await balances(database, account_id)


async def test_a_grant_that_has_expired_ends_as_expired(
    giver: httpx.AsyncClient,
    account_id: UUID,
    user: User,
    database: Urls,
    now: datetime,
    set_clock: Callable[[datetime], None],
) -> None:
    grant_id = (await give(giver, user, expires_at=(now + HOUR).isoformat())).json()["grant_id"]
    set_clock(now + HOUR)
    ended = await giver.post(f"{PATH}/{grant_id}/end")
    assert ended.json()["status"] == "expired"
    assert (await entries_of(database, account_id))[-1][4] == "grant_expiry"


async def test_a_grant_is_found_in_its_own_environment_only(
    giver: httpx.AsyncClient, client_for: ClientFor, db: Database, account_id: UUID, user: User
) -> None:
    grant_id = (await give(giver, user)).json()["grant_id"]
    other = client_for(await make_key(db, "test", Permission.MONEY_CREDIT, Permission.READ))
    answers = [await other.post(f"{PATH}/{grant_id}/end"), await giver.post(f"{PATH}/{account_id}/end")]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "grant_not_found")] * 2
    assert (await other.get(PATH, params=user)).json() == {"grants": [], "total_count": 0, "has_more": False}
    assert (await give(other, user)).status_code == 404


# --- who and what -----------------------------------------------------------------------------------------------


async def test_only_a_key_with_the_permission_gives_and_ends(
    minter: httpx.AsyncClient, giver: httpx.AsyncClient, account_id: UUID, user: User
) -> None:
    grant_id = (await give(giver, user)).json()["grant_id"]
    for answer in (await give(minter, user), await minter.post(f"{PATH}/{grant_id}/end")):
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_permission")
    assert (await minter.get(PATH, params=user)).json()["total_count"] == 1


async def test_a_user_may_be_named_by_user_id(
    client_for: ClientFor, db: Database, billing: BillingService, account_id: UUID, user: User
) -> None:
    terms = UsageTerms(identity_provider=user["oauth_provider"], max_cost_nanos=BOUNDED.max_cost_nanos)
    key = await make_usage_key(db, terms, "live", Permission.MONEY_CREDIT, Permission.READ)
    client = client_for(key)
    named = {"user_id": user["external_id"]}
    assert (await give(client, named)).json()["account_id"] == str(account_id)
    assert (await client.get(PATH, params=named)).json()["total_count"] == 1


async def test_a_list_is_paged_and_filtered(giver: httpx.AsyncClient, account_id: UUID, user: User) -> None:
    for number in range(1, 4):
        await give(giver, user, amount_minor=100 * number)
    pages = [(await giver.get(PATH, params={**user, "limit": 2, "offset": offset})).json() for offset in (0, 2)]
    assert [[grant["amount_minor"] for grant in page["grants"]] for page in pages] == [[300, 200], [100]]
    assert [(page["total_count"], page["has_more"]) for page in pages] == [(3, True), (3, False)]


REFUSED = {
    "no amount": ({"amount_minor": None}, "amount_minor"),
    "two amounts": ({"amount": "1"}, "amount_minor"),
    "parts of a credit": ({"amount_minor": 150}, "amount_minor"),
    "nothing": ({"amount_minor": 0}, "amount_minor"),
    "less than nothing": ({"amount_minor": -100}, "amount_minor"),
    "more than 64 bits": ({"amount_minor": 2**63 // 100 * 100 + 100}, "amount_minor"),
    "no money": ({"amount_minor": None, "amount": "0.000000000"}, "amount"),
    "negative money": ({"amount_minor": None, "amount": "-1"}, "amount"),
    "a float": ({"amount_minor": None, "amount": 1.5}, "amount"),
    "less than a nano": ({"amount_minor": None, "amount": "0.0000000001"}, "amount"),
    "money over 64 bits": ({"amount_minor": None, "amount": "9223372036.854775808"}, "amount"),
    "another currency": ({"currency": "EUR"}, "currency"),
    "a priority below 0": ({"priority": -1}, "priority"),
    "a priority above 100": ({"priority": 101}, "priority"),
    "an unknown category": ({"category": "stolen"}, "category"),
    "a source with a name": ({"source": "ann@example.com"}, "source"),
    "a source with NUL": ({"source": "a\0"}, "source"),
    "a time without a zone": ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
    "a time in the past": ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    "a time beyond all": ({"expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
    "an empty key": ({"idempotency_key": ""}, "idempotency_key"),
}


@pytest.mark.parametrize(("fields", "named"), REFUSED.values(), ids=REFUSED)
async def test_bad_input_is_refused_by_name(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls, fields: dict[str, object], named: str
) -> None:
    answer = await give(giver, user, **fields)
    assert answer.status_code == 422
    body = answer.json()
    if isinstance(body["detail"], str):
        assert body["detail"].startswith(named)
    else:
        assert {error["loc"][1] for error in body["detail"]} == {named}
    assert "grant" not in await balances(database, account_id)


async def test_a_balance_stays_within_64_bits(
    giver: httpx.AsyncClient, account_id: UUID, user: User, database: Urls
) -> None:
    most = (2**63 - 1) // 100 * 100
    assert (await give(giver, user, amount_minor=most)).status_code == 201
    for fields in ({"amount_minor": 100}, {"amount_minor": most}):
        answer = await give(giver, user, **fields)
        assert (answer.status_code, answer.json()["code"]) == (422, "balance_limit_exceeded")
    check = await giver.post("/v1/billing/credits/check", json=user)
    assert check.json()["credits_remaining"] == most // 100
    assert (await give(giver, user, amount_minor=None, amount="9223372036")).status_code == 201
    answer = await give(giver, user, amount_minor=None, amount="1")
    assert (answer.status_code, answer.json()["detail"].split()[0]) == (422, "amount")


@pytest.mark.parametrize(("status", "code"), [("suspended", 201), ("closed", 403)])
async def test_a_closed_account_gets_no_grant(
    giver: httpx.AsyncClient,
    billing: BillingService,
    account_id: UUID,
    user: User,
    now: datetime,
    status: str,
    code: int,
) -> None:
    await billing.accounts.set_status(account_id, status, "abuse" if status == "suspended" else None, now)
    assert (await give(giver, user)).status_code == code


async def test_nothing_is_written_before_the_upgrade_is_finished(own_database: Urls, user: User) -> None:
    """The version before may run beside this one, and would report a pool that it does not know."""
    async with connected(own_database) as connection:
        await connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    async with running_app(settings_for(own_database)) as app:
        headers = {"X-API-Key": await make_key(app.state.db, "live", *Permission)}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers) as client:
            await client.post("/v1/billing/credits/check", json=user)
            refused = [await give(client, user), await client.post(f"{PATH}/{UUID(int=1)}/end")]
            assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
                (503, "upgrade_in_progress")
            ] * 2
            assert int(refused[0].headers["Retry-After"]) > 0
            assert (await client.get(PATH, params=user)).json()["total_count"] == 0
            async with connected(own_database) as connection:
                assert await connection.fetchval("SELECT count(*) FROM grants") == 0
            assert (await asyncio.to_thread(migrate, own_database, "--finish")).status == 0
            assert (await give(client, user)).status_code == 201
