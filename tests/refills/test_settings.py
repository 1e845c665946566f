"""Settings of refills over HTTP: the fields of Z-Billing, the operator's bounds, and the back office."""

import asyncio
import uuid
from typing import Any

import pytest

from app.db.version_mark import UpgradeInProgress, VersionMark
from app.http.schemas import MAX_INT64
from app.plans.refill_bounds import Refills
from tests.admin.shops import sign_in
from tests.books import account_locked, waiting_for_locks
from tests.demo.oidc_server import SPA
from tests.refills.conftest import CARDS, SETTINGS, Buyer
from tests.refills.test_killed_workers import CONFIG

REASON = {"reason": "a ticket"}


async def test_first_settings_are_those_of_z_billing(buyer: Buyer) -> None:
    shown = await buyer.set()
    named = {name: shown[name] for name in ("enabled", "trigger_below_cents", "refill_amount_cents")}
    assert named == {"enabled": True, "trigger_below_cents": 500, "refill_amount_cents": 2500}
    assert shown["monthly_cap_cents"] == 100_000
    account = (await buyer.person.get("/v1/accounts/me")).json()
    assert account["auto_refill_enabled"] is True


async def test_absent_amounts_stay_as_they_are(buyer: Buyer) -> None:
    await buyer.set(trigger_below_cents=700, refill_amount_cents=3000, monthly_cap_cents=9000)
    shown = await buyer.set(enabled=False)
    amounts = [shown[f"{name}_cents"] for name in ("trigger_below", "refill_amount", "monthly_cap")]
    assert (shown["enabled"], amounts) == (False, [700, 3000, 9000])
    assert (await buyer.person.get("/v1/accounts/me")).json()["auto_refill_enabled"] is False
    assert (await buyer.agent.get(SETTINGS)).json()["auto_refill"] == await buyer.settings()


async def test_concurrent_changes_of_different_amounts_all_stay(buyer: Buyer) -> None:
    wanted = {"trigger_below_cents": 700, "refill_amount_cents": 3000, "monthly_cap_cents": 9000}
    urls = buyer.desk.shop.urls
    async with account_locked(urls, buyer.account_id):
        changes = [asyncio.create_task(buyer.set(**{field: value})) for field, value in wanted.items()]
        await waiting_for_locks(urls, len(changes))
    await asyncio.gather(*changes)
    shown = await buyer.settings()
    assert {field: shown[field] for field in wanted} == wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trigger_below_cents", 99),
        ("trigger_below_cents", 0),
        ("trigger_below_cents", -500),
        ("trigger_below_cents", True),
        ("trigger_below_cents", "500"),
        ("trigger_below_cents", 500.5),
        ("trigger_below_cents", [500]),
        ("trigger_below_cents", 10**30),
        ("refill_amount_cents", 499),
        ("refill_amount_cents", 50_001),
        ("refill_amount_cents", MAX_INT64),
        ("monthly_cap_cents", 2499),
        ("monthly_cap_cents", 100_001),
        ("monthly_cap_cents", {}),
    ],
)
async def test_amounts_outside_of_the_bounds_are_400(buyer: Buyer, field: str, value: Any) -> None:
    answer = await buyer.person.post(SETTINGS, json={"enabled": True, field: value})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "refill_out_of_bounds", field)
    assert (await buyer.settings())["enabled"] is False


@pytest.mark.parametrize("body", [{}, {"enabled": None}, {"enabled": "yes"}, {"enabled": 1}, [], {"enabled": "\0"}])
async def test_other_bodies_are_422(buyer: Buyer, body: Any) -> None:
    assert (await buyer.person.post(SETTINGS, json=body)).status_code == 422


async def test_refills_outside_of_new_bounds_can_be_switched_off(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    await buyer.ready()

    async def narrower() -> Refills:
        return Refills(currency="USD", most_amount="20.00")

    monkeypatch.setattr(buyer.desk.shop.app.state.refills, "in_force", narrower)
    shown = await buyer.settings()
    assert (shown["state"], shown["next_attempt_at"]) == ("out_of_bounds", None)
    assert (await buyer.person.post(SETTINGS, json={"enabled": True})).status_code == 400
    assert (await buyer.set(enabled=False))["state"] == "off"
    body = {"enabled": False, "refill_amount_cents": 5000, "monthly_cap_cents": 4999}
    answer = await buyer.person.post(SETTINGS, json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, "monthly_cap_cents")


async def test_user_without_an_account_gets_404(buyer: Buyer) -> None:
    stranger = await buyer.desk.of_token(str(uuid.uuid4()), SPA.client_id)
    for answer in (
        await stranger.get(SETTINGS),
        await stranger.post(SETTINGS, json={"enabled": True}),
        await stranger.get(CARDS),
        await stranger.delete(f"{CARDS}/{uuid.uuid4()}"),
    ):
        assert answer.status_code == 404
        assert "Account" in answer.json()["error"]["message"]


async def test_setting_refills_waits_for_the_end_of_an_upgrade(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: VersionMark, revision: str) -> None:
        raise UpgradeInProgress

    monkeypatch.setattr(VersionMark, "require", refuse)
    for path, body in ((SETTINGS, {"enabled": True}), (CARDS, {"consent": "x"})):
        answer = await buyer.person.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "upgrade_in_progress")
        assert "Retry-After" in answer.headers


