"""The limits of the role `support`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import httpx

from app.auth.admins.admins import add_admin
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.admin.test_users import REASON, USERS, adjust, audit_of, open_account
from tests.books import balances
from tests.conftest import running_app, settings_for


@asynccontextmanager
async def supporting(office: Office, **limits: int) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a new admin with the role `support`, in a service with these limits."""
    async with running_app(settings_for(office.urls, admin_session_secret=SECRET, **limits)) as app:
        strict = Office(app, office.urls)
        async with strict.db.transaction() as tx:
            await add_admin(tx, f"stern@{DOMAIN}", "support", now=datetime.now(UTC))
            token = await strict.sessions.open_for_script(tx, f"stern@{DOMAIN}", now=datetime.now(UTC))
        strict.tokens["support"] = token
        async with strict.client("support") as client:
            yield client


async def test_many_small_corrections_are_a_large_one(office: Office, admin: httpx.AsyncClient) -> None:
    accounts = [await open_account(office) for _ in range(6)]
    limits = {"admin_support_credit_limit": 5, "admin_support_daily_credit_limit": 20}
    async with supporting(office, **limits) as client:
        answers = await asyncio.gather(*(adjust(client, account_id, 5) for account_id in accounts))
        given = [account_id for account_id, answer in zip(accounts, answers, strict=True) if answer.is_success]
        assert sorted(answer.status_code for answer in answers) == [201] * 4 + [403] * 2
        assert "24 hours" in next(a.json()["detail"] for a in answers if not a.is_success)
        assert (await adjust(client, given[0], 5)).json()["replayed"] is True
        assert (await adjust(client, given[0], -1, "back")).status_code == 403
    paid = [(await balances(office.urls, account_id))["paid"] for account_id in accounts]
    assert sorted(paid) == [0, 0, 5, 5, 5, 5]
    assert sum([len(await audit_of(office, account_id)) for account_id in accounts]) == 4


async def test_only_so_many_accounts_are_suspended_in_a_day(office: Office) -> None:
    accounts = [await open_account(office) for _ in range(5)]
    async with supporting(office, admin_support_daily_suspension_limit=2) as client:

        async def suspend(account_id: UUID) -> httpx.Response:
            return await client.post(f"{USERS}/{account_id}/suspend", json=REASON)

        answers = await asyncio.gather(*map(suspend, accounts))
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [403] * 3
        refused = next(a for a in answers if not a.is_success).json()
        assert (refused["code"], "2 accounts in 24 hours" in refused["detail"]) == ("admin_forbidden", True)
        stopped = [account_id for account_id, a in zip(accounts, answers, strict=True) if a.is_success]
        again = f"{USERS}/{stopped[0]}"  # which is no further account
        for action in ("reopen", "suspend"):
            assert (await client.post(f"{again}/{action}", json=REASON)).status_code == 200
    async with office.client("viewer") as viewer:
        statuses = [(await viewer.get(f"{USERS}/{account_id}")).json()["status"] for account_id in accounts]
    assert sorted(statuses) == ["active"] * 3 + ["suspended"] * 2
