"""Cost records: every refused request names its field, and hostile ids and values never answer 5xx."""

import asyncio
import json
from base64 import urlsafe_b64encode
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.cost_records.deciding import MAX_ITEMS
from app.cost_records.errors import CostRecordNotFound
from app.cost_records.ids import NOBODY, place_of, text_of
from tests.metering.conftest import Desk, llm
from tests.metering.test_cost_records import PATH, add, complete, get, opened, opening
from tests.support.invalid_requests import CONTENT_TYPES, NASTY_VALUES, WHOLE_BODIES
from tests.support.wallets import DOLLAR
from tests.test_nasty_input import judge, leaves, with_value

OPENING = {
    "request_id": "nasty",
    "user_id": "nasty",
    "tool": "t",
    "query": "q",
    "estimate": "1",
    "agent_id": "a",
    "run_id": "r",
    "expires_in_s": 60,
    "on_expiry": "charge_nothing",
    "client_key": None,
    "customer_email": "a@example.com",
}
ITEM: dict[str, Any] = {"item_id": "i", "metric": llm(1, 1), "cost_cents": 0}
COMPLETION = {"status": "failed", "execution_time_ms": 1, "error_message": "e"}


@pytest.mark.parametrize(
    ("changes", "status", "code", "named"),
    [
        ({"request_id": ""}, 422, "validation_error", "request_id"),
        ({"request_id": None}, 422, "validation_error", "request_id"),
        ({"request_id": "x" * 256}, 422, "validation_error", "request_id"),
        ({"tool": ""}, 422, "validation_error", "tool"),
        ({"query": "x" * 1001}, 422, "validation_error", "query"),
        ({"query": "\0"}, 422, "validation_error", "query"),
        ({"expires_in_s": 0}, 422, "validation_error", "expires_in_s"),
        ({"expires_in_s": 86_401}, 422, "validation_error", "expires_in_s"),
        ({"on_expiry": "charge_all"}, 422, "validation_error", "on_expiry"),
        ({"estimate": "-0.1"}, 400, "negative_cost", "estimate"),
        ({"estimate_cents": -1}, 400, "negative_cost", "estimate_cents"),
        ({"estimate_cents": 2**63 - 1}, 422, "cost_too_large", ""),
        ({"estimate": "1", "estimate_cents": 1}, 422, "validation_error", "estimate_cents"),
        ({"client_key": "c"}, 422, "invalid_request", "client_key"),
        ({"user_id": None}, 422, "identity_required", "user_id"),
    ],
)
async def test_what_a_record_cannot_be(
    desk: Desk, user: str, changes: dict[str, Any], status: int, code: str, named: str
) -> None:
    answer = await desk.router.post(PATH, json={**opening(user), **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert named in json.dumps(answer.json()["error"])


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"item_id": ""}, 422, "validation_error"),
        ({"metric": None}, 422, "validation_error"),
        ({"metric": llm(model="unknown")}, 422, "unknown_model"),
        ({"metric": {"type": "custom", "meter": "cost_record", "quantity": 1}}, 422, "unknown_meter"),
        ({"metric": {"type": "custom", "meter": "cost-record", "quantity": 1}, "cost": "1"}, 422, "validation_error"),
        ({"cost": "-1"}, 400, "negative_cost"),
        ({"cost": "100.01"}, 422, "invalid_request"),
        ({"cost": "1", "cost_cents": 1}, 422, "validation_error"),
    ],
)
async def test_what_an_item_cannot_be(desk: Desk, user: str, changes: dict[str, Any], status: int, code: str) -> None:
    record_id = await opened(desk, user)
    answer = await add(desk, record_id, **{"item_id": "i", "metric": llm(), **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (await get(desk, record_id))["items"] == []


@pytest.mark.parametrize("changes", [{"status": "expired"}, {"status": None}, {"execution_time_ms": -1}])
async def test_what_an_outcome_cannot_be(desk: Desk, user: str, changes: dict[str, Any]) -> None:
    record_id = await opened(desk, user)
    answer = await desk.router.post(f"{PATH}/{record_id}/complete", json={"status": "completed", **changes})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert (await get(desk, record_id))["status"] == "open"


async def test_a_stated_cost_needs_its_permission(desk: Desk, user: str) -> None:
    record_id = await opened(desk, user)
    answer = await desk.writer.post(f"{PATH}/{record_id}/items", json={"item_id": "i", "cost": "0.1"})
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_permission")


@pytest.mark.parametrize(("name", "status"), [("reader", 403), ("stranger", 403), ("nobody", 401), ("test", 404)])
async def test_only_keys_that_report_usage_of_the_environment_may(
    desk: Desk, user: str, name: str, status: int
) -> None:
    record_id = await opened(desk, user, {"metric": llm()})
    client = desk.clients[name]
    item = await client.post(f"{PATH}/{record_id}/items", json={"item_id": "i", "metric": llm()})
    completion = await client.post(f"{PATH}/{record_id}/complete", json={"status": "completed"})
    assert (item.status_code, completion.status_code) == (status, status)
    read = await client.get(f"{PATH}/{record_id}")
    assert read.status_code == (200 if name == "reader" else status)
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


async def test_a_record_has_a_bounded_number_of_items(desk: Desk, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ITEMS == 1000
    monkeypatch.setattr("app.cost_records.deciding.MAX_ITEMS", 2)
    record_id = await opened(desk, user, {"metric": llm()}, {"metric": llm()})
    answer = await add(desk, record_id, metric=llm())
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_items")


async def test_a_sum_fits_64_bits(desk: Desk, user: str) -> None:
    huge = {"type": "storage", "quantity": 5 * 10**11}  # 5 billion dollars
    record_id = await opened(desk, user, {"metric": huge})
    for quantity in (5 * 10**11, 10**12):
        answer = await add(desk, record_id, metric={**huge, "quantity": quantity})
        assert (answer.status_code, answer.json()["code"]) == (422, "cost_too_large")
    assert (await complete(desk, record_id, "failed")).json()["cost"] == "5000000000.000000"


def test_an_id_encodes_its_account_and_nothing_else_is_one() -> None:
    account_id, record_id = uuid4(), uuid4()
    text = text_of(account_id, record_id)
    assert place_of(text) == (account_id, record_id)
    assert place_of(text_of(NOBODY, record_id)).account_id == NOBODY
    odd = text[:-1] + chr(ord(text[-1]) + 1)  # other unused bits
    for other in ("", "cr_", text[:-1], text + "A", text.upper(), f"{text}=", text.replace("cr_", "cs_"), odd):
        with pytest.raises(CostRecordNotFound):
            place_of(other)


HOSTILE = [
    "x",
    "cr_",
    "cr_" + "A" * 43,
    "cr_" + urlsafe_b64encode(UUID(int=2**128 - 1).bytes * 2).decode().rstrip("="),
    "%00",
    "%ff%fe",
    "..%2F..",
    "cr_%E2%82%AC" + "A" * 42,
    "a" * 3000,
    "' OR 1=1 --",
]


@pytest.mark.parametrize("record_id", HOSTILE)
async def test_hostile_ids_are_not_found(desk: Desk, record_id: str) -> None:
    answers = [
        await desk.router.get(f"{PATH}/{record_id}"),
        await add(desk, record_id, metric=llm()),
        await complete(desk, record_id),
    ]
    for answer in answers:
        assert answer.status_code in (400, 404), answer.text
        assert answer.json()["error"]["code"] in ("not_found", "bad_request")


async def test_an_id_with_another_account_is_not_found(desk: Desk, user: str) -> None:
    place = place_of(await opened(desk, user, {"metric": llm()}))
    other = await desk.account_id(await desk.user(100))
    for account_id in (other, NOBODY, uuid4()):
        record_id = text_of(account_id, place.record_id)
        for answer in (await complete(desk, record_id), await add(desk, record_id, metric=llm())):
            assert (answer.status_code, answer.json()["code"]) == (404, "cost_record_not_found")
        assert (await desk.reader.get(f"{PATH}/{record_id}")).status_code == 404
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


@pytest.mark.parametrize("part", ["", "items", "complete"])
async def test_every_field_takes_or_refuses_every_value(desk: Desk, part: str) -> None:
    record_id = await opened(desk, await desk.user(1))
    path = f"{PATH}/{record_id}/{part}" if part else PATH
    good = {"": OPENING, "items": ITEM, "complete": COMPLETION}[part]
    headers = {"Content-Type": "application/json"}
    cases = [(field, text) for field in leaves(good) for text in NASTY_VALUES]
    for begin in range(0, len(cases), 20):
        some = cases[begin : begin + 20]
        bodies = [with_value(good, field, text) for field, text in some]
        answers = await asyncio.gather(*(desk.router.post(path, content=body, headers=headers) for body in bodies))
        for case, answer in zip(some, answers, strict=True):
            judge(answer, (path, *case))
    for name, content in WHOLE_BODIES.items():
        judge(await desk.router.post(path, content=content, headers=headers), (path, name))
    for content_type in CONTENT_TYPES:
        content = json.dumps(good).encode()
        judge(await desk.router.post(path, content=content, headers={"Content-Type": content_type}), content_type)
