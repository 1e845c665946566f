"""The time of a customer: real, or that of a test clock."""

from app.demo.stripe.objects import Object
from app.demo.stripe.store import PRIVATE, Store

CLOCK = "test_helpers.test_clock"


def clock_of(account: Store, customer_id: str | None) -> Object | None:
    """Return the clock that moves a customer: its own, or one that a control route has set."""
    customer = account.objects["customer"].get(customer_id or "", {})
    clock_id = customer.get("test_clock") or account.objects[PRIVATE].get(customer_id or "", {}).get("clock")
    return account.objects[CLOCK].get(clock_id or "")


def time_of(account: Store, customer_id: str | None) -> int | None:
    """Return the time of the customer's test clock in seconds; None: real time."""
    clock = clock_of(account, customer_id)
    return None if clock is None else clock["frozen_time"]
