"""Currencies of usage: the digits of minor units, a price book for each currency, and the price in force at a time."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.live.reading import until
from tests.metering.conftest import PROVIDER, Desk, llm, put_in_force, usage
from tests.support.wallets import DOLLAR

PATH = "/v1/usage"
SMS = {"type": "custom", "meter": "sms", "quantity": 1}
UNIT = DOLLAR
"""Nanos of one major unit, of any currency."""


async def user_in(desk: Desk, currency: str, nanos: int) -> str:
    user_id = str(uuid.uuid4())
    opening = {"oauth_provider": PROVIDER, "external_id": user_id, "currency": currency}
    opened = await desk.stranger.post("/v1/billing/accounts", json=opening)
    assert (opened.status_code, opened.json()["currency"]) == (201, currency)
    if nanos:
        await desk.give(user_id, nanos)
    return user_id


async def price(desk: Desk, user: str, price: str, effective_at: datetime | None = None) -> None:
    """Put a price of messages in force, in the currency of the user, and wait until the server knows it."""
    account_id = await desk.account_id(user)
    [row] = await desk.rows("SELECT currency FROM accounts WHERE account_id = $1", account_id)
    moment = {} if effective_at is None else {"effective_at": effective_at}
    meters = [{"id": "sms", "meter": "sms", "unit": "message", "price": price}]
    version = await put_in_force(desk.db, **moment, currency=row["currency"], meters=meters)

    async def known() -> bool:
        answer = await desk.router.post(f"{PATH}/quote", json={"metric": SMS, "user_id": user})
        return bool(answer.json().get("price_version") == version)

    await until(known)


@pytest.mark.parametrize(
    ("currency", "each", "cents", "left"),
    [("JPY", "1.25", 2, 8), ("KWD", "0.0015", 2, 9_998), ("EUR", "0.004000001", 1, 999)],
)
async def test_minor_units_have_the_digits_of_the_currency(
    desk: Desk, currency: str, each: str, cents: int, left: int
) -> None:
    user = await user_in(desk, currency, 10 * UNIT)
    await price(desk, user, each)
    quote = (await desk.router.post(f"{PATH}/quote", json={"metric": SMS, "user_id": user})).json()
    assert (quote["cost_cents"], quote["currency"]) == (cents, currency)
    charged = (await desk.router.post(PATH, json=usage(user, "one", SMS))).json()
    shown = ("cost_cents", "balance_cents", "cost", "balance", "currency")
    assert [charged[name] for name in shown[:2]] == [cents, left]
    assert float(charged["cost"]) == float(each)
    for required, sufficient in ((left, True), (left + 1, False)):
        check = await desk.router.post(f"{PATH}/check", json={"user_id": user, "required_cents": required})
        assert (check.json()["sufficient"], check.json()["balance_cents"]) == (sufficient, left)
    event = (await desk.reader.get(f"{PATH}/events/one", params={"user_id": user, "source": "router"})).json()
    [listed] = (await desk.reader.get(PATH, params={"user_id": user})).json()["events"]
    assert [event[name] for name in shown] == [listed[name] for name in shown] == [charged[name] for name in shown]
    stated = (await desk.router.post(PATH, json=usage(user, cost_cents=3))).json()
    assert (stated["cost_cents"], stated["balance_cents"]) == (3, left - 3)


async def test_usage_of_an_account_in_another_currency_is_refused(desk: Desk) -> None:
    """No price book in francs is in force."""
    user = await user_in(desk, "CHF", UNIT)
    refused = await desk.router.post(PATH, json=usage(user))
    assert (refused.status_code, refused.json()["code"]) == (422, "no_price_book")
    [item] = (await desk.router.post(f"{PATH}/batch", json={"events": [usage(user)]})).json()["results"]
    assert item["error"] == "no_price_book"
    quote = await desk.router.post(f"{PATH}/quote", json={"metric": llm(), "user_id": user})
    assert (quote.status_code, quote.json()["code"]) == (422, "no_price_book")
    model = {"provider": "anthropic", "model": "claude-3-5-sonnet"}
    check = (await desk.router.post(f"{PATH}/check", json={"user_id": user, "required_cents": 0, **model})).json()
    assert (check["sufficient"], check["reason"]) == (False, "no_price_book")
    assert (await desk.wallet(user), await desk.events(user)) == ((UNIT, 0), [])


async def test_the_price_in_force_at_the_events_own_time_applies(desk: Desk) -> None:
    """A new price applies from its moment on, to that moment as well, however late the event arrives."""
    user = await user_in(desk, "NOK", 100 * UNIT)
    change = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    await price(desk, user, "1")
    await price(desk, user, "3", change)
    before = (change - timedelta(microseconds=1)).isoformat()
    times: list[dict[str, Any]] = [{"time": before}, {"time": change.isoformat()}, {}]
    batch = [usage(user, metric=SMS, **time) for time in times]
    items = (await desk.router.post(f"{PATH}/batch", json={"events": batch})).json()["results"]
    single = [(await desk.router.post(PATH, json=usage(user, metric=SMS, **time))).json() for time in times]
    for number, time in enumerate(times):
        event = {"specversion": "1.0", "id": str(number), "source": "s", "type": "sms", "subject": user, **time}
        headers = {"Content-Type": "application/cloudevents+json"}
        assert (await desk.router.post("/v1/events", json=event, headers=headers)).status_code == 204
    expected = ["1.000000", "3.000000", "3.000000"]
    assert [item["cost"] for item in items] == [body["cost"] for body in single] == expected
    assert [row["cost_nanos"] for row in (await desk.events(user))[-3:]] == [UNIT, 3 * UNIT, 3 * UNIT]
    for time, cost in zip(times, expected, strict=True):
        quote = await desk.router.post(f"{PATH}/quote", json={"metric": SMS, "user_id": user, **time})
        assert quote.json()["cost"] == cost
