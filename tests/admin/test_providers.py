"""Payment providers' keys: sealed, tested, changed, revoked, and never shown."""

import hashlib
import hmac
import itertools
import json
import time
from datetime import UTC, datetime

import httpx
import pytest

from app.configuration.editing import ConfigurationEditor
from app.configuration.sealing import CannotOpen, Sealed, Sealer
from app.stripe_keys import StripeKeys
from tests.books import connected
from tests.conftest import running_app, settings_for
from tests.databases import Urls
from tests.support.configurable_service import (
    LIVE,
    SECRET,
    ConfigurableService,
    key_material,
    running_service,
    soon,
    user,
)


async def test_provider_keys_are_sealed_and_shown_to_nobody(service: ConfigurableService) -> None:
    office = await service.office()
    stored = await office.put(LIVE, json=service.keys())
    assert stored.status_code == 200, stored.text
    answers = [
        stored.text,
        (await office.get("/admin/config/providers")).text,
        (await office.get("/admin/config/provider_live/versions")).text,
        (await office.get("/admin/audit-logs")).text,
    ]
    rows = await service.rows("SELECT * FROM configuration_versions") + await service.rows(
        "SELECT * FROM admin_audit_log"
    )
    sealed = await service.rows("SELECT * FROM payment_providers")
    for text in (*answers, str(rows), str(sealed)):
        assert service.stripe.secret_key not in text
        assert service.stripe.webhook_secret not in text
    assert service.stripe.secret_key.encode() not in sealed[0]["sealed"]
    shown = stored.json()
    assert (shown["secret_key_tail"], shown["source"], shown["readable"]) == (
        "…",
        "admin",
        True,
    )  # too short for a tail
    assert shown["webhook_secret_tail"] == "…ests"
    entry = (await service.rows("SELECT * FROM admin_audit_log WHERE action = 'config.change'"))[0]
    assert (entry["environment"], entry["target_id"]) == ("live", "provider_live")


async def test_secrets_not_given_stay_and_a_new_one_counts_though_it_looks_the_same(
    service: ConfigurableService,
) -> None:
    office, agent = await service.office(), await service.agent()
    no_secret = {"version": 0, "reason": "because", "publishable_key": "pk_test_tests"}
    refused = await office.put(LIVE, json=no_secret)
    assert (refused.status_code, "secret_key is required" in refused.text) == (422, True)
    await office.put(LIVE, json=service.keys(webhook_secret="whsec_one_of_them_1234"))
    kept = await office.put(LIVE, json={**no_secret, "version": 1})
    assert (kept.status_code, kept.json()["version"]) == (200, 2)
    payload = json.dumps({"id": "evt_1", "type": "x.y", "created": 1, "data": {"object": {}}}).encode()

    async def accepts(secret: str) -> bool:
        signature = sign(payload, secret)
        answer = await agent.post(
            "/v1/billing/webhooks/stripe", content=payload, headers={"Stripe-Signature": signature}
        )
        return answer.status_code == 200

    await soon(lambda: accepts("whsec_one_of_them_1234"))
    await office.put(LIVE, json={**no_secret, "version": 2, "webhook_secret": "whsec_two_of_them_1234"})
    await soon(lambda: accepts("whsec_two_of_them_1234"))
    assert not await accepts("whsec_one_of_them_1234")


def sign(payload: bytes, secret: str) -> str:
    at = int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


async def test_one_webhook_secret_cannot_serve_both_environments(service: ConfigurableService) -> None:
    office = await service.office()
    assert (await office.put(LIVE, json=service.keys())).status_code == 200
    answer = await office.put("/admin/config/providers/test", json=service.keys())
    assert (answer.status_code, "that of the live environment" in answer.text) == (422, True)


async def test_a_key_is_tried_before_it_is_stored(service: ConfigurableService) -> None:
    office = await service.office()
    answer = await office.post(f"{LIVE}/test", json={})
    assert answer.json() == {"ok": False, "problem": "The live environment has no keys", "note": None}
    answer = await office.post(f"{LIVE}/test", json={"secret_key": "sk_test_unknown"})
    assert answer.json() == {"ok": False, "problem": "Stripe does not accept this key", "note": None}
    answer = await office.post(f"{LIVE}/test", json={"secret_key": service.stripe.secret_key})
    assert answer.json() == {"ok": True, "problem": None, "note": None}
    assert await service.rows("SELECT FROM payment_providers") == []
    await office.put(LIVE, json=service.keys())

    async def stored_key_works() -> bool:
        return bool((await office.post(f"{LIVE}/test", json={})).json()["ok"])

    await soon(stored_key_works)
    async with httpx.AsyncClient() as control:
        await control.post(
            f"{service.stripe.url}/_control/failures",
            json={"method": "GET", "path": "/v1/balance", "status": None, "times": 9},
        )
    assert (await office.post(f"{LIVE}/test", json={})).json()["problem"] == "Stripe does not answer"


