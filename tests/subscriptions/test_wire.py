"""The rows of Z-Billing's and the zOS web app's contracts about buying: types, refusals and failures, over HTTP.

Fields and types are as strict as the neighbours' clients; a refusal is one envelope with a code and a message.
"""

import json
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.demo.stripe.webhooks import signature
from tests.neighbours.strict import read, z_error
from tests.subscriptions.store import Buyer, Store

CARD = uuid.uuid4()
ROUTES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "purchase": ("POST", "/v1/credits/purchase", {"amount_usd": 25}),
    "auto-refill": ("POST", "/v1/credits/auto-refill", {"enabled": True}),
    "read auto-refill": ("GET", "/v1/credits/auto-refill", None),
    "cards": ("GET", "/v1/credits/cards", None),
    "save a card": ("POST", "/v1/credits/cards", {"consent": "I agree that my card is saved."}),
    "primary card": ("PUT", f"/v1/credits/cards/{CARD}/primary", None),
    "remove a card": ("DELETE", f"/v1/credits/cards/{CARD}", None),
    "payments": ("GET", "/v1/payments", None),
    "subscribe": ("POST", "/v1/subscriptions/checkout", {"plan": "standard"}),
    "portal": ("POST", "/v1/subscriptions/portal", None),
    "me": ("GET", "/v1/subscriptions/me", None),
    "change": ("POST", "/v1/subscriptions/change", {"plan": "pro"}),
    "cancel": ("POST", "/v1/subscriptions/cancel", None),
    "resume": ("POST", "/v1/subscriptions/resume", None),
    "zero pro": ("POST", "/api/subscriptions/zero-pro", {"paymentMethodId": "pm_card_visa"}),
    "zero status": ("GET", "/api/subscriptions/status", None),
    "zero cancel": ("POST", "/api/subscriptions/cancel", None),
}
CREATE_THE_ACCOUNT = {"subscribe", "zero pro", "zero status"}
"""Routes that answer a user without an account; the last one with `null`."""
SUBSCRIPTION = {"plan": str, "is_subscribed": bool, "monthly_credits": int}
WEBHOOK = "/webhooks/stripe"


async def send(client: httpx.AsyncClient, name: str, **more: Any) -> httpx.Response:
    method, path, body = ROUTES[name]
    sent: dict[str, Any] = more if body is None else {"json": body, **more}
    return await client.request(method, path, **sent)


# --- refusals ---


@pytest.mark.parametrize("name", ROUTES)
async def test_missing_and_wrong_credentials_are_401(store: Store, name: str) -> None:
    credentials: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer no-token"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": "cbk_live_unknown_unknown"},
        {"X-Admin-Key": "cbk_live_unknown_unknown"},
        {"X-API-Key": store.desk.router.headers["X-API-Key"]},  # a key is no user
    ]
    async with httpx.AsyncClient(base_url=store.desk.url) as client:
        for headers in credentials:
            refused = await send(client, name, headers=headers)
            assert z_error(refused)[:2] == (401, "unauthorized"), headers


@pytest.mark.parametrize("name", sorted(set(ROUTES) - CREATE_THE_ACCOUNT))
async def test_user_without_an_account_gets_404_that_names_it(open_buyer: Callable[[], Buyer], name: str) -> None:
    status, code, message = z_error(await send(open_buyer().person, name))
    assert (status, code) == (404, "not_found")
    assert "Account" in message


@pytest.mark.parametrize("name", sorted(CREATE_THE_ACCOUNT))
async def test_user_without_an_account_is_answered(open_buyer: Callable[[], Buyer], name: str) -> None:
    answer = await send(open_buyer().person, name)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", ROUTES)
async def test_failures_of_the_framework_have_the_envelope(store: Store, buyer: Buyer, name: str) -> None:
    method, path, body = ROUTES[name]
    wrong_method = await buyer.person.request("PATCH", path)
    assert z_error(wrong_method)[0] == 405
    if body is not None:
        headers = {"Content-Type": "application/json"}
        for content in (b"{", b"[]", b'"text"', b"\xff"):
            refused = await buyer.person.request(method, path, content=content, headers=headers)
            assert z_error(refused)[0] in (400, 422), content
        large = await buyer.person.request(method, path, content=b" " * (1024 * 1024 + 1), headers=headers)
        assert z_error(large)[0] == 413


