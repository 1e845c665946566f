"""Users by balance and by activity: in order, complete over all pages, and honest about how old that order is."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.accounts.activity import LATEST_COMMIT, refresh_activity
from tests.admin.conftest import Office
from tests.admin.test_users import USERS, adjust, open_account
from tests.books import connected

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def pages(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """The users of all pages, in their order."""
    users: list[dict[str, Any]] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        answer = await client.get(USERS, params={"limit": 3, **params, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        users += page["users"]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    return users


async def crowd(office: Office) -> dict[UUID, tuple[int, datetime]]:
    """The paid credits and the last activity of a dozen accounts of one plan, equal ones among them."""
    made: dict[UUID, tuple[int, datetime]] = {}
    plan = f"order-{uuid.uuid4().hex}"
    for i in range(12):
        paid, at = (i * 5 % 20, TIME + timedelta(days=i * 7 % 6, microseconds=i % 2))
        account_id = await open_account(
            office, environment="test" if i % 3 == 0 else "live", paid=paid, plan_name=plan, display_name=f"{plan} {i}"
        )
        made[account_id] = (paid, at)
    async with connected(office.urls) as connection:
        for account_id, (_, at) in made.items():
            await connection.execute("UPDATE accounts SET updated_at = $2 WHERE account_id = $1", account_id, at)
        await connection.execute("DELETE FROM account_activity_refresh")  # so that the past is looked at again
    await refresh_activity(office.db, datetime.now(UTC))
    return made


async def plan_of(office: Office, made: dict[UUID, Any]) -> str:
    [row] = await office.rows("SELECT plan_name FROM accounts WHERE account_id = $1", next(iter(made)))
    return str(row["plan_name"])


@pytest.mark.parametrize(("sort", "by"), [("balance", 0), ("last_activity", 1)])
async def test_pages_follow_each_other_in_order(office: Office, viewer: httpx.AsyncClient, sort: str, by: int) -> None:
    made = await crowd(office)
    expected = sorted(made, key=lambda account_id: (made[account_id][by], account_id), reverse=True)
    plan = await plan_of(office, made)
    for extra in ({}, {"search": plan}, {"limit": 1}, {"limit": 5}):
        users = await pages(viewer, sort=sort, plan_name=plan, **extra)
        assert [UUID(user["account_id"]) for user in users] == expected
    live = await pages(viewer, sort=sort, plan_name=plan, environment="live")
    assert [UUID(user["account_id"]) for user in live] == [
        account_id for account_id in expected if list(made).index(account_id) % 3
    ]


@pytest.mark.parametrize("sort", ["newest", "balance", "last_activity"])
async def test_activity_is_filtered_half_open(office: Office, viewer: httpx.AsyncClient, sort: str) -> None:
    made = await crowd(office)
    plan = await plan_of(office, made)
    moment = made[list(made)[3]][1]

    async def ids(**params: str) -> set[UUID]:
        users = await pages(viewer, sort=sort, plan_name=plan, **params)
        return {UUID(user["account_id"]) for user in users}

    since = {account_id for account_id, (_, at) in made.items() if at >= moment}
    assert await ids(active_since=moment.isoformat()) == since
    assert await ids(inactive_since=moment.isoformat()) == set(made) - since
    assert await ids(active_since=moment.isoformat(), inactive_since=moment.isoformat()) == set()


async def test_order_is_as_old_as_it_says_and_the_numbers_are_todays(office: Office, admin: httpx.AsyncClient) -> None:
    made = await crowd(office)
    plan = await plan_of(office, made)
    poorest = min(made, key=lambda account_id: (made[account_id][0], account_id))
    assert (await adjust(admin, poorest, 1000)).status_code == 201
    before = (await admin.get(USERS, params={"sort": "balance", "plan_name": plan, "limit": 50})).json()
    assert (before["users"][-1]["account_id"], before["users"][-1]["paid"]) == (str(poorest), 1000)
    now = datetime.now(UTC)
    assert await refresh_activity(office.db, now) >= 1
    after = (await admin.get(USERS, params={"sort": "balance", "plan_name": plan, "limit": 50})).json()
    assert after["users"][0]["account_id"] == str(poorest)
    assert timedelta() <= now - datetime.fromisoformat(after["as_of"]) < timedelta(milliseconds=1)
    assert (await admin.get(USERS)).json()["as_of"] is None


async def test_change_that_is_committed_late_is_not_missed(office: Office, viewer: httpx.AsyncClient) -> None:
    """Its time lies before the last refresh, which could not see it."""
    account_id = await open_account(office)
    now = datetime.now(UTC)
    await refresh_activity(office.db, now)
    async with connected(office.urls) as connection:
        late = now - LATEST_COMMIT + timedelta(seconds=1)
        await connection.execute(
            "UPDATE accounts SET paid = 77, updated_at = $2 WHERE account_id = $1", account_id, late
        )
    assert await refresh_activity(office.db, now + timedelta(seconds=1)) >= 1
    [row] = await office.rows("SELECT paid FROM account_activity WHERE account_id = $1", account_id)
    assert row["paid"] == 77


async def test_refresh_that_finds_nothing_new_writes_nothing(office: Office) -> None:
    await crowd(office)
    assert await refresh_activity(office.db, datetime.now(UTC)) == 0


@pytest.mark.parametrize(
    "params",
    [
        {"sort": "name"},
        {"sort": "balance", "cursor": str(UUID(int=7))},
        {"sort": "balance", "cursor": f"-1.{UUID(int=7)}"},
        {"sort": "balance", "cursor": f"{2**63}.{UUID(int=7)}"},
        {"sort": "last_activity", "cursor": f"{2**62}.{UUID(int=7)}"},
        {"sort": "newest", "cursor": f"5.{UUID(int=7)}"},
        {"active_since": "2026-01-01T00:00:00"},
        {"inactive_since": "yesterday"},
        {"active_since": "0001-01-01T00:00:00+14:00"},
        {"inactive_since": "9999-12-31T23:59:59-12:00"},
    ],
)
async def test_questions_that_make_no_sense_are_422(viewer: httpx.AsyncClient, params: dict[str, str]) -> None:
    assert (await viewer.get(USERS, params=params)).status_code == 422


async def test_search_that_finds_too_many_says_so(office: Office, viewer: httpx.AsyncClient) -> None:
    mark = uuid.uuid4().hex
    async with connected(office.urls) as connection:
        await connection.execute(
            """
            INSERT INTO account_profiles (account_id, display_name, updated_at)
            SELECT gen_random_uuid(), $1::text || i, now() FROM generate_series(1, 501) AS i
            """,
            mark,
        )
    for search, truncated in ((mark, True), (f"{mark}50", False)):
        assert (await viewer.get(USERS, params={"search": search})).json()["truncated"] is truncated
