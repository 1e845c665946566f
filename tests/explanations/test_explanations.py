"""Explanations over HTTP: what paid for a charge, a hold or an event, before and after."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from app.auth.caller import Permission
from app.db import Database
from app.ledger import moves
from tests.conftest import ClientFor, Keys, make_key
from tests.holds.test_holds_wire import UNKNOWN

CHARGES, HOLDS = "/v1/billing/charges", "/v1/billing/holds"
User = dict[str, str]
Moved = tuple[str, str, int, int, int]


@pytest.fixture
async def giver(client_for: ClientFor, db: Database) -> httpx.AsyncClient:
    """A client that may hold and charge, and give credits and money."""
    return client_for(
        await make_key(db, "live", Permission.READ, Permission.WRITE, Permission.CREDIT, Permission.MONEY_CREDIT)
    )


@pytest.fixture
async def rich(giver: httpx.AsyncClient, user: User) -> User:
    """A user with 3 free uses, 10 paid credits, a grant of 2 credits and one of five dollars."""
    assert (await giver.post("/v1/billing/accounts", json=user)).status_code in (200, 201)
    for path, body in (
        ("credits", {"amount_minor": 1000, "transaction_type": "grant"}),
        ("grants", {"amount_minor": 200, "source": "launch", "priority": 7}),
        ("grants", {"amount": "5.00"}),
    ):
        assert (await giver.post(f"/v1/billing/{path}", json={**user, **body})).status_code == 201
    return user


async def explain(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(f"{path}/explanation")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def moved(explanation: dict[str, Any]) -> list[Moved]:
    names = ("pool", "reason", "before_minor", "change_minor", "after_minor")
    return [tuple(move[name] for name in names) for move in explanation["moves"]]


def moved_money(explanation: dict[str, Any]) -> list[tuple[str, ...]]:
    names = ("pool", "reason", "before", "change", "after")
    return [tuple(move[name] for name in names) for move in explanation["moves"]]


async def test_a_charge_names_its_balances_grants_and_caller(giver: httpx.AsyncClient, rich: User) -> None:
    body = {**rich, "amount_minor": 650, "metadata": {"request_id": "r-1", "agent_id": "datum"}}
    charge = (await giver.post(CHARGES, json=body)).json()
    await giver.post(CHARGES, json={**rich, "amount_minor": 100})  # later entries are not part of it
    found = await explain(giver, f"{CHARGES}/{charge['charge_id']}")
    assert found["charge"] == charge
    assert (found["operation"], found["cost_minor"]) == ("charge", 700)
    assert moved(found) == [
        ("grant", "charge", 200, -200, 0),
        ("free", "charge", 300, -300, 0),
        ("paid", "charge", 1000, -200, 800),
    ]
    grant = found["moves"][0]["grant"]
    assert (grant["source"], grant["category"], grant["priority"]) == ("launch", "promotional", 7)
    paid_from = {"daily_free_minor": 0, "grants_minor": 200, "free_minor": 300, "paid_minor": 200}
    assert found["paid_from"] == paid_from
    assert (found["caller"]["type"], found["caller"]["key_name"]) == ("api_key", "tests")
    assert (found["request_id"], found["agent_id"], found["hold_id"], found["run_id"]) == ("r-1", "datum", None, None)
    assert "cbk_" not in str(found)


async def test_a_charge_names_its_own_run(giver: httpx.AsyncClient, rich: User) -> None:
    body = {**rich, "amount_minor": 100, "run_id": "run-7"}
    charge = (await giver.post(CHARGES, json=body)).json()
    found = await explain(giver, f"{CHARGES}/{charge['charge_id']}")
    assert (found["run_id"], found["hold_id"]) == ("run-7", None)


async def test_a_tool_charge_that_the_main_pool_paid(giver: httpx.AsyncClient, rich: User) -> None:
    for _ in range(6):
        assert (await giver.post("/v1/tools/charge", json={**rich, "product_type": "image_gen"})).status_code == 200
    page = (await giver.get("/v1/billing/transactions", params=rich)).json()["transactions"]
    found = await explain(giver, f"{CHARGES}/{page[0]['transaction_id']}")
    assert (found["operation"], found["cost_minor"]) == ("tool_charge", 1000)
    assert [move[0] for move in moved(found)] == ["grant", "paid"]
    assert found["charge"]["description"] == "image_gen"


async def test_a_captured_hold_and_its_charge(giver: httpx.AsyncClient, rich: User) -> None:
    body = {**rich, "amount_minor": 600, "run_id": "run-1", "metadata": {"request_id": "r-2", "hold_id": "mine"}}
    hold = (await giver.post(HOLDS, json=body)).json()
    opened = [
        ("grant", "hold", 200, -200, 0),
        ("free", "hold", 300, -300, 0),
        ("paid", "hold", 1000, -100, 900),
        ("held", "hold", 0, 600, 600),
    ]
    found = await explain(giver, f"{HOLDS}/{hold['hold_id']}")
    assert (found["hold"], moved(found)) == (hold, opened)
    captured = (await giver.post(f"{HOLDS}/{hold['hold_id']}/capture", json={"amount_minor": 400})).json()
    found = await explain(giver, f"{HOLDS}/{hold['hold_id']}")
    assert found["hold"] == captured
    assert moved(found) == [
        *opened,
        ("held", "charge", 600, -400, 200),
        ("held", "hold_release", 200, -100, 100),
        ("free", "hold_release", 0, 100, 100),
        ("held", "hold_release", 100, -100, 0),
        ("paid", "hold_release", 900, 100, 1000),
    ]
    charge = await explain(giver, f"{CHARGES}/{captured['charge_id']}")
    assert moved(charge) == [("held", "charge", 600, -400, 200)]
    assert charge["paid_from"] == {"daily_free_minor": 0, "grants_minor": 200, "free_minor": 200, "paid_minor": 0}
    assert (charge["hold_id"], charge["run_id"], charge["request_id"]) == (hold["hold_id"], "run-1", "r-2")


async def test_a_hold_of_money(giver: httpx.AsyncClient, rich: User) -> None:
    hold = (await giver.post(HOLDS, json={**rich, "amount": "1.25"})).json()
    await giver.post(f"{HOLDS}/{hold['hold_id']}/release", json={})
    assert moved_money(await explain(giver, f"{HOLDS}/{hold['hold_id']}")) == [
        ("grant", "hold", "5.000000", "-1.250000", "3.750000"),
        ("held", "hold", "0.000000", "1.250000", "1.250000"),
        ("held", "hold_release", "1.250000", "-1.250000", "0.000000"),
        ("grant", "hold_release", "3.750000", "1.250000", "5.000000"),
    ]


async def test_entries_are_found_among_many_others(
    giver: httpx.AsyncClient, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search by halves meets every position: of the first hold, the last one, and those between."""
    monkeypatch.setattr(moves, "SLACK", moves.SLACK / 600)
    holds = []
    for number in range(12):
        holds.append((await giver.post(HOLDS, json={**rich, "amount_minor": 100})).json()["hold_id"])
        if number % 3:
            await giver.post(f"{HOLDS}/{holds[-1]}/release", json={})
        await asyncio.sleep(0.02)
    for number, hold_id in enumerate(holds):
        found = await explain(giver, f"{HOLDS}/{hold_id}")
        assert [move[1] for move in moved(found)] == ["hold"] * 2 + ["hold_release"] * 2 * bool(number % 3), number


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{CHARGES}/{uuid.UUID(int=7)}", (404, "charge_not_found")),
        (f"{CHARGES}/x", (422, "validation_error")),
        (f"{HOLDS}/{UNKNOWN}", (404, "hold_not_found")),
        (f"{HOLDS}/hold_%00", (404, "hold_not_found")),
    ],
)
async def test_unknown_ids(path: str, code: tuple[int, str], giver: httpx.AsyncClient) -> None:
    answer = await giver.get(f"{path}/explanation")
    assert (answer.status_code, answer.json()["code"]) == code


async def test_explanations_need_billing_read_in_their_environment(
    giver: httpx.AsyncClient, rich: User, client_for: ClientFor, keys: Keys, db: Database
) -> None:
    charge = (await giver.post(CHARGES, json={**rich, "amount_minor": 100})).json()["charge_id"]
    hold = (await giver.post(HOLDS, json={**rich, "amount_minor": 100})).json()["hold_id"]
    writer = client_for(await make_key(db, "live", Permission.WRITE))
    for path in (f"{CHARGES}/{charge}/explanation", f"{HOLDS}/{hold}/explanation"):
        assert (await client_for(keys.reader).get(path)).status_code == 200
        assert (await client_for(keys.test).get(path)).status_code == 404
        assert (await client_for(None).get(path)).status_code == 401
        assert (await writer.get(path)).status_code == 403
