"""402 answers of usage events: exact figures, and remedies that an agent can follow."""

from typing import Any

import httpx
import pytest

from tests.metering.conftest import Desk, llm, usage

PATH, EVENTS = "/v1/usage", "/v1/events"


def remedies_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The remedies of a refusal, whose other members are right."""
    body = answer.json()
    assert (answer.status_code, body["code"], body["retryable"]) == (402, "insufficient_money", False), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert body["error"]["code"] == "insufficient_credits"
    assert set(body["error"]["details"]) == {"balance", "required"}
    remedies: list[dict[str, Any]] = body["remedies"]
    return remedies


def smaller(amount: str) -> dict[str, Any]:
    return {"type": "smaller_amount", "amount_minor": None, "amount": amount, "currency": "USD"}


async def test_figures_and_a_smaller_cost(desk: Desk) -> None:
    user = await desk.user(1)
    event = usage(user, "e", cost="0.0300001")
    answer = await desk.router.post(PATH, json=event)
    assert remedies_of(answer) == [smaller("0.010000")]
    body = answer.json()
    assert (body["balance"], body["required"], body["currency"]) == ("0.010000", "0.0300001", "USD")
    assert (body["shortfall"], body["max_affordable"]) == ("0.0200001", "0.010000")
    assert body["error"]["details"] == {"balance": 1, "required": 4}
    followed = await desk.router.post(PATH, json={**event, "cost": body["max_affordable"]})
    assert (followed.status_code, followed.json()["balance"]) == (200, "0.000000")
    assert remedies_of(await desk.router.post(PATH, json=usage(user, "f", cost="1"))) == []


async def test_with_the_policy_debt_the_room_for_debt_counts(desk: Desk) -> None:
    user = await desk.user(1)
    answer = await desk.debtor.post(PATH, json=usage(user, "e", cost="6"))
    assert remedies_of(answer) == [smaller("5.010000")]
    assert (answer.json()["shortfall"], answer.json()["max_affordable"]) == ("5.990000", "5.010000")
    assert (await desk.debtor.post(PATH, json=usage(user, "e", cost="5.01"))).status_code == 200
    answer = await desk.debtor.post(PATH, json=usage(user, "f", cost="0.000000001"))
    assert remedies_of(answer) == []
    assert answer.json()["max_affordable"] == "0.000000"


async def test_a_cheaper_model_of_the_provider_that_fits(desk: Desk) -> None:
    """One cent pays for 16,666 tokens of gpt-4o-mini, and for a tenth of them of gpt-4o."""
    user = await desk.user(1)
    event = usage(user, "e", metric=llm(10_000, 1_000, provider="openai", model="gpt-4o"))
    [_, cheaper] = remedies_of(await desk.router.post(PATH, json=event))
    assert cheaper == {
        "type": "cheaper_model",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "cost": "0.002100",
        "currency": "USD",
        "price_version": cheaper["price_version"],
    }
    metric = {**event["metric"], "model": cheaper["model"]}
    followed = await desk.router.post(PATH, json={**event, "metric": metric})
    assert (followed.status_code, followed.json()["cost"]) == (200, cheaper["cost"])


async def test_no_model_is_proposed_for_a_stated_cost_or_another_measure(desk: Desk) -> None:
    user = await desk.user(1)
    metric = llm(10_000, 1_000, provider="openai", model="gpt-4o")
    hours = {"type": "compute", "cpu_hours": 100, "memory_gb_hours": 0}
    for event in (usage(user, "e", metric=metric, cost="5"), usage(user, "f", metric=hours)):
        assert remedies_of(await desk.router.post(PATH, json=event)) == [smaller("0.010000")]
    compute = {"user_id": user, "event_id": "g", "agent_id": "a", "cpu_hours": 100, "memory_gb_hours": 0}
    assert remedies_of(await desk.router.post(f"{PATH}/compute", json=compute)) == [smaller("0.010000")]


async def test_a_cloud_event_has_the_same_remedies(desk: Desk) -> None:
    user = await desk.user(1)
    data = {"metric": llm(60_000_000, 0, provider="openai", model="gpt-4o")}
    event = {"specversion": "1.0", "id": "e", "source": "s", "type": "llm", "subject": user, "data": data}
    headers = {"Content-Type": "application/cloudevents+json"}
    [less, cheaper] = remedies_of(await desk.router.post(EVENTS, json=event, headers=headers))
    assert (less["amount"], cheaper["model"]) == ("100.010000", "gpt-4o-mini")


@pytest.mark.parametrize("batch", [False, True])
async def test_repeats_say_that_they_changed_nothing(batch: bool, desk: Desk) -> None:
    user = await desk.user(100)
    event = usage(user, "e")
    path, body = (f"{PATH}/batch", {"events": [event]}) if batch else (PATH, event)
    first, second = [await desk.router.post(path, json=body) for _ in range(2)]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    mixed = await desk.router.post(f"{PATH}/batch", json={"events": [event, usage(user, "f")]})
    assert "Idempotency-Replayed" not in mixed.headers
    assert "Idempotency-Replayed" not in (await desk.router.post(f"{PATH}/batch", json={"events": []})).headers


async def test_repeated_cloud_events_say_that_they_changed_nothing(desk: Desk) -> None:
    user = await desk.user(100)
    event = {"specversion": "1.0", "id": "e", "source": "s", "type": "x", "subject": user, "data": {"metric": llm()}}
    headers = {"Content-Type": "application/cloudevents+json"}
    first, second = [await desk.router.post(EVENTS, json=event, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code) == (204, 204)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