async def test_users_without_a_subscription_cannot_change_one(buyer: Buyer) -> None:
    for name in ("change", "cancel", "resume", "zero cancel"):
        assert z_error(await send(buyer.person, name))[:2] == (404, "not_found")


# --- answers, as strictly as their readers ---


async def test_auto_refill_answers_the_three_settings(buyer: Buyer) -> None:
    fields = {"enabled": bool, "trigger_below_cents": int, "refill_amount_cents": int}
    answer = (await send(buyer.person, "auto-refill")).json()
    assert read(answer["auto_refill"], fields) == {
        "enabled": True,
        "trigger_below_cents": 500,
        "refill_amount_cents": 2500,
    }
    account = (await buyer.client.get("/v1/accounts/me")).json()
    assert account["auto_refill_enabled"] is True


async def test_subscription_reads_strictly_before_and_after(buyer: Buyer) -> None:
    before = (await send(buyer.client, "me")).json()
    assert read(before, SUBSCRIPTION) == {"plan": "free", "is_subscribed": False, "monthly_credits": 0}
    assert before["current_period_end"] is None
    page = (await send(buyer.client, "subscribe")).json()
    assert read(page, {"url": str})["url"].startswith(buyer.store.local.url)
    await buyer.store.pay(page)
    after = (await send(buyer.client, "me")).json()
    found = read(after, {**SUBSCRIPTION, "current_period_end": datetime})
    assert (found["plan"], found["is_subscribed"], found["monthly_credits"]) == ("standard", True, 2500)
    portal = (await send(buyer.client, "portal")).json()
    assert read(portal, {"url": str})["url"].startswith(buyer.store.local.url)
    zero = (await buyer.client.get("/api/subscriptions/status", params={"type": "ZERO"})).json()["subscription"]
    strict = {"status": str, "type": str, "stripeSubscriptionId": str, "currentPeriodEnd": datetime}
    assert read(zero, strict)["status"] == "active"


async def test_zero_pro_answers_the_names_of_the_web_app(open_buyer: Callable[[], Buyer]) -> None:
    buyer = open_buyer()
    address = {"line1": "1 Main St", "city": "Kyiv", "postal_code": "01001", "country": "UA"}
    details = {"email": "ada@example.com", "name": "Ada", "address": address}
    body = {"billingDetails": details, "paymentMethodId": "pm_card_visa", "unknown": 1}
    headers = {"X-App-Platform": "web"}
    begun = await buyer.client.post("/api/subscriptions/zero-pro", json=body, headers=headers)
    assert begun.status_code == 200, begun.text
    fields = {"subscriptionId": str, "clientSecret": str, "status": str}
    assert read(begun.json(), fields).keys() == begun.json().keys()


# --- Stripe's webhook under Z-Billing's path ---


def signed(store: Store, payload: bytes, at: float) -> dict[str, str]:
    return {"Stripe-Signature": signature(store.local.webhook_secret, payload, int(at))}


async def test_webhook_acknowledges_what_it_does_not_need(store: Store) -> None:
    event = {"id": f"evt_{uuid.uuid4().hex}", "object": "event", "type": "balance.available", "api_version": None}
    payload = json.dumps({**event, "created": int(time.time()), "data": {"object": {"object": "balance"}}}).encode()
    async with httpx.AsyncClient(base_url=store.desk.url) as client:
        for _ in range(2):
            answer = await client.post(WEBHOOK, content=payload, headers=signed(store, payload, time.time()))
            assert (answer.status_code, answer.json()) == (200, {"received": True})


async def test_webhook_refuses_other_signatures_and_bodies(store: Store) -> None:
    payload = b'{"id": "evt_1", "object": "event", "type": "balance.available"}'
    now = time.time()
    good = signed(store, payload, now)["Stripe-Signature"]
    cases: list[tuple[bytes, dict[str, str]]] = [
        (payload, {}),
        (payload, {"Stripe-Signature": ""}),
        (payload, {"Stripe-Signature": good[:-1] + ("0" if good[-1] != "0" else "1")}),
        (payload + b" ", {"Stripe-Signature": good}),
        (payload, signed(store, payload, now - 3600)),
        (payload, {"Stripe-Signature": f"t={int(now)}"}),
        (b"", signed(store, b"", now)),
        (b"[]", signed(store, b"[]", now)),
        (b"{", signed(store, b"{", now)),
    ]
    async with httpx.AsyncClient(base_url=store.desk.url) as client:
        for content, headers in cases:
            answer = await client.post(WEBHOOK, content=content, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature"), (content, headers)
