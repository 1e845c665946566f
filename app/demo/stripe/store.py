"""The objects of one Stripe account, and its event log. No HTTP here."""

import contextlib
import copy
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.demo.stripe.objects import SIMULATED_S, Object, StripeError, now_s, real_now_s

API_VERSION = "2026-10-28.endive"
"""The version that the SDK pins: the shapes of objects and events are this version's."""
SESSION = "checkout.session"
KINDS = (
    "payment_intent",
    "charge",
    "refund",
    "dispute",
    "event",
    "customer",
    "payment_method",
    "setup_intent",
    SESSION,
    "product",
    "price",
    "subscription",
    "invoice",
    "invoice_payment",
    "billing_portal.session",
    "test_helpers.test_clock",
)
PRIVATE = "private"
"""Values that callers do not see, by the id of the object that they belong to."""
REAL_TIME = ("payment_intent", "charge", "refund", "dispute")
"""Objects that Stripe creates in real time, also for a customer with a test clock."""


@dataclass
class BillingSettings:
    """Settings of the account's billing, as on Stripe's dashboard."""

    retry_days: tuple[int, ...] = (3, 5, 7)
    """Days between the attempts to collect an invoice of a renewal."""
    after_retries: Literal["cancel", "unpaid", "past_due"] = "cancel"
    finalize_after_s: int = 3600
    upcoming_days: int = 7


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_urlsafe(18).replace('-', 'x').replace('_', 'y')}"


def differing(before: Object, after: Object) -> Object:
    """Return the values before a change, of the fields that differ; null for a field that did not exist."""
    previous: Object = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            if inside := differing(old, new):
                previous[name] = inside
        elif old != new:
            previous[name] = copy.deepcopy(old)
    return previous


@dataclass(frozen=True)
class AccountConfig:
    """The configuration of an account beside its secret key: for browsers, and for its webhooks."""

    publishable_key: str
    webhook_secret: str
    webhook_url: str | None = None
    webhook_version: str = API_VERSION
    """The API version of the webhooks' shapes. Answers of the API have the SDK's version."""


@dataclass
class Remembered:
    """The answer to an idempotency key; None while the first request is under way."""

    fingerprint: str
    answer: tuple[int, Object] | None = None


@dataclass
class Store:
    config: AccountConfig
    publish: Callable[[Any, Object], None]
    followers: Sequence[Callable[[Any, str, Object], None]] = ()
    """Called with each event's type and subject: they move the objects that depend on the subject."""
    objects: dict[str, dict[str, Object]] = field(default_factory=lambda: {kind: {} for kind in (*KINDS, PRIVATE)})
    remembered: dict[str, Remembered] = field(default_factory=dict)
    undelivered: dict[str, None] = field(default_factory=dict)
    """Ids of events that are not delivered yet, in order; a restart continues with them."""
    _held: list[Object] | None = field(default=None, init=False)
    _leading: Object | None = field(default=None, init=False)
    billing: BillingSettings = field(default_factory=BillingSettings)
    base_url: str = ""
    """The server's own address, as its last caller knows it: for hosted pages and receipts."""

    def find(self, kind: str, object_id: str, param: str = "id") -> Object:
        """Return an object. Raises StripeError: 404 for the id of a path, 400 for one in a parameter."""
        found = self.objects[kind].get(str(object_id))
        if found is None:
            message = f"No such {kind}: '{object_id}'"
            status = 404 if param == "id" else 400
            raise StripeError(status, "invalid_request_error", message, param=param, code="resource_missing")
        return found

    def add(self, kind: str, prefix: str, **fields: object) -> Object:
        created = real_now_s() if kind in REAL_TIME else now_s()
        made: Object = {"id": new_id(prefix), "object": kind, "created": created, "livemode": False, **fields}
        self.objects[kind][made["id"]] = made
        return made

    def private(self, subject: Object) -> Object:
        """Return the values of an object that callers do not see."""
        return self.objects[PRIVATE].setdefault(subject["id"], {})

    def emit(self, kind: str, subject: Object, previous: Object | None = None) -> None:
        """Log an event with a snapshot of its subject, and deliver it, unless its time is simulated.

        `previous`: the values before the change, as `*.updated` events tell them.
        """
        event = self._log(kind, subject, previous)
        if self._held is None:
            self._deliver(event)
        else:
            self._held.append(event)
        for follow in self.followers:
            follow(self, kind, subject)

    def _log(self, kind: str, subject: Object, previous: Object | None = None) -> Object:
        data = {"object": copy.deepcopy(subject)}
        if previous is not None:
            data["previous_attributes"] = previous
        return self.add("event", "evt", type=kind, api_version=API_VERSION, data=data, request=None)

    def _deliver(self, event: Object) -> None:
        if SIMULATED_S.get() is None:
            self.publish(self, event)

    @contextlib.contextmanager
    def led_by(self, kind: str, subject: Object) -> Iterator[None]:
        """Emit an event before those of the block, with the subject as the block leaves it."""
        event = self._log(kind, subject)
        self._leading, self._held = event, []
        try:
            yield
        finally:
            held, self._held, self._leading = [event, *self._held], None, None
            event["data"]["object"] = copy.deepcopy(subject)
            for one in held:
                if one["id"] in self.objects["event"]:
                    self._deliver(one)

    def leads(self, subject: Object) -> bool:
        """Return whether the event of `led_by` is about this object."""
        return self._leading is not None and bool(self._leading["data"]["object"]["id"] == subject["id"])

    def led_by_previous(self, before: Object, after: Object) -> None:
        """Let the event of `led_by` tell the values before the change."""
        if self._leading is not None:
            self._leading["data"]["previous_attributes"] = differing(before, after)

    def drop_led(self) -> None:
        """Forget the events of the block, except those of payments: the rest did not happen."""
        for event in [self._leading, *(self._held or [])]:
            if event is not None and not event["type"].startswith(("payment_intent.", "charge.")):
                del self.objects["event"][event["id"]]

    def change(self, subject: Object, event: str, changed: Object) -> None:
        """Set fields, and emit the event with their previous values, if any of them differs."""
        previous = differing(subject, {**subject, **changed})
        if previous:
            subject |= changed
            self.emit(event, subject, previous)

    def balance(self) -> Object:
        """Return the charges' amounts less refunds; disputes are ignored."""
        amounts: dict[str, int] = {}
        for charge in self.objects["charge"].values():
            held = charge["amount_captured"] - charge["amount_refunded"]
            amounts[charge["currency"]] = amounts.get(charge["currency"], 0) + held
        available = [{"amount": amount, "currency": currency} for currency, amount in sorted(amounts.items())]
        return {"object": "balance", "livemode": False, "available": available, "pending": []}