async def test_a_restricted_key_is_told_apart_from_one_that_stripe_does_not_know(service: ConfigurableService) -> None:
    office = await service.office()
    restricted = service.stripe.secret_key.replace("sk_", "rk_", 1)
    trial = (await office.post(f"{LIVE}/test", json={"secret_key": restricted})).json()
    assert (trial["ok"], trial["problem"]) == (True, None)
    assert "without access to the balance" in trial["note"]
    async with httpx.AsyncClient() as control:
        forbid = {"method": "GET", "path": "/v1/events", "status": 403}
        await control.post(f"{service.stripe.url}/_control/failures", json=forbid)
    trial = (await office.post(f"{LIVE}/test", json={"secret_key": restricted})).json()
    assert (trial["ok"], trial["note"]) == (False, None)
    assert trial["problem"].startswith("Stripe knows this key, but it can read neither")
    trial = (await office.post(f"{LIVE}/test", json={"secret_key": f"{restricted}x"})).json()
    assert trial["problem"] == "Stripe does not accept this key"


async def test_what_is_sold_through_a_restricted_key_is_booked(service: ConfigurableService) -> None:
    office, agent = await service.office(), await service.agent()
    restricted = service.stripe.secret_key.replace("sk_", "rk_", 1)
    assert (await office.put(LIVE, json={**service.keys(), "secret_key": restricted})).status_code == 200

    async def buys() -> bool:
        return (await agent.post("/v1/billing/purchases", json=user("restricted"))).status_code == 201

    await soon(buys)


async def test_keys_taken_back_are_gone_and_nothing_can_be_bought(service: ConfigurableService) -> None:
    office, agent = await service.office(), await service.agent()
    await office.put(LIVE, json=service.keys())

    async def buys(status: int) -> bool:
        return (await agent.post("/v1/billing/purchases", json=user("b"))).status_code == status

    await soon(lambda: buys(201))
    before = await office.get("/admin/config/provider_live/settings")
    assert before.json() == {"section": "provider_live", "document": None}
    reset = await office.post("/admin/config/provider_live/reset", json={"version": 1, "reason": "they leaked"})
    assert reset.status_code == 200
    assert await service.rows("SELECT FROM payment_providers") == []
    await soon(lambda: buys(503))


async def test_without_a_key_to_seal_with_nothing_is_stored(service: ConfigurableService) -> None:
    settings = settings_for(service.urls, admin_session_secret=SECRET, stripe_api_base=service.stripe.url)
    async with running_app(settings) as app:
        office = await service.client(app, Authorization=f"Bearer {service.tokens['admin']}")
        assert (await office.get("/admin/config/providers")).json()["can_store"] is False
        answer = await office.put(LIVE, json=service.keys())
        assert (answer.status_code, answer.json()["code"]) == (409, "encryption_not_configured")
        assert await service.rows("SELECT FROM configuration_versions") == []


async def test_keys_that_cannot_be_opened_are_none_not_the_settings_ones(service: ConfigurableService) -> None:
    """Another account's keys would sell there what is looked for here."""
    assert (await (await service.office()).put(LIVE, json=service.keys())).status_code == 200
    settings = settings_for(
        service.urls,
        admin_session_secret=SECRET,
        stripe_api_base=service.stripe.url,
        stripe_live=service.stripe.keys,
        encryption_keys={"k2": key_material()},
    )
    async with running_app(settings) as app:
        office = await service.client(app, Authorization=f"Bearer {service.tokens['admin']}")
        live = (await office.get("/admin/config/providers")).json()["providers"][0]
        assert (live["environment"], live["source"], live["readable"]) == ("live", "admin", False)
        agent = await service.agent(app)
        answer = await agent.post("/v1/billing/purchases", json=user("c"))
        assert (answer.status_code, answer.json()["code"]) == (503, "payments_not_configured")
        again = await office.put(LIVE, json=service.keys(version=1))
        assert (again.status_code, again.json()["readable"]) == (200, True)


