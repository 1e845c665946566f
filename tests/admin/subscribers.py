"""Subscribers of an office: plans with prices, and accounts whose subscriptions are in a chosen state.

Stripe's events come in as they do in production, through the inbox, and at the times that the states call for.
"""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from app.accounts.directory import Identity, Opening, Profile
from app.auth.caller import Environment
from app.payments.inbox import receive
from app.payments.stripe_events import parse_event
from app.plans.document import Plan
from app.subscriptions.wiring import subscription_services
from tests.admin.conftest import Office
from tests.conftest import ACTOR
from tests.subscriptions.conftest import SOLD, Customer

PLANS = "/admin/config/plans"
DAY = timedelta(days=1)


async def sell(admin: httpx.AsyncClient, *plans: Plan) -> int:
    """Set the plans, by default those of the tests of subscriptions. Return the version."""
    current = await admin.get(PLANS)
    for _ in range(5):  # the first request of a process prepares all routes, and can exceed its time on a busy machine
        if current.status_code != 503:
            break
        current = await admin.get(PLANS)
    assert current.status_code == 200, current.text
    version = current.json()["version"]
    shipped = [Plan(name="enterprise", title="Enterprise")]
    documents = [plan.model_dump(mode="json") for plan in (*(plans or SOLD), *shipped)]
    answer = await admin.put(PLANS, json={"plans": documents, "version": version, "reason": "prices"})
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["version"]
    return found


async def open_account(office: Office, created_at: datetime, environment: Environment = "live") -> UUID:
    identity = Identity(environment, "oauth:google", f"{uuid.uuid4()}@example.com")
    account_id: UUID
    account_id, _ = await office.app.state.accounts.directory.find_or_create(
        identity, ACTOR, created_at, Opening(), Profile(display_name="A subscriber")
    )
    return account_id


async def deliver(office: Office, now: datetime, *events: dict[str, Any]) -> None:
    """Receive events, each at its time but not before `now`, as the webhook does once a signature was verified."""
    state = office.app.state
    settlement, _ = subscription_services(state.db, state.configuration, state.accounts, state.gateway)
    for number, event in enumerate(events):
        await receive(office.db, "live", parse_event(event), now + timedelta(seconds=number), settlement)


async def subscribe(office: Office, start: datetime, price: str = "price_standard", amount: int = 2000) -> Customer:
    """Return a customer whose first period, of 30 days, is paid. Its account is a day older."""
    one = Customer(await open_account(office, start - DAY))
    period = (start, start + 30 * DAY)
    await deliver(
        office,
        start,
        one.state("created", start, period, price, status="incomplete"),
        one.state("updated", start + timedelta(seconds=2), period, price),
        one.invoice("paid", 1, start + timedelta(seconds=2), one.line(period, price, amount)),
        one.payment(1, start + timedelta(seconds=3)),
    )
    return one


async def miss_payment(office: Office, one: Customer, start: datetime, price: str = "price_standard") -> None:
    """Begin a period whose first payment fails."""
    period = (start, start + 30 * DAY)
    failed = one.invoice("payment_failed", 2, start, one.line(period, price), status="open")
    failed["data"]["object"]["next_payment_attempt"] = int((start + 3 * DAY).timestamp())
    updated = one.state("updated", start + timedelta(seconds=1), period, price, status="past_due", started_at=start)
    await deliver(office, start, failed, updated)


def today() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
