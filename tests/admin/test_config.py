"""Configuration by admins: applies in every process within a second, is versioned, and is in the audit log."""

import asyncio
import json
import time
from typing import Any

from tests.auth.test_changes_spread import kill_listeners
from tests.support.configurable_service import (
    DEFAULTS,
    DOMAIN,
    LIVE,
    PACKS,
    PRODUCTS,
    ConfigurableService,
    pack,
    set_section,
    soon,
    user,
)

FREE = {"plan_name": "free"}


async def test_until_somebody_sets_it_the_settings_count(service: ConfigurableService) -> None:
    office = await service.office("viewer")
    packs = (await office.get(PACKS)).json()
    assert packs["packs"] == [pack("standard", 500, 20)]
    assert (packs["version"], packs["source"], packs["changed_by"]) == (0, "settings", None)
    assert {p["name"] for p in (await office.get(PRODUCTS)).json()["products"]} == {"web_search", "image_gen"}
    defaults = (await office.get(DEFAULTS)).json()
    assert (defaults["free_uses"], defaults["daily_free_uses"], defaults["currency"]) == (3, 0, "USD")
    assert (await office.get("/admin/config/packs/versions")).json()["versions"] == []


async def test_defaults_and_the_first_pack_are_in_force_elsewhere_within_a_second(service: ConfigurableService) -> None:
    office, agent = await service.office(), await service.agent()
    check = "/v1/billing/credits/check"
    assert (await agent.post(check, json=user("before"))).json()["free_uses_remaining"] == 3
    await set_section(office, DEFAULTS, 0, free_uses=0, daily_free_uses=2, plan_name="trial", currency="USD")
    numbers = iter(range(10_000))

    async def new_accounts_are_opened_by_it() -> bool:
        answer = (await agent.post(check, json=user(f"u{next(numbers)}"))).json()
        defaults = {name: answer[name] for name in ("free_uses_remaining", "daily_free_uses_remaining", "plan_name")}
        return defaults == {"free_uses_remaining": 0, "daily_free_uses_remaining": 2, "plan_name": "trial"}

    await soon(new_accounts_are_opened_by_it)
    old = (await agent.post(check, json=user("before"))).json()
    assert (old["free_uses_remaining"], old["daily_free_uses_remaining"], old["plan_name"]) == (3, 2, "free")
    charge = {**user("before"), "amount_minor": 600, "currency": "USD"}
    assert (await agent.post("/v1/billing/charges", json=charge)).status_code == 402
    assert (await agent.post("/v1/billing/charges", json={**charge, "amount_minor": 500})).status_code == 201
    await set_section(office, PACKS, 0, packs=[pack("small", 100, 3), pack("standard", 500, 20)])

    async def the_price_is_the_new_one() -> bool:
        answer = (await agent.post(check, json=user("before"))).json()
        return (answer["purchase_price_minor"], answer["purchase_uses"]) == (100, 3)

    await soon(the_price_is_the_new_one)


async def test_nobody_is_sold_credits_in_another_currency_than_their_account_has(service: ConfigurableService) -> None:
    """Otherwise the proceeds of a credit would be in two currencies, or in the wrong one."""
    office, agent = await service.office(), await service.agent()
    euro = {**pack("euro", 450, 20), "currency": "EUR"}
    reason = {"version": 0, "reason": "abroad"}
    refused = [
        await office.put(PACKS, json={**reason, "packs": [euro]}),
        await office.put(DEFAULTS, json={**reason, "free_uses": 0, "daily_free_uses": 0, **FREE, "currency": "EUR"}),
    ]
    assert [answer.status_code for answer in refused] == [422, 422]
    assert "no pack is sold in USD" in refused[0].text
    assert "no pack is sold in EUR" in refused[1].text
    await set_section(office, PACKS, 0, packs=[pack("standard", 500, 20), euro])
    await set_section(office, DEFAULTS, 0, free_uses=0, daily_free_uses=0, **FREE, currency="USD")
    assert (await office.put(LIVE, json=service.keys())).status_code == 200

    async def sold(currency: str, **chosen: str) -> tuple[object, object, object]:
        who = user(f"buyer in {currency}")
        await agent.post("/v1/billing/accounts", json={**who, "currency": currency})
        check = (await agent.post("/v1/billing/credits/check", json=who)).json()
        answer = await agent.post("/v1/billing/purchases", json={**who, **chosen})
        opened = answer.json()
        return check["purchase_price_minor"], opened.get("amount_minor"), opened.get("currency", opened.get("code"))

    async def all_is_known() -> bool:
        return await sold("EUR") == (450, 450, "EUR")

    await soon(all_is_known)
    assert await sold("USD") == (500, 500, "USD")
    assert await sold("EUR", pack="standard") == (450, None, "currency_mismatch")
    assert await sold("GBP") == (None, None, "currency_mismatch")


