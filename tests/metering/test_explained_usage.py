"""`GET /v1/usage/events/{event_id}` explains an event: the balances and grants that paid, and the API key."""

from datetime import UTC, datetime

from app.ledger.entries import Kind
from tests.conftest import ACTOR
from tests.metering.conftest import Desk, usage
from tests.support.wallets import DOLLAR, locked, lot

PATH = "/v1/usage"
NAMES = ("pool", "reason", "before", "change", "after")


async def test_an_event_names_what_paid_and_what_is_owed(desk: Desk) -> None:
    user, now = await desk.user(100), datetime.now(UTC)
    async with locked(desk.db, await desk.account_id(user), now) as account:
        given = lot(DOLLAR // 2, now, unit="USD", source="launch")
        account.give_lot(given, Kind.GRANT_GIVEN, ACTOR, now)
    assert (await desk.debtor.post(PATH, json=usage(user, "dear", cost="2"))).status_code == 200
    assert (await desk.debtor.post(PATH, json=usage(user, "later", cost="1"))).status_code == 200
    found = (await desk.debtor.get(f"{PATH}/events/dear", params={"user_id": user})).json()
    assert [tuple(move[name] for name in NAMES) for move in found["moves"]] == [
        ("grant", "usage", "0.500000", "-0.500000", "0.000000"),
        ("money", "usage", "1.000000", "-1.000000", "0.000000"),
        ("money_debt", "debt_incurred", "0.000000", "0.500000", "0.500000"),
    ]
    assert (found["moves"][0]["grant"]["source"], found["key_name"]) == ("launch", "tests")
    assert all(move["change_minor"] is None for move in found["moves"])


async def test_a_refused_event_moved_nothing(desk: Desk) -> None:
    user = await desk.user(1)
    assert (await desk.router.post(PATH, json=usage(user, "refused", cost="2"))).status_code == 402
    found = (await desk.router.get(f"{PATH}/events/refused", params={"user_id": user})).json()
    assert (found["status"], found["refusal"], found["moves"]) == ("refused", "insufficient_money", [])