async def test_encryption_keys_can_be_changed_without_losing_a_secret(service: ConfigurableService) -> None:
    assert (await (await service.office()).put(LIVE, json=service.keys())).status_code == 200
    old = service.first.state.settings.encryption_keys["k1"].get_secret_value()
    both = settings_for(
        service.urls, encryption_keys={"k2": key_material(), "k1": old}, stripe_api_base=service.stripe.url
    )
    now = datetime.now(UTC)
    async with running_app(both) as app:
        for resealed in (1, 0):
            async with app.state.db.transaction() as tx:
                assert await ConfigurationEditor(both).reseal(tx, now) == resealed
    new_only = both.model_copy(update={"encryption_keys": {"k2": both.encryption_keys["k2"]}})
    async with running_app(new_only) as app:
        answer = await (await service.agent(app)).post("/v1/billing/purchases", json=user("d"))
        assert answer.status_code == 201, answer.text
        async with app.state.db.transaction() as tx:
            old_only = both.model_copy(update={"encryption_keys": {"k1": both.encryption_keys["k1"]}})
            with pytest.raises(CannotOpen):
                await ConfigurationEditor(old_only).reseal(tx, now)


def test_what_was_sealed_for_one_row_or_changed_by_a_bit_does_not_open() -> None:
    sealer = Sealer(settings_for(Urls(*["postgresql://x"] * 3), encryption_keys={"k": key_material()}).encryption_keys)
    sealed = sealer.seal("secret", "live")
    assert sealer.open(sealed, "live") == "secret"
    assert sealer.seal("secret", "live").data != sealed.data
    with pytest.raises(CannotOpen):
        sealer.open(sealed, "test")
    for position in range(len(sealed.data)):
        data = bytearray(sealed.data)
        data[position] ^= 1
        with pytest.raises(CannotOpen):
            sealer.open(Sealed("k", bytes(data)), "live")
    with pytest.raises(CannotOpen):
        sealer.open(Sealed("other", sealed.data), "live")


async def test_what_no_key_has_is_refused_and_not_repeated(service: ConfigurableService) -> None:
    office = await service.office()
    for odd, field in itertools.product(("\x00", "\n", " ", "\u20ac"), ("secret_key", "webhook_secret")):
        keys = service.keys()
        answer = await office.put(LIVE, json={**keys, field: keys[field] + "0123456789abcdef" + odd})
        assert (answer.status_code, keys[field] in answer.text) == (422, False), answer.text
        tried = await office.post(f"{LIVE}/test", json={"secret_key": "sk_test_12345678" + odd})
        assert tried.status_code == 422
    assert await service.rows("SELECT FROM payment_providers") == []


async def test_keys_of_another_account_end_the_purchases_of_the_last_one(service: ConfigurableService) -> None:
    office, agent = await service.office(), await service.agent()
    await office.put(LIVE, json=service.keys())

    async def buys() -> bool:
        return (await agent.post("/v1/billing/purchases", json=user("b"))).status_code == 201

    await soon(buys)
    async with connected(service.urls) as connection:  # as if opened at an account that the keys no longer belong to
        await connection.execute("UPDATE purchases SET payment_intent_id = 'pi_elsewhere'")
    again = await agent.post("/v1/billing/purchases", json=user("b"))
    assert (again.status_code, again.json()["status"]) == (201, "requires_payment_method"), again.text
    rows = await service.rows("SELECT payment_intent_id, status FROM purchases ORDER BY created_at")
    assert rows[0] == {"payment_intent_id": "pi_elsewhere", "status": "canceled"}
    assert rows[1]["payment_intent_id"] == again.json()["payment_id"]


async def test_settings_do_not_come_back_with_the_webhook_secret_of_the_other_environment(own_database: Urls) -> None:
    async with running_service(own_database) as service:
        editor: ConfigurationEditor = service.first.state.configuration_editor
        live = StripeKeys.model_validate(service.stripe.keys)
        editor._settings = editor._settings.model_copy(update={"stripe_live": live})
        office = await service.office()
        stored = await office.put(LIVE, json=service.keys(webhook_secret="whsec_another_one_0123456789"))
        assert stored.status_code == 200, stored.text
        assert (await office.put("/admin/config/providers/test", json=service.keys())).status_code == 200
        reset = await office.post("/admin/config/provider_live/reset", json={"version": 1, "reason": "back"})
        assert (reset.status_code, "that of the test environment" in reset.text) == (422, True)
        assert len(await service.rows("SELECT FROM payment_providers")) == 2