async def test_setting_never_writes_a_balance(buyer: Buyer) -> None:
    await buyer.give(1000)
    before = await buyer.balance()
    await asyncio.gather(*(buyer.set(trigger_below_cents=100 + number) for number in range(10)))
    assert await buyer.balance() == before
    entries = await buyer.desk.shop.rows("SELECT 1 FROM ledger_entries WHERE account_id = $1", buyer.account_id)
    assert len(entries) == 1


async def test_transactions_and_payments_name_refills(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.desk.work()
    transactions = (await buyer.person.get("/v1/credits/transactions")).json()["transactions"]
    assert [(one["transaction_type"], one["amount_cents"]) for one in transactions] == [
        ("autorefill", 2500),
        ("usage", -600),
        ("bonus", 1000),
    ]
    assert transactions[0]["description"] == "Automatic refill of 25.00 USD"
    [payment] = (await buyer.person.get("/v1/payments")).json()["payments"]
    assert (payment["description"], payment["status"]) == ("Automatic refill: 25.00 USD of credits", "succeeded")
    history = (await buyer.person.get("/api/billing/history")).json()["transactions"]
    assert history[0]["type"] == "topup"


async def test_admin_sees_sets_and_removes_with_an_audit_entry(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.desk.work()
    base = f"/admin/users/{buyer.account_id}"
    async with await sign_in(buyer.desk.shop, "support") as support:
        shown = (await support.get(f"{base}/refills")).json()
        assert [refill["status"] for refill in shown["refills"]] == ["paid"]
        assert (shown["auto_refill"]["state"], len(shown["cards"])) == ("active", 1)
        body = {**REASON, "enabled": True, "refill_amount_cents": 4000}
        assert (await support.put(f"{base}/auto-refill", json=body)).status_code == 200
        card_id = shown["cards"][0]["card_id"]
        assert (await support.post(f"{base}/cards/{card_id}/remove", json=REASON)).json() == {"removed": True}
        assert (await support.post(f"{base}/cards/{card_id}/remove", json=REASON)).status_code == 404
        out = await support.put(f"{base}/auto-refill", json={**REASON, "enabled": True, "refill_amount_cents": 1})
        assert out.status_code == 400
    entries = await buyer.desk.shop.rows(
        "SELECT action, before::text AS before, after::text AS after, reason FROM admin_audit_log"
        " WHERE target_id = $1 ORDER BY audit_id",
        str(buyer.account_id),
    )
    assert [entry["action"] for entry in entries] == ["account.set_refills", "account.remove_card"]
    assert '"amount": "25.000000"' in entries[0]["before"]
    assert '"amount": "40.000000"' in entries[0]["after"]
    assert {entry["reason"] for entry in entries} == {"a ticket"}


@pytest.mark.parametrize(
    "changes",
    [
        {"least_amount": "50.00", "most_amount": "20.00"},
        {"most_amount": "2000.00"},
        {"currency": "XXX"},
        {"least_trigger": "0"},
        {"cooldown_s": -1},
        {"backoff_s": 59},
        {"consent_text": "too short"},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_bad_bounds_are_refused(buyer: Buyer, changes: dict[str, Any]) -> None:
    async with await sign_in(buyer.desk.shop, "admin") as admin:
        answer = await admin.put(CONFIG, json={"version": 0, "reason": "a test", "currency": "USD", **changes})
    assert answer.status_code == 422, answer.text


async def test_export_has_the_settings_cards_consents_and_refills(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.desk.work()
    async with await sign_in(buyer.desk.shop, "support") as support:
        exported = (await support.get(f"/admin/users/{buyer.account_id}/export")).json()
    assert [len(exported[name]) for name in ("refill_settings", "card_consents", "card_setups")] == [1, 1, 1]
    assert exported["saved_cards"][0]["last4"] == "4242"
    assert exported["refills"][0]["status"] == "paid"
    assert exported["card_consents"][0]["address"] == "192.0.2.7"
