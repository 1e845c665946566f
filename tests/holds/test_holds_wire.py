"""`/v1/billing/holds` over HTTP."""

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from app.auth.caller import Permission
from app.db import Database
from tests.conftest import ClientFor, Keys, make_key

PATH = "/v1/billing/holds"
UNKNOWN = "hold_" + "A" * 43
NESTED: Any = json.loads("[" * 30 + "]" * 30)
LARGEST = "9223372036.854775807"


@pytest.fixture
async def holder(client_for: ClientFor, db: Database) -> httpx.AsyncClient:
    """A client that may hold and charge, and give credits and money."""
    return client_for(
        await make_key(db, "live", Permission.READ, Permission.WRITE, Permission.CREDIT, Permission.MONEY_CREDIT)
    )


@pytest.fixture
async def rich(holder: httpx.AsyncClient, user: dict[str, str]) -> dict[str, str]:
    """A user with 3 free uses, 10 paid credits and a grant of five dollars."""
    assert (await holder.post("/v1/billing/accounts", json=user)).status_code in (200, 201)
    credit = {**user, "amount_minor": 1000, "transaction_type": "grant"}
    assert (await holder.post("/v1/billing/credits", json=credit)).status_code == 201
    assert (await holder.post("/v1/billing/grants", json={**user, "amount": "5.00"})).status_code == 201
    return user


async def test_a_hold_of_credits_from_opening_to_charge(holder: httpx.AsyncClient, rich: dict[str, str]) -> None:
    body = {**rich, "amount_minor": 450, "idempotency_key": "h1", "product_type": "search", "run_id": "r1"}
    created = await holder.post(PATH, json={**body, "metadata": {"agent_id": "datum"}})
    assert created.status_code == 201, created.text
    hold = created.json()
    assert (hold["status"], hold["unit"], hold["amount_minor"], hold["amount"]) == ("held", "credit", 500, None)
    repeat = await holder.post(PATH, json={**body, "metadata": {"agent_id": "datum"}})
    assert (repeat.status_code, repeat.headers["Idempotency-Replayed"]) == (200, "true")
    assert repeat.json() == hold
    reported = await holder.post(f"{PATH}/{hold['hold_id']}/report", json={"amount_minor": 200})
    assert (reported.status_code, reported.json()["reported_minor"]) == (200, 200)
    captured = await holder.post(f"{PATH}/{hold['hold_id']}/capture", json={"amount_minor": 300})
    assert captured.status_code == 200, captured.text
    assert (captured.json()["status"], captured.json()["captured_minor"]) == ("captured", 300)
    charge = (await holder.get(f"/v1/billing/charges/{captured.json()['charge_id']}")).json()
    assert (charge["amount_minor"], charge["balance_after"]) == (300, 1000)
    page = (await holder.get("/v1/billing/transactions", params=rich)).json()
    assert [entry["amount_minor"] for entry in page["transactions"]] == [-300, 1000]
    assert (await holder.get(f"{PATH}/{hold['hold_id']}")).json() == captured.json()
    late = await holder.post(f"{PATH}/{hold['hold_id']}/release", json={"outcome": "provider_error"})
    assert (late.status_code, late.json()["code"]) == (409, "hold_settled")
    assert late.json()["details"] == {"status": "captured", "captured": "300"}


async def test_a_hold_of_money_from_opening_to_release(holder: httpx.AsyncClient, rich: dict[str, str]) -> None:
    hold = (await holder.post(PATH, json={**rich, "amount": "3.50"}, headers={"Idempotency-Key": "m1"})).json()
    assert (hold["unit"], hold["amount"], hold["amount_minor"]) == ("USD", "3.500000", None)
    refused = await holder.post(PATH, json={**rich, "amount": "1.51"})
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_money")
    assert (refused.json()["balance"], refused.json()["required"]) == ("1.500000", "1.510000")
    released = await holder.post(f"{PATH}/{hold['hold_id']}/release", json={"outcome": "client_abort"})
    assert (released.json()["status"], released.json()["outcome"]) == ("released", "client_abort")
    assert (await holder.post(PATH, json={**rich, "amount": "5.00"})).status_code == 201


