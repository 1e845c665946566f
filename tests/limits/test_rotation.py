"""Limits and approvals of a key follow its rotation: they are those of all keys of its line."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms, parse_key
from app.auth.api_keys.service import rotate_key
from app.auth.caller import Permission
from tests.conftest import make_usage_key
from tests.limits.conftest import CREDIT_ROUTES, SCOPES, Teller
from tests.limits.test_approvals import OWN_APPROVALS, approve, of, refused
from tests.metering.conftest import PROVIDER, client
from tests.support.wallets import DOLLAR

OK = (200, 201)


@dataclass
class KeyLine:
    """Three keys, each the successor of the one before, and their clients. All of them work."""

    ids: list[str]
    clients: list[httpx.AsyncClient]

    def limit(self, number: int) -> dict[str, str]:
        return {"type": "key", "value": self.ids[number]}


@pytest.fixture(scope="module")
async def line(teller: Teller) -> AsyncIterator[KeyLine]:
    db = teller.desk.db
    text = await make_usage_key(db, UsageTerms(PROVIDER, max_cost_nanos=100 * DOLLAR), "live", *Permission)
    parsed = parse_key(text)
    assert parsed is not None
    ids, texts = [parsed[1]], [text]
    for _ in range(2):
        async with db.transaction() as tx:
            successor = await rotate_key(tx, ids[-1], grace_s=3600, now=datetime.now(UTC))
        ids.append(successor.key_id)
        texts.append(successor.secret_text)
    async with AsyncExitStack() as stack:
        yield KeyLine(ids, [await stack.enter_async_context(client(teller.desk.url, text)) for text in texts])


@pytest.mark.parametrize("limited", [0, 1, 2])
async def test_all_keys_of_a_line_count_in_a_limit_of_one(
    teller: Teller, user: str, line: KeyLine, limited: int
) -> None:
    """Room for two of three. The limit may name any of the keys. Keys that were not rotated are free."""
    await teller.limit(user, scope=line.limit(limited), amount="6")
    answers = [await teller.spend("charge", user, by=client) for client in line.clients]
    assert [answer.status_code for answer in answers] == [201, 201, 402]
    assert answers[-1].json()["limit"]["scope_value"] == line.ids[limited]
    assert (await teller.spend("charge", user)).status_code == 201
    assert await teller.spent(user) == ["6"]


@pytest.mark.parametrize("route", SCOPES)
async def test_the_successor_is_bound_by_every_way_to_spend(
    teller: Teller, user: str, line: KeyLine, route: str
) -> None:
    unit = "credits" if route in CREDIT_ROUTES else "money"
    amount = "3" if unit == "credits" else "0.000000003"
    await teller.limit(user, scope=line.limit(0), unit=unit, amount=amount)
    assert (await teller.spend(route, user, by=line.clients[0])).status_code in OK
    refused = await teller.spend(route, user, by=line.clients[2])
    assert (refused.status_code, refused.json()["code"]) == (402, "limit_exceeded")


async def test_a_new_limit_begins_with_the_spending_of_the_line(teller: Teller, user: str, line: KeyLine) -> None:
    for one in (*line.clients, teller.boss):
        assert (await teller.spend("charge", user, by=one)).status_code == 201
    hold = await teller.spend("hold of credits", user, by=line.clients[0])
    assert (await teller.limit(user, scope=line.limit(2), amount="20"))["spent"] == "12"
    lifetime = await teller.limit(user, scope=line.limit(1), window="lifetime", amount="20")
    assert lifetime["spent"] == "3"
    released = await line.clients[2].post(f"/v1/billing/holds/{hold.json()['hold_id']}/release", json={})
    assert released.status_code == 200
    assert await teller.spent(user) == ["9", "0"]


async def test_a_settlement_by_the_other_key_is_corrected_once(teller: Teller, user: str, line: KeyLine) -> None:
    """Opened by the first key, captured by the last one: the limit counts it once, and less."""
    await teller.limit(user, scope=line.limit(1), amount="6")
    hold = (await teller.spend("hold of credits", user, by=line.clients[0])).json()["hold_id"]
    body = {"amount_minor": 100}
    assert (await line.clients[2].post(f"/v1/billing/holds/{hold}/capture", json=body)).status_code == 200
    assert await teller.spent(user) == ["1"]


async def test_the_check_heeds_the_line(teller: Teller, user: str, line: KeyLine) -> None:
    await teller.limit(user, scope=line.limit(0), amount="0")
    for one, has_credit in ((line.clients[2], False), (teller.boss, True)):
        answer = await one.post("/v1/billing/credits/check", json={"user_id": user})
        assert answer.json()["has_credit"] is has_credit


async def test_a_rotation_between_two_charges_changes_nothing(teller: Teller, user: str) -> None:
    """The limit is older than the rotation, and the old key has ended."""
    db = teller.desk.db
    text = await make_usage_key(db, UsageTerms(PROVIDER), "live", Permission.WRITE)
    parsed = parse_key(text)
    assert parsed is not None
    await teller.limit(user, scope={"type": "key", "value": parsed[1]}, amount="3")
    async with client(teller.desk.url, text) as old:
        assert (await teller.spend("charge", user, by=old)).status_code == 201
    async with db.transaction() as tx:
        successor = await rotate_key(tx, parsed[1], grace_s=0, now=datetime.now(UTC))
    async with client(teller.desk.url, successor.secret_text) as new:
        assert (await teller.spend("charge", user, by=new)).json()["code"] == "limit_exceeded"


@pytest.mark.parametrize(("asks", "uses"), [(0, 2), (2, 0), (1, 1)])
async def test_an_approval_is_for_the_line_of_the_key_that_asked(
    teller: Teller, user: str, line: KeyLine, person: httpx.AsyncClient, asks: int, uses: int
) -> None:
    """One approval waits for the line, keys of other lines cannot use it, and it is used once."""
    await teller.limit(user, action="ask")
    assert (await teller.spend("charge", user)).status_code == 201
    asked = await refused(await teller.spend("charge", user, by=line.clients[asks]))
    assert await refused(await teller.spend("charge", user, by=line.clients[uses])) == asked
    await approve(person, asked)
    assert await refused(await teller.spend("charge", user)) != asked
    answers = [await teller.spend("charge", user, by=line.clients[number]) for number in (uses, asks)]
    assert [answer.status_code for answer in answers] == [201, 402]
    assert (await of(teller, asked))["status"] == "used"


async def test_a_denial_is_for_the_line_of_the_key_that_asked(
    teller: Teller, user: str, line: KeyLine, person: httpx.AsyncClient
) -> None:
    await teller.limit(user, action="ask")
    assert (await teller.spend("charge", user)).status_code == 201
    asked = await refused(await teller.spend("charge", user, by=line.clients[0]))
    assert (await person.post(f"{OWN_APPROVALS}/{asked}/deny")).status_code == 200
    assert (await teller.spend("charge", user, by=line.clients[2])).json()["code"] == "limit_exceeded"


async def test_a_limit_of_an_unknown_key_counts_nothing(teller: Teller, user: str) -> None:
    await teller.limit(user, scope={"type": "key", "value": "0123456789abcdef"}, amount="0")
    assert (await teller.spend("charge", user)).status_code == 201
