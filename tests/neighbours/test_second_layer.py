"""`/api/billing` with a user's token, as SecondLayer's web pages call it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.auth.admins.admins import SYSTEM_ADMIN_ID, ensure_system_admin
from app.configuration.editing import Change, ConfigurationEditor
from app.configuration.sections import DISPLAY_RATES, DisplayRates
from app.ledger.entries import Cause, Kind
from tests.conftest import ACTOR
from tests.metering.conftest import Desk, llm, usage
from tests.metering.test_cost_records import complete, opened
from tests.neighbours.conftest import ORIGIN, ClientOf
from tests.neighbours.strict import read, second_layer_error
from tests.support.wallets import DOLLAR, locked, lot

BALANCE, HISTORY, TOPUP = "/api/billing/balance", "/api/billing/history", "/api/billing/topup"
FLAT: dict[str, type] = {
    **dict.fromkeys(("balance_usd", "balance_uah", "total_spent_usd", "daily_limit_usd", "monthly_limit_usd"), float),
    **dict.fromkeys(("today_spending_usd", "monthly_spending_usd", "today_spent_usd", "month_spent_usd"), float),
    "total_requests": int,
    "is_active": bool,
    "pricing_tier": str,
    "user_id": str,
    "low_balance_threshold_usd": float,
}
ROW: dict[str, type] = {
    **dict.fromkeys(("id", "user_id", "type", "description"), str),
    **dict.fromkeys(("amount_usd", "amount_uah", "balance_before_usd", "balance_after_usd"), float),
    "metadata": dict,
    "created_at": datetime,
}
RATE = {"base": "USD", "quote": "UAH", "rate": "41.5", "as_of": "2026-11-01T00:00:00Z", "source": "NBU"}


async def set_rates(desk: Desk, rates: list[dict[str, str]]) -> None:
    editor = ConfigurationEditor(desk.app.state.settings)
    document = DisplayRates.model_validate({"rates": rates}).model_dump()
    async with desk.db.transaction() as tx:
        await ensure_system_admin(tx, datetime.now(UTC))
        before = await editor.find(tx, DISPLAY_RATES)
        change = Change(before.version, "because", "tests", SYSTEM_ADMIN_ID, datetime.now(UTC))
        await editor.change(tx, DISPLAY_RATES, document, change)


async def until_uah(client: httpx.AsyncClient, uah: float) -> dict[str, Any]:
    """The balance, once the server has received the new rates."""
    for _ in range(6000):
        found: dict[str, Any] = (await client.get(BALANCE)).json()
        if found["balance_uah"] == uah:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(found)


async def rows_of(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(HISTORY, params=query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["success"], body["pagination"]["count"]) == (True, len(body["transactions"]))
    for row in body["transactions"]:
        read(row, ROW)
        assert row["amount_usd"] >= 0
    found: list[dict[str, Any]] = body["transactions"]
    return found


async def test_a_new_user_sees_zeros(own: httpx.AsyncClient, user_id: str) -> None:
    missing = await own.get(BALANCE)
    assert second_layer_error(missing) == (404, "Not Found", "Account not found")
    assert await rows_of(own) == []
    await own.get("/v1/accounts/me")
    found = (await own.get(BALANCE)).json()
    flat = read(found, FLAT)
    numbers = {name: value for name, value in flat.items() if type(value) in (int, float)}
    assert numbers == {**dict.fromkeys(numbers, 0), "daily_limit_usd": 10, "monthly_limit_usd": 100}
    assert (flat["user_id"], flat["is_active"], flat["pricing_tier"]) == (user_id, True, "free")
    assert (found["success"], found["last_request_at"], found["billing"]["last_request_at"]) == (True, None, None)
    assert found["billing"] == {
        **dict.fromkeys(("balance_usd", "balance_uah", "total_spent_usd", "total_requests"), 0),
        "limits": {"daily_usd": 10, "monthly_usd": 100},
        "usage": {"today_usd": 0, "month_usd": 0},
        "last_request_at": None,
    }


async def test_own_limits_do_not_replace_the_operators(own: httpx.AsyncClient) -> None:
    """A user who sets high limits before the first request here still has 10 a day and 100 a month."""
    for window, amount in (("day", "50"), ("month", "500")):
        body = {"window": window, "unit": "money", "amount": amount}
        assert (await own.put("/v1/accounts/me/limits", json=body)).status_code == 200
    found = (await own.get(BALANCE)).json()
    assert (found["daily_limit_usd"], found["monthly_limit_usd"]) == (10, 100)


async def test_both_shapes_agree(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get("/v1/accounts/me")
    await desk.give(user_id, 10 * DOLLAR)
    now = datetime.now(UTC)
    for number in range(2):
        sent = await desk.router.post("/v1/usage", json=usage(user_id, cost="0.0004", time=now.isoformat()))
        assert sent.status_code == 200, (number, sent.text)
    refused = await desk.writer.post("/v1/usage", json=usage(user_id, metric=llm(output_tokens=10**7)))
    assert refused.status_code == 402
    found = (await own.get(BALANCE)).json()
    flat, nested = read(found, FLAT), found["billing"]
    assert (flat["balance_usd"], found["balance"]) == (9.9992, "9.999200")
    assert (flat["total_spent_usd"], flat["total_requests"]) == (0.0008, 2)
    assert (flat["today_spending_usd"], flat["monthly_spending_usd"]) == (0.0008, 0.0008)
    assert nested["usage"] == {"today_usd": 0.0008, "month_usd": 0.0008}
    for name in ("balance_usd", "balance_uah", "total_spent_usd", "total_requests", "last_request_at"):
        assert nested[name] == found[name]
    assert datetime.fromisoformat(found["last_request_at"]).utcoffset() is not None


async def test_hryvnias_are_for_display(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get("/v1/accounts/me")
    await desk.give(user_id, 2 * DOLLAR + 10_000_000)
    assert (await own.get(BALANCE)).json()["uah_rate"] is None
    await set_rates(desk, [RATE])
    found = await until_uah(own, 83.42)  # 83.415, the half to the even digit
    assert found["uah_rate"] == {"rate": "41.5", "as_of": "2026-11-01T00:00:00Z", "source": "NBU"}
    [row] = await rows_of(own)
    assert (row["amount_usd"], row["amount_uah"]) == (2.01, found["balance_uah"])
    await set_rates(desk, [])
    await until_uah(own, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"rate": rate} for rate in ("0", "0.000", "-1", "1e3", "", "1,5", "1" * 10, "NaN", 41.5)),
        *({"as_of": moment} for moment in ("", "2026-11-01", "2026-11-01T00:00:00", "1999-01-01T00:00:00Z", 5)),
        *({"source": source} for source in ("", "a\0b", "x" * 256)),
        {"quote": "uah"},
    ],
)
def test_bad_rates_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DisplayRates.model_validate({"rates": [{**RATE, **wrong}]})


def test_a_pair_has_one_rate() -> None:
    with pytest.raises(ValueError, match="USD/UAH is there twice"):
        DisplayRates.model_validate({"rates": [RATE, RATE]})


async def test_the_history(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get("/v1/accounts/me")
    account_id, now = await desk.account_id(user_id), datetime.now(UTC)
    async with locked(desk.db, account_id, now) as account:
        cause = Cause("account", account_id)
        account.give_money(10 * DOLLAR, Kind.PURCHASE, cause, ACTOR, now)
        given = lot(DOLLAR, now, unit="USD")
        account.give_lot(given, Kind.GRANT_GIVEN, ACTOR, now)
        account.end_lot(given, ACTOR, now)
        account.give_money(DOLLAR, Kind.ADJUSTMENT, cause, ACTOR, now)
    event = usage(user_id, "search-1", cost="0.25", tool="search", request_id="r-1", metadata={"query": "x"})
    await desk.router.post("/v1/usage", json=event)
    await desk.router.post("/v1/usage", json=usage(user_id, "search-2", cost="0.75"))
    names = ("type", "amount_usd", "balance_before_usd", "balance_after_usd", "request_id", "description")
    rows = await rows_of(own)
    assert [[row[name] for name in names] for row in rows] == [
        ["charge", 0.75, 10.75, 10, "search-2", "claude-3-5-sonnet"],
        ["charge", 0.25, 11, 10.75, "r-1", "search: claude-3-5-sonnet"],
        ["adjustment", 1, 10, 11, None, "Adjustment"],
        ["admin_debit", 1, 11, 10, None, "Grant ended: tests"],
        ["admin_credit", 1, 10, 11, None, "Grant: tests"],
        ["topup", 10, 0, 10, None, "Purchase"],
    ]
    assert rows[1]["metadata"] == {"query": "x"}
    assert {row["user_id"] for row in rows} == {user_id}
    charges = [row for row in rows if row["type"] == "charge"]
    assert await rows_of(own, type="charge") == charges
    assert await rows_of(own, type="charge", limit=1, offset=1) == charges[1:]
    assert await rows_of(own, type="admin_debit") == [rows[3]]
    for nothing in ("refund", "unknown", ""):
        assert await rows_of(own, type=nothing) == []
    page = (await own.get(HISTORY, params={"limit": 2, "offset": 5})).json()["pagination"]
    assert page == {"limit": 2, "offset": 5, "count": 1}


@pytest.mark.parametrize(("query", "description"), [("who pays?", "search: who pays?"), (None, "search")])
async def test_a_cost_record_is_one_charge_of_its_tool_and_query(
    query: str | None, description: str, own: httpx.AsyncClient, desk: Desk, user_id: str
) -> None:
    await own.get("/v1/accounts/me")
    await desk.give(user_id, DOLLAR)
    record_id = await opened(desk, user_id, {"cost": "0.25"}, {"cost": "0.5"}, request_id="r-2", query=query)
    transaction_id = (await complete(desk, record_id)).json()["transaction_id"]
    [row, _] = await rows_of(own)
    names = ("id", "type", "amount_usd", "request_id", "description", "metadata")
    assert [row[name] for name in names] == [transaction_id, "charge", 0.75, "r-2", description, {}]
    [same, _] = (await own.get("/v1/credits/transactions")).json()["transactions"]
    assert (same["id"], same["description"]) == (transaction_id, description)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        *(({"limit": value}, 400) for value in ("x", "-1", "1.5", "")),
        ({"offset": "-1"}, 400),
        ({"type": "a\0b"}, 422),
        ({"type": "x" * 256}, 422),
        ({"limit": "100000"}, 200),
    ],
)
async def test_queries_of_the_history(query: dict[str, str], status: int, own: httpx.AsyncClient) -> None:
    answer = await own.get(HISTORY, params=query)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["pagination"]["limit"] == 500
    else:
        assert second_layer_error(answer)[0] == status


@pytest.mark.parametrize("content", [b'{"amount_usd": 100}', b'{"amount_usd": -5}', b"", b"{", b"\xff"])
async def test_a_user_cannot_top_up(content: bytes, own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get("/v1/accounts/me")
    refused = await own.post(TOPUP, content=content, headers={"Content-Type": "application/json"})
    assert second_layer_error(refused)[:2] == (403, "Forbidden")
    assert refused.json()["code"] == "top_up_refused"
    assert await desk.wallet(user_id) == (0, 0)


@pytest.mark.parametrize(("method", "path"), [("GET", BALANCE), ("GET", HISTORY), ("POST", TOPUP)])
async def test_only_a_users_token_opens_the_routes(method: str, path: str, desk: Desk) -> None:
    for client in (desk.nobody, desk.router):
        answer = await client.request(method, path)
        assert second_layer_error(answer)[:2] == (401, "Unauthorized")
    allowed = await desk.nobody.options(path, headers={"Origin": ORIGIN, "Access-Control-Request-Method": method})
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)


async def test_an_account_in_another_currency_is_not_shown_as_dollars(
    client_of: ClientOf, desk: Desk, user_id: str
) -> None:
    own = client_of(user_id)
    await own.get("/v1/accounts/me")
    account_id = await desk.account_id(user_id)
    await desk.rows("UPDATE accounts SET currency = 'EUR' WHERE account_id = $1 RETURNING 1", account_id)
    for path in (BALANCE, HISTORY):
        assert second_layer_error(await own.get(path))[0] == 422
    assert (await own.get("/v1/accounts/me")).json()["balance_formatted"] == "0.00 EUR"