async def test_a_refusal_says_what_the_account_can_pay(holder: httpx.AsyncClient, rich: dict[str, str]) -> None:
    refused = await holder.post(PATH, json={**rich, "amount_minor": 1400})
    assert refused.status_code == 402
    figures = {name: refused.json()[name] for name in ("balance_minor", "required_minor", "max_affordable_minor")}
    assert figures == {"balance_minor": 1300, "required_minor": 1400, "max_affordable_minor": 1300}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount_minor": None}, "amount_minor"),
        ({"amount": "1.00"}, "amount_minor"),
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": 2**63}, "amount_minor"),
        ({"amount_minor": None, "amount": 1.5}, "amount"),
        ({"amount_minor": None, "amount": "-1"}, "amount"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"expires_in_s": 86_401}, "expires_in_s"),
        ({"on_expiry": "keep"}, "on_expiry"),
        ({"metadata": {"a": "\0"}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"note": "x" * 65_536}}, "metadata"),
        ({"metadata": {"note": NESTED}}, "metadata"),
        ({"metadata": {"a\0": 1}}, "metadata"),
        ({"metadata": {"agent_id": {"name": "scout"}}}, "metadata.agent_id"),
        ({"metadata": {"agent_id": "x" * 256}}, "metadata.agent_id"),
        ({"metadata": {"agent_id": True}}, "metadata.agent_id"),
        ({"metadata": {"message_id": ["m-1"]}}, "metadata.message_id"),
        ({"metadata": {"channel_id": "x" * 8_000}}, "metadata.channel_id"),
        ({"metadata": {"request_id": False}}, "metadata.request_id"),
        ({"amount_minor": -1}, "amount_minor"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"amount_minor": "100"}, "amount_minor"),
        ({"amount_minor": True}, "amount_minor"),
        ({"amount_minor": None, "amount": "0"}, "amount"),
        ({"amount_minor": None, "amount": "0.0000000001"}, "amount"),
        ({"amount_minor": None, "amount": "9999999999999999999"}, "amount"),
        ({"amount_minor": None, "amount": "9223372036.854775808"}, "amount"),
        ({"amount_minor": None, "amount": "1e3"}, "amount"),
        ({"amount_minor": None, "amount": "\u0663"}, "amount"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"run_id": "\0"}, "run_id"),
    ],
)
async def test_bad_input_is_refused_by_its_field(
    changes: dict[str, Any], field: str, holder: httpx.AsyncClient, rich: dict[str, str]
) -> None:
    answer = await holder.post(PATH, json={**rich, "amount_minor": 100, **changes})
    assert answer.status_code in (400, 422), answer.text
    assert field in answer.text


@pytest.mark.parametrize(
    "metadata",
    [
        {"agent_id": 7, "message_id": 1.5, "channel_id": None, "request_id": "r" * 255},
        {"agent_id": 1e300, "message_id": 10**200},
        {"agent_id": "", "hold_id": "mine", "note": {"of": ["any", None, True]}},
        {"note": "x" * 15_000, "agent_id": "\U0001f916" * 255},
    ],
)
async def test_a_captured_hold_is_read_whatever_its_metadata_is(
    metadata: dict[str, Any], holder: httpx.AsyncClient, rich: dict[str, str]
) -> None:
    """Its charge has the metadata, too: in lists, by its id and in explanations. The names of a charge are texts."""
    hold = (await holder.post(PATH, json={**rich, "amount_minor": 200, "metadata": metadata})).json()
    captured = (await holder.post(f"{PATH}/{hold['hold_id']}/capture", json={"amount_minor": 100})).json()
    names = ("agent_id", "message_id", "channel_id", "request_id")
    texts = {name: str(metadata[name]) for name in names if metadata.get(name) is not None}
    assert hold["metadata"] == captured["metadata"] == {**metadata, **texts}
    charge = f"/v1/billing/charges/{captured['charge_id']}"
    answers = [
        await holder.get(path, params=rich)
        for path in (charge, f"{charge}/explanation", f"{PATH}/{hold['hold_id']}/explanation")
    ]
    listed = await holder.get("/v1/billing/transactions", params=rich)
    assert [answer.status_code for answer in (*answers, listed)] == [200] * 4
    assert answers[0].json()["metadata"] == {**dict.fromkeys(names), **texts}
    assert answers[1].json()["agent_id"] == texts["agent_id"]
    assert listed.json()["transactions"][0]["metadata"] == answers[0].json()["metadata"]


