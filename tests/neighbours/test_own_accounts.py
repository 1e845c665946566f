"""`/v1/accounts` with a user's token, over HTTP, as the clients of Z-Billing call it."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.accounts.service import AccountService
from app.configuration.service import Configuration
from app.ledger.entries import Cause, Kind
from app.settings import Mode
from tests.conftest import ACTOR, running_app
from tests.metering.conftest import Desk, usage
from tests.neighbours.conftest import ORIGIN, ClientOf
from tests.neighbours.strict import ACCOUNT, read, z_error
from tests.support.wallets import DOLLAR, locked, lot

OWN = "/v1/accounts/me"


async def columns(desk: Desk, user_id: str) -> dict[str, object]:
    [row] = await desk.rows("SELECT * FROM accounts WHERE account_id = $1", await desk.account_id(user_id))
    return row


async def test_a_user_creates_the_account_once(own: httpx.AsyncClient, user_id: str) -> None:
    created = await own.post("/v1/accounts", json={})
    assert created.status_code == 200, created.text
    account = read(created.json(), ACCOUNT)
    assert account["user_id"] == user_id
    assert account["balance_formatted"] == "$0.00"
    assert [account[name] for name in ACCOUNT if name.endswith("_cents")] == [0, 0, 0, 0]
    assert (account["plan"], account["auto_refill_enabled"]) == ("free", False)
    again = await own.post("/v1/accounts", json={"email": "a@example.com"})
    assert z_error(again) == (409, "conflict", "Account already exists")
    assert again.json()["code"] == "account_exists"
    assert (await own.get(OWN)).json() == created.json()


async def test_racing_creations_give_one_account(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    answers = await asyncio.gather(*(own.post("/v1/accounts", json={}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 5]
    await desk.account_id(user_id)  # there is exactly one


async def test_me_creates_a_missing_account(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    answers = await asyncio.gather(*(own.get(OWN) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.text for answer in answers}) == 1
    assert read(answers[0].json(), ACCOUNT)["user_id"] == user_id
    assert z_error(await own.post("/v1/accounts", json={}))[:2] == (409, "conflict")


async def test_the_token_and_the_user_id_of_a_key_name_one_account(
    client_of: ClientOf, desk: Desk, user_id: str
) -> None:
    shouting = client_of(user_id.upper().replace("-", ""))
    created = await shouting.post("/v1/accounts", json={})
    assert created.json()["user_id"] == user_id
    await desk.give(user_id, 12 * DOLLAR)
    sent = await desk.router.post("/v1/usage", json=usage(user_id, cost="0.0004"))
    assert sent.status_code == 200, sent.text
    account = (await client_of(user_id).get(OWN)).json()
    assert (account["balance_cents"], account["balance"], account["balance_formatted"]) == (
        1199,
        "11.999600",
        "$11.99",
    )
    assert (account["lifetime_granted_cents"], account["lifetime_granted"]) == (1200, "12.000000")
    assert (account["lifetime_used_cents"], account["lifetime_used"]) == (1, "0.000400")


async def test_a_debt_is_shown_rounded_up(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get(OWN)
    await desk.debtor.post("/v1/usage", json=usage(user_id, cost="0.010000001"))
    account = (await own.get(OWN)).json()
    assert (account["debt_cents"], account["debt"]) == (2, "0.010000001")
    assert (account["lifetime_used_cents"], account["balance_cents"]) == (2, 0)


async def test_free_uses_are_no_cents(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    assert (await own.get(OWN)).json()["balance_cents"] == 0
    assert (await columns(desk, user_id))["free"] == 3


async def test_the_balance_has_no_thousands_separator(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get(OWN)
    await desk.give(user_id, 12_345 * DOLLAR + 679_999_999)
    assert (await own.get(OWN)).json()["balance_formatted"] == "$12345.67"


async def test_an_expired_grant_is_not_in_the_balance(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get(OWN)
    now = datetime.now(UTC)
    async with locked(desk.db, await desk.account_id(user_id), now) as account:
        for days, dollars in ((-1, 3), (1, 5)):
            given = lot(dollars * DOLLAR, now, unit="USD", expires_at=now + timedelta(days=days))
            account.give_lot(given, Kind.GRANT_GIVEN, ACTOR, now - timedelta(days=2))
    found = (await own.get(OWN)).json()
    assert (found["balance_cents"], found["lifetime_granted_cents"]) == (500, 800)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "/v1/accounts"), ("GET", OWN), ("DELETE", OWN)),
        *(("GET", path) for path in ("/v1/credits/balance", "/v1/credits/transactions", "/v1/usage/me")),
    ],
)
async def test_only_a_users_token_opens_the_routes(method: str, path: str, desk: Desk) -> None:
    for client in (desk.nobody, desk.router):
        answer = await client.request(method, path)
        assert z_error(answer) == (401, "unauthorized", "unauthorized")
    forged = await desk.nobody.request(method, path, headers={"Authorization": "Bearer test-token:user"})
    assert z_error(forged) == (401, "unauthorized", "unauthorized")
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": method}
    allowed = await desk.nobody.options(path, headers=preflight)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{}", 200),
        ("", 200),
        ("null", 200),
        ('{"email": null, "unknown": [1]}', 200),
        ('{"email": "' + "x" * 256 + '"}', 422),
        ('{"email": "a\\u0000b"}', 422),
        ('{"email": 5}', 422),
        ("[]", 422),
        ("{", 422),
        ("\udfff", 422),
    ],
)
async def test_bodies_of_a_creation(body: str, status: int, own: httpx.AsyncClient) -> None:
    content = body.encode("utf-8", "surrogatepass")
    answer = await own.post("/v1/accounts", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status != 200:
        assert z_error(answer)[1] == "bad_request"


async def test_the_address_is_the_tokens(client_of: ClientOf, desk: Desk, user_id: str) -> None:
    await client_of(user_id, email="real@example.com").post("/v1/accounts", json={"email": "claimed@example.com"})
    [profile] = await desk.rows(
        "SELECT customer_email FROM account_profiles WHERE account_id = $1", await desk.account_id(user_id)
    )
    assert profile["customer_email"] == "real@example.com"


class TestDeletion:
    async def test_closes_the_account_and_erases_the_person(
        self, own: httpx.AsyncClient, desk: Desk, user_id: str
    ) -> None:
        await own.get(OWN)
        account_id = await desk.account_id(user_id)
        deleted = await own.delete(OWN)
        assert (deleted.status_code, deleted.json()) == (200, {"deleted": True})
        [row] = await desk.rows("SELECT status, erased_at FROM accounts WHERE account_id = $1", account_id)
        assert row["status"] == "closed"
        assert row["erased_at"] is not None
        assert not await desk.rows("SELECT 1 FROM account_identities WHERE account_id = $1", account_id)
        digests = await desk.rows("SELECT encode(digest, 'hex') AS digest FROM erased_identities")
        assert digests
        assert all(user_id not in digest["digest"] for digest in digests)
        again = await own.delete(OWN)
        assert z_error(again) == (404, "not_found", "Account not found")

    async def test_a_later_account_gets_nothing_that_is_given_once(
        self, own: httpx.AsyncClient, client_of: ClientOf, desk: Desk, user_id: str
    ) -> None:
        await own.get(OWN)
        first = await columns(desk, user_id)
        assert (first["free"], first["is_returning"]) == (3, False)
        await own.delete(OWN)
        answers = await asyncio.gather(*(own.get(OWN) for _ in range(3)), client_of(user_id.upper()).get(OWN))
        assert [answer.status_code for answer in answers] == [200] * 4
        second = await columns(desk, user_id)
        assert (second["free"], second["is_returning"]) == (0, True)
        assert second["account_id"] != first["account_id"]

    async def test_products_count_as_given(self, client_of: ClientOf, desk: Desk, user_id: str) -> None:
        own = client_of(user_id)
        tools = "/v1/tools/balance/web_search"
        before = (await own.get(tools)).json()
        assert before["free_remaining"] == 10, before
        await own.delete(OWN)
        await own.get(OWN)
        assert (await own.get(tools)).json()["free_remaining"] == 0

    @pytest.mark.parametrize("pool", ["debt", "money_debt"])
    async def test_a_debt_refuses_it(self, pool: str, own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
        await own.get(OWN)
        if pool == "money_debt":
            assert (await desk.debtor.post("/v1/usage", json=usage(user_id))).status_code == 200
        else:
            now, account_id = datetime.now(UTC), await desk.account_id(user_id)
            async with locked(desk.db, account_id, now) as account:
                account.post(pool, 1, Kind.DEBT_INCURRED, Cause("account", account_id), ACTOR, now)
        refused = await own.delete(OWN)
        assert z_error(refused)[:2] == (409, "conflict")
        assert refused.json()["code"] == "account_in_debt"
        assert (await columns(desk, user_id))["status"] == "active"

    @pytest.mark.parametrize(("status", "reason"), [("suspended", "fraud"), ("closed", None)])
    async def test_a_stopped_account_stays(
        self, status: str, reason: str | None, own: httpx.AsyncClient, desk: Desk, user_id: str
    ) -> None:
        await own.get(OWN)
        accounts = AccountService(desk.db, Configuration(desk.db, desk.app.state.settings))
        await accounts.set_status(await desk.account_id(user_id), status, reason, datetime.now(UTC))
        assert z_error(await own.delete(OWN))[:2] == (403, "forbidden")
        assert (await own.get(OWN)).json()["status"] == status

    async def test_racing_deletions_and_creations_leave_one_open_account(
        self, own: httpx.AsyncClient, desk: Desk, user_id: str
    ) -> None:
        await own.get(OWN)
        answers = await asyncio.gather(*(own.request(m, OWN) for m in ("DELETE", "GET", "DELETE", "GET", "GET")))
        assert {answer.status_code for answer in answers} <= {200, 403, 404}
        assert (await own.get(OWN)).status_code == 200
        row = await columns(desk, user_id)
        assert (row["status"], row["free"], row["is_returning"]) == ("active", 0, True)

    async def test_another_person_is_not_returning(
        self, own: httpx.AsyncClient, client_of: ClientOf, desk: Desk
    ) -> None:
        await own.get(OWN)
        await own.delete(OWN)
        other = str(uuid.uuid4())
        await client_of(other).get(OWN)
        assert (await columns(desk, other))["free"] == 3

    async def test_needs_the_key_of_digests(self, desk: Desk, own: httpx.AsyncClient, user_id: str) -> None:
        await own.get(OWN)
        keyless = desk.app.state.settings.model_copy(update={"mode": Mode.PRODUCTION, "identity_digest_key": None})
        async with running_app(keyless) as app:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://b", headers=own.headers) as client:
                refused = await client.delete(OWN)
        assert z_error(refused)[:2] == (503, "unavailable")
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("deletion_not_configured", "3600")
        assert (await columns(desk, user_id))["status"] == "active"