async def test_a_product_comes_changes_and_goes_and_what_was_charged_is_replayed(service: ConfigurableService) -> None:
    office, agent = await service.office(), await service.agent()
    charge = {**user("maker"), "product_type": "video", "idempotency_key": "v1"}

    async def status(code: int) -> bool:
        return (await agent.get("/v1/tools/check/video", params=user("maker"))).status_code == code

    assert await status(400)
    video = {"name": "video", "initial_free": 1, "daily_free": 0, "price_credits": 7}
    await set_section(office, PRODUCTS, 0, products=[video])
    await soon(lambda: status(200))
    first = (await agent.post("/v1/tools/charge", json=charge)).json()
    assert (first["used_free"], first["free_remaining"]) == (True, 0)
    assert (await agent.get("/v1/tools/balance/video", params=user("maker"))).json()["price_minor"] == 700
    await set_section(office, PRODUCTS, 1, products=[])
    await soon(lambda: status(400))
    assert (await agent.post("/v1/tools/charge", json=charge)).json() == first
    gone = await agent.post("/v1/tools/charge", json={**charge, "idempotency_key": "v2"})
    assert (gone.status_code, gone.json()["code"]) == (400, "unknown_product_type")
    assert (await agent.get("/v1/tools/balance", params=user("maker"))).json() == {"balances": []}


async def test_who_does_not_hear_of_changes_asks_each_time(service: ConfigurableService) -> None:
    """The second process cannot listen: its connection is cut again and again, and no answer of it is stale."""
    office, agent = await service.office(), await service.agent()
    assert (await agent.post("/v1/billing/credits/check", json=user("a"))).status_code == 200
    for version in range(5):
        await kill_listeners(service.urls.superuser)
        await set_section(office, PACKS, version, packs=[pack("only", 100 + version, 1)])
        await agent.post("/v1/billing/charges", json={**user("a"), "amount_minor": 300, "currency": "USD"})

        async def the_price_is_the_new_one(price: int = 100 + version) -> bool:
            answer = (await agent.post("/v1/billing/credits/check", json=user("a"))).json()
            return bool(answer["purchase_price_minor"] == price)

        await soon(the_price_is_the_new_one)


async def test_an_open_purchase_keeps_its_price_and_the_next_has_the_new_one(service: ConfigurableService) -> None:
    office, agent = await service.office(), await service.agent(service.first)
    assert (await office.put(LIVE, json=service.keys())).status_code == 200

    async def can_buy() -> bool:
        answer = await agent.post("/v1/billing/purchases", json=user("early"))
        return answer.status_code == 201 and answer.json()["amount_minor"] == 500

    await soon(can_buy)
    await set_section(office, PACKS, 0, packs=[pack("standard", 900, 20)])

    async def the_next_pays_more() -> bool:
        answer = await agent.post("/v1/billing/purchases", json=user(f"late {time.monotonic()}"))
        return bool(answer.json()["amount_minor"] == 900)

    await soon(the_next_pays_more)
    assert (await agent.post("/v1/billing/purchases", json=user("early"))).json()["amount_minor"] == 500


