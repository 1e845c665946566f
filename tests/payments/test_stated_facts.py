"""Facts as Stripe states them, and the rules that merge them: pure values, each bound and each tie."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.payments.facts import (
    Card,
    Dispute,
    DisputeStatus,
    PaymentFacts,
    PurchaseStatus,
    Refund,
    RefundStatus,
    merge_dispute,
    merge_refund,
)
from app.payments.purchase import Purchase
from app.payments.settlement import _merge
from app.payments.stripe_checkout import MAX_REFERENCE_CHARS, session_params
from app.payments.stripe_events import intent_facts, parse_event, session_facts
from app.payments.stripe_objects import card_of, receipt_of, stripe_amount

NOW = datetime(2026, 11, 30, tzinfo=UTC)
REFUND = Refund("re_1", 500, "pending", NOW)


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1])
def test_amounts_fit_64_bits(value: int) -> None:
    assert stripe_amount(value) == value


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, "1", None])
def test_other_amounts_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        stripe_amount(value)


@pytest.mark.parametrize(
    ("known", "said", "status"),
    [
        ("pending", "succeeded", "succeeded"),
        ("succeeded", "pending", "succeeded"),
        ("failed", "succeeded", "failed"),
        ("requires_action", "pending", "requires_action"),
    ],
)
def test_a_refund_keeps_its_latest_status_and_all_that_was_said(
    known: RefundStatus, said: RefundStatus, status: RefundStatus
) -> None:
    first = replace(REFUND, status=known, request_key="k", amount_minor=500)
    second = replace(REFUND, status=said, reason="requested_by_customer", amount_minor=700)
    expected = replace(REFUND, status=status, request_key="k", reason="requested_by_customer", amount_minor=700)
    assert merge_refund(first, second) == merge_refund(second, first) == expected
    assert merge_refund(None, first) == first


@pytest.mark.parametrize(
    ("one", "other", "winner"),
    [
        (("warning", None), ("open", None), "open"),
        (("open", None), ("won", NOW), "won"),
        (("won", NOW), ("lost", NOW + timedelta(seconds=1)), "lost"),
        (("lost", NOW), ("won", NOW + timedelta(seconds=1)), "won"),
        (("won", NOW), ("lost", NOW), "lost"),
        (("lost", None), ("won", NOW), "won"),
        (("open", None), ("lost", None), "lost"),
    ],
)
def test_the_later_decision_about_a_dispute_counts(
    one: tuple[DisputeStatus, datetime | None], other: tuple[DisputeStatus, datetime | None], winner: str
) -> None:
    first, second = Dispute("dp_1", 300, *one), Dispute("dp_1", 200, *other)
    for merged in (merge_dispute(first, second), merge_dispute(second, first)):
        assert (merged.status, merged.amount_minor) == (winner, 300)


@pytest.mark.parametrize(
    ("changes", "failed", "status", "action"),
    [
        ({"status": "requires_payment_method"}, False, "requires_payment_method", None),
        ({"status": "requires_payment_method", "last_payment_error": {"code": "x"}}, False, "failed", None),
        ({"status": "processing", "last_payment_error": {"code": "x"}}, False, "processing", None),
        ({"status": "requires_payment_method"}, True, "failed", None),
        ({"status": "requires_action", "next_action": {"type": "use_stripe_sdk"}}, False, "requires_action", "use_"),
        ({"status": "processing", "next_action": {"type": "use_stripe_sdk"}}, False, "processing", None),
        ({"status": "new one"}, False, "unknown", None),
        ({"status": "succeeded", "amount_received": 500, "currency": "usd"}, False, "succeeded", None),
    ],
)
def test_the_status_of_a_payment(changes: dict[str, Any], failed: bool, status: str, action: str | None) -> None:
    facts = intent_facts({"id": "pi_1", **changes}, at=NOW, failed=failed)
    assert (facts.status, (facts.next_action or "")[:4] or None) == (status, action)
    assert facts.received_minor == changes.get("amount_received")


@pytest.mark.parametrize(("stated", "live"), [(True, True), (False, False), (None, False), ("true", False)])
def test_an_event_is_live_only_if_it_says_so(stated: object, live: bool) -> None:
    event = {"id": "evt_1", "type": "x", "created": 1, "data": {"object": {}}, "livemode": stated}
    assert parse_event(event).livemode is live


PURCHASE = Purchase(
    account_id=UUID(int=1),
    purchase_id=UUID(int=2),
    environment="live",
    pack="standard",
    credits=20,
    amount_minor=500,
    currency="usd",
    caller_kind="key",
    idempotency_key=None,
    provider="stripe",
    status="processing",
    status_at=NOW,
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize(
    ("status", "seconds", "known", "merged"),
    [
        ("requires_action", 1, {}, "requires_action"),
        ("requires_action", 0, {}, "requires_action"),
        ("requires_action", -1, {}, "processing"),
        ("canceled", -1, {}, "canceled"),  # final, whenever it happened
        ("failed", 1, {"status": "canceled"}, "canceled"),
        ("failed", 1, {"received_minor": 500}, "processing"),
    ],
)
def test_the_latest_status_of_a_payment_counts_until_it_is_final(
    status: PurchaseStatus, seconds: int, known: dict[str, Any], merged: str
) -> None:
    facts = PaymentFacts("stripe", "pi_1", NOW + timedelta(seconds=seconds), status=status)
    assert _merge(replace(PURCHASE, **known), facts).status == merged


INTENT = {"id": "pi_1", "status": "succeeded", "amount_received": 2500, "currency": "usd", "metadata": {}}
SESSION = {
    "id": "cs_1",
    "status": "complete",
    "payment_status": "paid",
    "payment_intent": "pi_1",
    "amount_total": 2500,
    "currency": "usd",
    "metadata": {},
}
UNPAID = {**SESSION, "payment_status": "unpaid"}


@pytest.mark.parametrize(
    ("session", "status", "received", "payment_id"),
    [
        (SESSION, "succeeded", 2500, "pi_1"),
        (UNPAID, None, None, "pi_1"),
        ({**UNPAID, "payment_intent": {**INTENT, "status": "processing"}}, "processing", None, "pi_1"),
        ({**UNPAID, "payment_intent": {**INTENT, "status": "requires_payment_method"}}, "canceled", None, "pi_1"),
        ({**UNPAID, "payment_intent": {**INTENT, "status": "canceled"}}, "canceled", None, "pi_1"),
        ({**UNPAID, "status": "expired", "payment_intent": None}, "canceled", None, None),
        ({**UNPAID, "status": "open", "payment_intent": None}, "requires_payment_method", None, None),
        (
            {**UNPAID, "status": "open", "payment_intent": {**INTENT, "status": "requires_payment_method"}},
            "requires_payment_method",
            None,
            "pi_1",
        ),
        ({**SESSION, "payment_intent": INTENT}, "succeeded", 2500, "pi_1"),
    ],
)
def test_session_states_that_it_was_paid_or_that_it_ended(
    session: dict[str, Any], status: str | None, received: int | None, payment_id: str | None
) -> None:
    facts = session_facts(session, at=NOW)
    assert (facts.status, facts.received_minor, facts.provider_payment_id) == (status, received, payment_id)
    assert facts.session_id == "cs_1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://pay.stripe.com/receipts/x", "https://pay.stripe.com/receipts/x"),
        ("javascript:alert(1)", None),
        ("https://x/" + "x" * 2048, None),
        ("https://x/\n", None),
        (1, None),
        (None, None),
    ],
)
def test_receipt_is_an_address_that_a_browser_opens(url: object, expected: str | None) -> None:
    assert receipt_of({"receipt_url": url}) == expected


CARD = {"fingerprint": "fp_1", "brand": "visa", "last4": "4242"}


@pytest.mark.parametrize(
    ("details", "card"),
    [
        (None, None),
        ({}, None),
        ({"type": ""}, None),
        ({"type": "card", "card": CARD}, Card("fp_1", "visa", "4242")),
        ({"type": "card"}, Card(None, "card", None)),
        ({"type": "card", "card": {**CARD, "fingerprint": None}}, Card(None, "visa", "4242")),
        ({"type": "link", "link": CARD}, Card(None, "visa", "4242")),
        ({"type": "card", "card": {"brand": "b", "last4": "4"}}, Card(None, "b", "4")),
        ({"type": "card", "card": {"brand": "b" * 255}}, Card(None, "b" * 255, None)),
        ({"type": "card", "card": {"brand": "b" * 256, "last4": 4242}}, Card(None, "card", None)),
        ({"type": "card", "card": {"brand": "vi\nsa"}}, Card(None, "card", None)),
    ],
)
def test_a_means_of_payment_is_read_as_far_as_it_is_stated(details: object, card: Card | None) -> None:
    assert card_of({"payment_method_details": details}) == card


@pytest.mark.parametrize(
    ("booked", "refunded", "disputed", "is_kept"),
    [
        (False, 0, 0, False),
        (True, 0, 0, True),
        (True, 19, 0, True),
        (True, 10, 9, True),
        (True, 10, 10, False),
        (True, 0, 20, False),
    ],
)
@pytest.mark.parametrize("is_money", [False, True])
def test_a_purchase_is_kept_until_all_of_it_is_taken_back(
    booked: bool, refunded: int, disputed: int, is_kept: bool, is_money: bool
) -> None:
    credit_id = UUID(int=3) if booked else None
    if is_money:
        sold = replace(PURCHASE, unit="USD", credits=0, money_nanos=20, credit_id=credit_id)
        sold = replace(sold, money_refunded_nanos=refunded, money_disputed_nanos=disputed)
    else:
        sold = replace(PURCHASE, credit_id=credit_id, credits_refunded=refunded, credits_disputed=disputed)
    assert sold.is_kept is is_kept


@pytest.mark.parametrize(("percent", "text"), [("0", ""), ("10", ", 10 % off"), ("12.5", ", 12.5 % off")])
def test_the_page_names_the_discount_if_there_is_one(percent: str, text: str) -> None:
    sold = replace(PURCHASE, unit="USD", money_nanos=10**9, discount_percent=Decimal(percent))
    assert sold.discount_text == text


@pytest.mark.parametrize(("length", "is_reference"), [(MAX_REFERENCE_CHARS, True), (MAX_REFERENCE_CHARS + 1, False)])
def test_a_buyer_that_is_too_long_for_a_reference_is_named_by_the_account(length: int, is_reference: bool) -> None:
    buyer = "b" * length
    params = session_params(replace(PURCHASE, unit="USD", money_nanos=10**9, buyer=buyer))
    assert params["client_reference_id"] == (buyer if is_reference else str(PURCHASE.account_id))
    assert params["metadata"]["user_id"] == buyer
