"""Facts as Stripe states them, and the rules that merge them: pure values, each bound and each tie."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.payments.facts import Dispute, DisputeStatus, Refund, RefundStatus, merge_dispute, merge_refund
from app.payments.stripe_events import intent_facts, parse_event
from app.payments.stripe_objects import stripe_amount

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