async def test_two_who_look_at_one_version_cannot_both_change_it(service: ConfigurableService) -> None:
    office = await service.office()
    bodies = [
        {"version": 0, "reason": f"reason {price}", "packs": [pack("standard", price, 20)]} for price in range(501, 509)
    ]
    answers = await asyncio.gather(*(office.put(PACKS, json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"configuration_changed"}
    [won] = [a.json() for a in answers if a.status_code == 200]
    [version] = (await office.get("/admin/config/packs/versions")).json()["versions"]
    assert version["document"] == {"packs": won["packs"]}
    assert (version["version"], version["reason"], version["changed_by"]) == (1, won["reason"], f"admin@{DOMAIN}")
    audited = await service.rows("SELECT * FROM admin_audit_log WHERE action = 'config.change'")
    assert len(audited) == 1
    before, after = json.loads(audited[0]["before"]), json.loads(audited[0]["after"])
    assert before == {"version": 0, "document": {"packs": [pack("standard", 500, 20)]}}
    assert after == {"version": 1, "document": {"packs": won["packs"]}}
    assert (audited[0]["target_type"], audited[0]["target_id"], audited[0]["reason"]) == (
        "config",
        "packs",
        won["reason"],
    )


async def test_what_is_so_already_is_no_version_and_going_back_is_one(service: ConfigurableService) -> None:
    office = await service.office()
    same = await set_section(office, PACKS, 0, packs=[pack("standard", 500, 20)])
    assert (same["version"], same["source"]) == (0, "settings")
    await set_section(office, PACKS, 0, packs=[pack("standard", 700, 20)])
    assert (await set_section(office, PACKS, 1, packs=[pack("standard", 700, 20)]))["version"] == 1
    reset_values = (await office.get("/admin/config/packs/settings")).json()
    assert reset_values == {"section": "packs", "document": {"packs": [pack("standard", 500, 20)]}}
    reset = await office.post("/admin/config/packs/reset", json={"version": 1, "reason": "too dear"})
    [newest] = reset.json()["versions"]
    assert (newest["version"], newest["document"]) == (2, None)
    packs = (await office.get(PACKS)).json()
    assert (packs["version"], packs["source"], packs["packs"]) == (2, "settings", [pack("standard", 500, 20)])
    again = await office.post("/admin/config/packs/reset", json={"version": 2, "reason": "too dear"})
    assert again.json()["versions"][0]["version"] == 2
    assert len(await service.rows("SELECT FROM admin_audit_log WHERE action = 'config.change'")) == 2
    page = (await office.get("/admin/config/packs/versions", params={"limit": 1})).json()
    assert (page["versions"][0]["version"], page["next_cursor"]) == (2, 2)
    rest = (await office.get("/admin/config/packs/versions", params={"cursor": 2})).json()
    assert ([v["version"] for v in rest["versions"]], rest["next_cursor"]) == ([1], None)


NONSENSE: list[tuple[str, dict[str, Any], str]] = [
    (PACKS, {"packs": []}, "packs"),
    (PACKS, {"packs": [pack("a", 100, 1), pack("a", 200, 2)]}, "a is there twice"),
    (PACKS, {"packs": [pack("a", 0, 1)]}, "price_minor"),
    (PACKS, {"packs": [pack("a", 1, 1)]}, "Stripe's minimum is 0.50 USD"),
    (PACKS, {"packs": [{**pack("a", 1505, 1), "currency": "KWD"}]}, "Stripe accepts multiples of 0.010 KWD only"),
    (PACKS, {"packs": [{**pack("a", 500, 1), "currency": "ZZZ"}]}, "Stripe does not charge ZZZ"),
    (PACKS, {"packs": [pack("Big Pack", 100, 1)]}, "name"),
    (PACKS, {"packs": [{**pack("a", 100, 1), "currency": "usd"}]}, "currency"),
    (PACKS, {"packs": [pack(f"p{i}", 1, 1) for i in range(101)]}, "packs"),
    (
        PRODUCTS,
        {"products": [{"name": "x", "initial_free": -1, "daily_free": 0, "price_credits": 1}]},
        "initial_free",
    ),
    (
        PRODUCTS,
        {"products": [{"name": "x", "initial_free": 0, "daily_free": 0, "price_credits": 0}]},
        "price_credits",
    ),
    (DEFAULTS, {"free_uses": -1, "daily_free_uses": 0, "plan_name": "p", "currency": "USD"}, "free_uses"),
    (DEFAULTS, {"free_uses": 1, "daily_free_uses": 0, "plan_name": "", "currency": "USD"}, "plan_name"),
    (DEFAULTS, {"free_uses": 1, "daily_free_uses": 0, "plan_name": "a\0b", "currency": "USD"}, "plan_name"),
    (LIVE, {"publishable_key": "sk_test_not_for_browsers", "secret_key": "sk_test_1234567"}, "webhook_secret"),
    (
        LIVE,
        {"publishable_key": "pk_live_123456", "secret_key": "sk_test_1234567", "webhook_secret": "whsec_1234"},
        "publishable_key",
    ),
    (
        LIVE,
        {"publishable_key": "pk_test_123456", "secret_key": "nonsense", "webhook_secret": "whsec_1234"},
        "secret_key",
    ),
    (
        LIVE,
        {"publishable_key": "pk_test_123456", "secret_key": "sk_test_1234567", "webhook_secret": "nonsense"},
        "webhook_secret",
    ),
]


async def test_what_makes_no_sense_is_refused_and_named(service: ConfigurableService) -> None:
    office = await service.office()
    for path, fields, named in NONSENSE:
        answer = await office.put(path, json={"version": 0, "reason": "because", **fields})
        assert (answer.status_code, named in answer.text) == (422, True), (fields, answer.text)
        for secret in ("sk_test_1234567", "nonsense"):
            assert secret not in answer.text
    assert await service.rows("SELECT FROM configuration_versions") == []
    assert await service.rows("SELECT FROM payment_providers") == []