@pytest.mark.parametrize(("amount", "code"), [({"amount_minor": 2**63 - 1}, "credits"), ({"amount": LARGEST}, "money")])
async def test_the_largest_amounts_are_refused_for_want_of_credit(
    amount: dict[str, Any], code: str, holder: httpx.AsyncClient, rich: dict[str, str]
) -> None:
    refused = await holder.post(PATH, json={**rich, **amount})
    assert (refused.status_code, refused.json()["code"]) == (402, f"insufficient_{code}")


@pytest.mark.parametrize(
    ("fields", "seconds"), [({}, 900), ({"expires_in_s": 1}, 1), ({"expires_in_s": 86_400}, 86_400)]
)
async def test_a_hold_expires_in_15_minutes_or_up_to_a_day(
    fields: dict[str, int], seconds: int, holder: httpx.AsyncClient, rich: dict[str, str]
) -> None:
    hold = (await holder.post(PATH, json={**rich, "amount_minor": 100, **fields})).json()
    created, expires = (datetime.fromisoformat(hold[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(seconds=seconds)
    assert hold["on_expiry"] == "release"


@pytest.mark.parametrize("action", ["", "/capture", "/release", "/extend", "/report"])
@pytest.mark.parametrize("hold_id", [UNKNOWN, "hold_x", "x", UNKNOWN[:-1] + "B", str(uuid.UUID(int=7))])
async def test_unknown_holds_are_not_found(action: str, hold_id: str, holder: httpx.AsyncClient) -> None:
    body = {"amount_minor": 100, "expires_in_s": 5}
    answer = await (holder.post(f"{PATH}/{hold_id}{action}", json=body) if action else holder.get(f"{PATH}/{hold_id}"))
    assert (answer.status_code, answer.json()["code"]) == (404, "hold_not_found")


async def test_holds_need_billing_write_and_their_own_environment(
    holder: httpx.AsyncClient, rich: dict[str, str], client_for: ClientFor, keys: Keys
) -> None:
    hold = (await holder.post(PATH, json={**rich, "amount_minor": 100})).json()["hold_id"]
    reader, test = client_for(keys.reader), client_for(keys.test)
    assert (await reader.post(PATH, json={**rich, "amount_minor": 100})).status_code == 403
    assert (await reader.post(f"{PATH}/{hold}/capture", json={"amount_minor": 100})).status_code == 403
    assert (await reader.get(f"{PATH}/{hold}")).status_code == 200
    for answer in (
        await test.get(f"{PATH}/{hold}"),
        await test.post(f"{PATH}/{hold}/capture", json={"amount_minor": 100}),
        await test.post(f"{PATH}/{hold}/release", json={}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "hold_not_found")


async def test_amounts_are_in_the_unit_of_the_hold(holder: httpx.AsyncClient, rich: dict[str, str]) -> None:
    hold = (await holder.post(PATH, json={**rich, "amount": "1.00"})).json()["hold_id"]
    for action in ("capture", "report"):
        answer = await holder.post(f"{PATH}/{hold}/{action}", json={"amount_minor": 100})
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
            422,
            "wrong_unit",
            "amount_minor",
        )
