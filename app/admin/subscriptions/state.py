"""The next payment of a subscription, and the grants that each event gave. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.payments.subscription_facts import ENDED
from app.plans.entitlement import ENTITLED, entitled_until
from app.timestamps import FAR_AHEAD

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NextPayment:
    at: datetime
    amount_minor: int | None
    """None: the price is unknown."""
    currency: str | None
    is_retry: bool
    """It is a further attempt to pay an invoice that is due."""


def next_payment(row: Row) -> NextPayment | None:
    """Return the next payment that the provider will take. None: none is planned.

    An invoice that is due comes before the renewal. A subscription that will end by its period's end is not renewed.
    """
    if row["status"] in ENDED:
        return None
    if row["next_attempt_at"] is not None:
        return NextPayment(row["next_attempt_at"], row["due_minor"], row["due_currency"], True)
    end, cancel_at = row["period_end"], row["cancel_at"]
    renews = row["status"] in ENTITLED or row["status"] == "past_due"
    if not renews or end is None or (cancel_at is not None and cancel_at <= end):
        return None
    return NextPayment(end, row["price_minor"], row["currency"], False)


def grace_ends_at(row: Row, grace: timedelta) -> datetime | None:
    """Return the end of the grace period. None: the subscription is not past due."""
    try:
        return entitled_until(row["status"], row["past_due_since"] or row["period_start"], grace)
    except OverflowError:
        return FAR_AHEAD


def is_entitled_at(row: Row, grace: timedelta, now: datetime) -> bool:
    """Return whether the subscription gives its plan at `now`."""
    ends_at = grace_ends_at(row, grace)
    return row["status"] in ENTITLED or (ends_at is not None and now < ends_at)


def given_by_event(events: Sequence[Row], grants: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the grants that each event gave, by event.

    An event and its grants have the same time: that of their transaction. Where several events have it, the event
    about the invoice that paid for the grant gave it; without one, it stays open which did.
    """
    at_once: dict[datetime, list[Row]] = {}
    for event in events:
        if event["outcome"] == "applied":
            at_once.setdefault(event["received_at"], []).append(event)
    given: dict[str, list[Row]] = {}
    for grant in grants:
        found = at_once.get(grant["created_at"], [])
        if len(found) > 1:
            found = [event for event in found if event["object_id"] == grant["invoice_id"]]
        if found:
            given.setdefault(found[0]["event_id"], []).append(grant)
    return given
