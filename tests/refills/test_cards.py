"""Saved cards: a person consents, Stripe's page saves, and one card pays."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.auth.caller import Environment
from app.payments.stripe_saved_cards import SetupPage, StripeSavedCards
from app.plans.refill_bounds import CONSENT
from app.refills import cards as module
from tests.demo.oidc_server import SPA
from tests.refills.conftest import CARDS, FRONTEND, SETTINGS, Buyer, Refilling
from tests.refills.test_ending import close

MASTERCARD = "pm_card_mastercard"


async def test_card_is_saved_with_the_consent(buyer: Buyer) -> None:
    before = datetime.now(UTC)
    card = await buyer.save_card()
    assert (card["brand"], card["last4"], card["expiry_month"], card["is_primary"]) == ("visa", "4242", 12, True)
    [consent] = await buyer.desk.shop.rows("SELECT * FROM card_consents WHERE account_id = $1", buyer.account_id)
    assert (consent["text"], consent["address"], consent["actor_type"]) == (CONSENT, "192.0.2.7", "user")
    assert before <= consent["given_at"] <= datetime.now(UTC)


@pytest.mark.parametrize("consent", ["I agree", CONSENT.upper(), f"{CONSENT} "])
async def test_other_text_is_no_consent(buyer: Buyer, consent: str) -> None:
    answer = await buyer.person.post(CARDS, json={"consent": consent})
    assert (answer.status_code, answer.json()["code"]) == (422, "consent_required")
    assert await buyer.desk.shop.rows("SELECT 1 FROM card_setups WHERE account_id = $1", buyer.account_id) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE card_consents SET text = 'other' WHERE account_id = $1",
        "UPDATE card_consents SET address = '192.0.2.99' WHERE account_id = $1",
        "UPDATE card_consents SET address = NULL, given_at = now() WHERE account_id = $1",
        "DELETE FROM card_consents WHERE account_id = $1",
    ],
)
async def test_consent_is_append_only(buyer: Buyer, statement: str) -> None:
    await buyer.save_card()
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await buyer.desk.shop.execute(statement, buyer.account_id)


async def test_second_click_gets_the_same_page_and_another_after_an_hour(
    buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = await asyncio.gather(*(buyer.open_page() for _ in range(5)))
    assert len(set(pages)) == 1
    monkeypatch.setattr(module, "REUSED_FOR", timedelta(0))
    assert await buyer.open_page() not in pages


async def test_click_after_a_failure_of_stripe_gets_another_page(buyer: Buyer) -> None:
    await buyer.desk.shop.control("failures", path="/v1/checkout/sessions", times=3, status=500)
    answers = [await buyer.person.post(CARDS, json={"consent": CONSENT}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]


async def test_pages_and_cards_are_bounded(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REUSED_FOR", timedelta(0))
    monkeypatch.setattr(module, "MAX_CARDS", 2)
    await buyer.save_card()
    await buyer.open_page()
    answer = await buyer.person.post(CARDS, json={"consent": CONSENT})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_cards")


async def test_webhook_saves_the_card_once(buyer: Buyer) -> None:
    session_id = await buyer.open_page()
    shop = buyer.desk.shop
    await shop.control(f"checkout_sessions/{session_id}/pay", method="pm_card_visa")
    [event] = [
        event
        for event in await shop.events("checkout.session.completed")
        if event["data"]["object"]["id"] == session_id
    ]
    for _ in range(2):
        await shop.deliver(event)
    assert (await shop.inbox())[event["id"]] == "applied"
    assert await buyer.jobs("save_card") == 1
    await buyer.desk.work()
    [row] = await shop.rows("SELECT setup_id FROM card_setups WHERE account_id = $1", buyer.account_id)
    cards = buyer.desk.services.cards
    assert [await cards.save(buyer.account_id, row["setup_id"], datetime.now(UTC)) for _ in range(2)] == [False, False]
    assert len(await buyer.cards()) == 1


async def test_page_whose_event_is_lost_is_read_by_the_worker(buyer: Buyer) -> None:
    session_id = await buyer.open_page()
    await buyer.desk.shop.control(f"checkout_sessions/{session_id}/pay", method="pm_card_visa")
    cards = buyer.desk.services.cards
    now = datetime.now(UTC)
    await cards.save_stale(now)
    assert await cards.list_of(buyer.account_id, now) == []
    await cards.save_stale(now + module.LOOKED_AT_AFTER + timedelta(seconds=1))
    assert len(await cards.list_of(buyer.account_id, now)) == 1


async def test_page_that_cannot_be_read_does_not_keep_others_waiting(
    own_desk: Refilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    first, second = await own_desk.buyer(), await own_desk.buyer()
    broken, complete = await first.open_page(), await second.open_page()
    await own_desk.shop.control(f"checkout_sessions/{complete}/pay", method="pm_card_visa")
    retrieve = StripeSavedCards.retrieve_page

    async def failing(self: StripeSavedCards, environment: Environment, session_id: str) -> SetupPage:
        if session_id == broken:
            raise ValueError("a page of a new kind")
        return await retrieve(self, environment, session_id)

    monkeypatch.setattr(StripeSavedCards, "retrieve_page", failing)
    later = datetime.now(UTC) + module.LOOKED_AT_AFTER + timedelta(seconds=1)
    cards = own_desk.services.cards
    assert [await cards.save_stale(later) for _ in range(2)] == [0, 1]


async def test_page_that_is_closed_without_a_card_ends(buyer: Buyer) -> None:
    session_id = await buyer.open_page()
    await buyer.desk.shop.control(f"checkout_sessions/{session_id}/expire")
    assert await buyer.cards() == []
    [row] = await buyer.desk.shop.rows("SELECT status FROM card_setups WHERE account_id = $1", buyer.account_id)
    assert row["status"] == "ended"


async def test_parallel_savers_store_one_card(buyer: Buyer) -> None:
    session_id = await buyer.open_page()
    await buyer.desk.shop.control(f"checkout_sessions/{session_id}/pay", method="pm_card_visa")
    found = await asyncio.gather(*(buyer.cards() for _ in range(10)))
    assert {len(cards) for cards in found} <= {0, 1}
    assert len(await buyer.cards()) == 1


async def test_card_of_an_account_that_was_closed_is_removed_again(buyer: Buyer) -> None:
    session_id = await buyer.open_page()
    await buyer.desk.shop.control(f"checkout_sessions/{session_id}/pay", method="pm_card_visa")
    await close(buyer)
    [row] = await buyer.desk.shop.rows("SELECT setup_id FROM card_setups WHERE account_id = $1", buyer.account_id)
    await buyer.desk.services.cards.save(buyer.account_id, row["setup_id"], datetime.now(UTC))
    await buyer.desk.work()
    assert await buyer.desk.services.cards.list_of(buyer.account_id, datetime.now(UTC)) == []


async def test_newest_card_pays_until_another_is_made_primary(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REUSED_FOR", timedelta(0))
    first = await buyer.save_card()
    second = await buyer.save_card(MASTERCARD)
    assert [card["is_primary"] for card in await buyer.cards()] == [True, False]
    answer = await buyer.person.put(f"{CARDS}/{first['card_id']}/primary")
    assert (answer.status_code, answer.json()["is_primary"]) == (200, True)
    assert [card["is_primary"] for card in await buyer.cards()] == [False, True]
    assert (await buyer.settings())["card"]["card_id"] == first["card_id"]
    assert second["brand"] == "mastercard"


async def test_refills_wait_for_a_card(buyer: Buyer) -> None:
    await buyer.give(1000)
    shown = await buyer.set()
    assert (shown["enabled"], shown["state"], shown["card"]) == (True, "waiting_for_card", None)
    await buyer.desk.work()
    await buyer.exhaust()
    await buyer.spend(1)
    assert await buyer.jobs() == 0
    await buyer.save_card()
    await buyer.desk.work()
    assert await buyer.outcomes() == ["paid"]
    card = (await buyer.cards())[0]
    assert (await buyer.person.delete(f"{CARDS}/{card['card_id']}")).json() == {"removed": True}
    assert (await buyer.settings())["state"] == "waiting_for_card"
    await buyer.spend(2800)
    await buyer.desk.work()
    assert await buyer.outcomes() == ["paid"]


async def test_removed_card_is_removed_at_stripe_and_pays_nothing(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.start()
    [card] = await buyer.cards()
    for status in (200, 404):
        answer = await buyer.person.delete(f"{CARDS}/{card['card_id']}")
        assert answer.status_code == status, answer.text
    await buyer.desk.work()
    assert (await buyer.outcomes(), await buyer.intents()) == (["canceled"], [])
    [row] = await buyer.desk.shop.rows("SELECT * FROM saved_cards WHERE account_id = $1", buyer.account_id)
    method = await buyer.desk.shop.stripe("GET", f"payment_methods/{row['provider_method_id']}")
    assert method["customer"] is None
    await buyer.desk.services.cards.detach(buyer.account_id, row["card_id"])  # again, after a crash


async def test_card_of_another_user_does_not_exist(buyer: Buyer) -> None:
    other = await buyer.desk.buyer()
    card = await other.save_card()
    for method, path in (("DELETE", f"{CARDS}/{card['card_id']}"), ("PUT", f"{CARDS}/{card['card_id']}/primary")):
        assert (await buyer.person.request(method, path)).status_code == 404
    assert len(await other.cards()) == 1


# --- persons ---

CHANGES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", SETTINGS, {"enabled": True}),
    ("POST", CARDS, {"consent": CONSENT}),
    ("DELETE", f"{CARDS}/{{card_id}}", None),
    ("PUT", f"{CARDS}/{{card_id}}/primary", None),
    ("DELETE", "/api/billing/payment-methods/{card_id}", None),
    ("PUT", "/api/billing/payment-methods/{card_id}/primary", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES, ids=lambda value: str(value)[:40])
async def test_agents_change_nothing(buyer: Buyer, method: str, path: str, body: dict[str, Any] | None) -> None:
    card = await buyer.save_card()
    path = path.format(card_id=card["card_id"])
    answer = await buyer.agent.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "person_required")
    key = await buyer.desk.spenders["refuse"].request(method, path, json=body)
    assert key.status_code == 401
    assert [one["card_id"] for one in await buyer.cards()] == [card["card_id"]]
    assert (await buyer.settings())["enabled"] is False


async def test_old_sign_in_is_no_person(buyer: Buyer) -> None:
    signed_in = int((datetime.now(UTC) - timedelta(minutes=11)).timestamp())
    client = await buyer.desk.of_token(buyer.user_id, SPA.client_id, auth_time=signed_in)
    assert (await client.post(SETTINGS, json={"enabled": True})).status_code == 403
    assert (await client.get(SETTINGS)).status_code == 200


async def test_pages_of_second_layer_show_and_change_the_same_cards(
    buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REUSED_FOR", timedelta(0))
    first, second = await buyer.save_card(), await buyer.save_card(MASTERCARD)
    path = "/api/billing/payment-methods"
    shown = (await buyer.person.get(path)).json()["paymentMethods"]
    assert [(one["id"], one["cardBrand"], one["cardLast4"], one["isPrimary"]) for one in shown] == [
        (second["card_id"], "mastercard", "4444", True),
        (first["card_id"], "visa", "4242", False),
    ]
    assert (await buyer.person.put(f"{path}/{first['card_id']}/primary")).json()["success"] is True
    assert (await buyer.person.delete(f"{path}/{second['card_id']}")).json()["success"] is True
    assert [card["card_id"] for card in await buyer.cards()] == [first["card_id"]]
    missing = await buyer.person.delete(f"{path}/{second['card_id']}")
    assert (missing.status_code, missing.json()["error"]) == (404, "Not Found")


async def test_return_addresses_are_allowed_ones(buyer: Buyer) -> None:
    body = {"consent": CONSENT, "success_url": "https://evil.example/"}
    answer = await buyer.person.post(CARDS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "return_url_not_allowed")
    body["success_url"] = f"{FRONTEND}/cards"
    assert (await buyer.person.post(CARDS, json=body)).status_code == 200
